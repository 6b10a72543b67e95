"""Moving hands before a fixed, calibrated camera with lens distortion: video and bags with exact ground truth."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hand_pose_ros import bags, camera as camera_model, frames
from hand_pose_ros.errors import ConfigError
from hand_pose_ros.messages import ArrayInfo
from hand_pose_ros.skeleton import joint_centres
from hand_pose_ros.synthesis import backgrounds, environment, labels, materials, motions, scene, sensor
from hand_pose_ros.synthesis.lens import Lens
from hand_pose_ros.synthesis.renderer import Raster, Renderer, View
from hand_pose_ros.types import Camera, Frame, Hand, JointState, ScaleSource

DEFAULT_CAMERA = Camera(640, 480, np.array([[525.0, 0.0, 318.7], [0.0, 526.1, 242.3], [0.0, 0.0, 1.0]]), "plumb_bob",
                        np.array([0.055, -0.12, 0.0006, -0.0004, 0.03]))
"""Of the kind and distortion of common RGB-D cameras."""
MOUNT_HEIGHT_M = 1.2
TOPICS = {"image": "/camera/color/image_raw", "compressed": "/camera/color/image_raw/compressed",
          "info": "/camera/color/camera_info", "depth": "/camera/aligned_depth_to_color/image_raw",
          "truth": "/ground_truth/hands"}
HOLD_S = 0.5
"""A motion that is shorter than the wanted time stays at its far end for twice so long, goes back, and begins anew."""


class Stage:
    """A renderer of pictures of one camera with its lens."""

    def __init__(self, camera: Camera):
        scene.check_size(camera.width, camera.height)
        self.camera, self.lens = camera, Lens(camera)
        self.renderer: Renderer = scene.make_renderer(*self.lens.size)

    def close(self) -> None:
        """Give back the renderer's memory."""
        self.renderer.release()

    def draw(self, view: View) -> Raster:
        """The view through the lens."""
        return self.lens.bend_raster(self.renderer.render(view))


def render_sequence(motion: motions.Motion, camera: Camera = DEFAULT_CAMERA, fps: float = 30.0,
                    duration_s: float | None = None, seed: int = 0, start_ns: int = 0,
                    stage: Stage | None = None) -> Iterator[tuple[Frame, tuple[Hand, ...]]]:
    """Film a motion. Yields (Frame with depth, its true hands) ``fps`` times a second; a short motion goes to and fro.

    Persons, clothes, light, background and camera settings depend on ``seed`` only and stay the same over the sequence.
    stage: reuse one for several motions with the same camera. Raises ConfigError for an impossible rate or camera.
    """
    if not (fps > 0 and (duration_s is None or duration_s > 0)):
        raise ConfigError(f"fps {fps} and duration {duration_s} must be above 0")
    rng = np.random.default_rng([seed, 77])
    R_world_camera = world_rotation()
    lighting = environment.sample(rng, R_world_camera)
    background, _ = backgrounds.sample(rng, camera.width, camera.height, np.asarray(camera.K), lighting, 1.5, None,
                                       str(rng.choice(["room", "view", "wall"], p=[0.6, 0.2, 0.2])))
    background = background * np.float32(0.6 * lighting.sh[0].mean() + 0.4)
    settings = sensor.sample_frame(rng, 60.0)
    settings.update(resolution=1.0, motion_px=0.0, jpeg=0, shot=min(settings["shot"], 2e-4),
                    read=min(settings["read"], 3e-3))
    look = materials.sample_skin(rng)[0]
    owner = scene.sample_owner(rng)
    period = motion.duration_s + HOLD_S
    total = duration_s if duration_s is not None else period
    with contextlib.ExitStack() as made:
        stage = stage or made.enter_context(contextlib.closing(Stage(camera)))
        for k in range(int(round(total * fps))):
            at = k / fps
            yield _frame(stage, motion.at(to_and_fro(at, period)), lighting, background, settings, look, owner, seed, k,
                         start_ns + int(round(at * 1e9)))


def to_and_fro(at_s: float, period_s: float) -> float:
    """Time within a motion of ``period_s`` that runs forwards and backwards by turns: it need not end where it begins,
    and no hand jumps."""
    phase = at_s % (2 * period_s)
    return phase if phase <= period_s else 2 * period_s - phase


def _frame(stage, moving, lighting, background, settings, look, owner, seed, index, stamp_ns):
    camera = stage.camera
    skins, solids, capsules, placed = (), (), np.zeros((0, 7)), []
    for number, hand in enumerate(moving):
        clothes = np.random.default_rng([seed, 78, number])        # the same every frame
        arm = scene.sample_arm(clothes, look, hand.pose, owner=owner)
        R = hand.R_camera_hand @ np.diag([1.0 if hand.is_right else -1.0, 1.0, 1.0])
        parts = scene.place(arm, R, hand.t_camera_hand, number)
        skins, solids, capsules = skins + parts[0], solids + parts[1], np.vstack([capsules, parts[2]])
        placed.append(parts[3])
    raster = stage.draw(View(stage.lens.K, lighting, skins, solids, capsules))
    linear = raster.color + (1 - raster.alpha[..., None]) * background
    image = sensor.develop(linear, settings, np.random.default_rng([seed, 79, index]), raster.alpha,
                           raster.alpha > 0.5)
    depth = np.where(raster.depth > 0, raster.depth, np.nan).astype(np.float32)
    frame = Frame(image, camera, stamp_ns, depth)
    return frame, tuple(true_hand(camera, raster, hand, number) for number, hand in enumerate(placed))


def true_hand(camera: Camera, raster: Raster, hand: scene.PlacedHand, number: int) -> Hand:
    """Ground truth of one rendered hand as the pipeline would report it: joints as they are published, no uncertainty,
    track id ``number`` + 1."""
    joints = joint_centres(hand.joints_m)
    px = camera_model.project(camera, joints)
    state = labels.joint_states(raster, hand.joints_m, camera_model.project(camera, hand.joints_m), number,
                                hand.hand_length_m)
    inside = (px >= -0.5).all(1) & (px < np.array([camera.width, camera.height]) - 0.5).all(1)
    state[inside & (state == JointState.OUTSIDE_IMAGE)] = JointState.UNKNOWN        # only the label's joint is outside
    state[~inside] = JointState.OUTSIDE_IMAGE
    box = np.array([*np.nanmin(px, axis=0), *np.nanmax(px, axis=0)])
    return Hand(1.0, float(hand.is_right), box, px, joints, joints - joints[0], np.ones(21), state,
                np.zeros(21), np.zeros(21), hand.hand_length_m, ScaleSource.CALIBRATED_HAND, number + 1)


def world_rotation() -> np.ndarray:
    """R_world_camera (3, 3) of the level camera: world z up, the camera looks along world y."""
    return np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])


def write_bag(path: Path, motion_name: str, camera: Camera = DEFAULT_CAMERA, fps: float = 30.0,
              duration_s: float = 10.0, seed: int = 0, start_ns: int = 1_700_000_000_000_000_000,
              compressed_only: bool = False, report=None) -> int:
    """Film a motion into a bag: image, compressed image, calibration, depth, TF of the camera and the true hands.

    compressed_only leaves out raw images and depth and compresses harder: 20 KB instead of 1.6 MB a frame at 640x480.
    Returns the number of frames. Raises ConfigError for an unknown motion, DataError if the bag cannot be written.
    """
    if seed < 0 or not duration_s * fps >= 1 or not np.isfinite(duration_s * fps):
        raise ConfigError(f"{duration_s} s at {fps} pictures a second are no picture at all, or seed {seed} is below 0")
    motion = motions.make(motion_name, np.random.default_rng([seed, 76]))
    count = 0
    with contextlib.closing(Stage(camera)) as stage, bags.BagWriter(path) as bag:
        rotation = frames.quaternion(world_rotation())
        bag.transform(start_ns, "world", camera.frame_id, (0.0, 0.0, MOUNT_HEIGHT_M), rotation, static=True)
        for frame, hands in render_sequence(motion, camera, fps, duration_s, seed, start_ns, stage):
            if not compressed_only:
                bag.image(TOPICS["image"], frame.stamp_ns, camera.frame_id, frame.image)
                bag.depth(TOPICS["depth"], frame.stamp_ns, camera.frame_id, frame.depth)
            bag.compressed_image(TOPICS["compressed"], frame.stamp_ns, camera.frame_id, frame.image, "jpeg",
                                 70 if compressed_only else 90)
            bag.camera_info(TOPICS["info"], frame.stamp_ns, camera)
            bag.hands(TOPICS["truth"], frame.stamp_ns, camera.frame_id, hands, ArrayInfo(metric=True))
            count += 1
            if report:
                report(count)
    return count
