"""Frame in, hands out: the main path. Read this first.

    boxes    where hands are: from the tracks of the last image, and from the detector only when that is not enough
    crops    a virtual camera looks at each hand; left hands are mirrored
    poses    all crops of the frame in one call of the pose network; what is not a hand is dropped
    again    hands that were cropped badly (turned, moved, of another size, mirrored wrongly) get a second, better crop
    lift     joints in metres in the camera's frame
    apart    two answers that are one hand become one, and the hand behind it is looked for past it
    track    identity, side and smoothing over time

The networks are two callables, so that this file runs the same on the robot, in replay, in evaluation and in tests.
State goes in and comes out; nothing is remembered here.
"""
from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Callable, Sequence

import cv2
import numpy as np

from hand_pose_ros import camera as cameras
from hand_pose_ros import crop as crops
from hand_pose_ros import tracking
from hand_pose_ros.errors import FrameError
from hand_pose_ros.lift import confidence, lift
from hand_pose_ros.skeleton import KNUCKLES, WRIST, mano_joints
from hand_pose_ros.tracking import TrackerState
from hand_pose_ros.types import Crop, CropPose, Detection, Frame, Hand, ScaleSource

SURE_SIDE = 0.9
"""A new hand is seen mirrored the other way, too, unless it is as probable as this that its side was guessed right."""
FOLLOWED_CROP = (25.0, 0.15, 1.2)
NEW_CROP = (20.0, 0.1, 1.2)
"""A crop is taken again if its roll (degrees), middle (in box sides) or size was off by more than these. Some of the
new hands are cropped well enough by the detector's box; a look at them again would cost a quarter of the image's
time."""
CANDIDATES = 3
"""New detections that get a look for each free place: the pose network tells hands from other things better than the
detector does, so a false detection must not keep out a hand that the detector thinks less of."""
CANDIDATE_SCORE = 0.15
"""Detector score from which something gets a look at all."""
EVIDENCE_WEIGHTS = (2.6, 0.35, 0.4)
EVIDENCE_NEEDED = 1.47
"""Of the log-odds of ``evidence``, and what they must come to for a new hand to be as likely as not, unless the pose
network's card says otherwise ("evidence_needed"). Near the logistic fit to virtual frames, but trusting the pose
network more: at what the cards ask, 92 % of the hands in such frames pass, and of the detector's other proposals 0.5 %
(of pose_light_224 1.1 %; ``python3 -m hand_pose_ros.training.new_hand_rule``)."""
SAME_BOX_IOU = 0.3
OVERLAPPING_IOU = 0.6
"""A new detection that overlaps a followed hand by the first is that hand, unless another one fits it better; by the
second it is that hand anyway."""
SAME_HAND = 0.2
SAME_HAND_OTHER_SIDE = 0.1
"""Mean joint distance, in hand sizes, below which two poses are one hand; clasped hands are allowed to be closer."""
SAME_PALM = 0.2
"""Mean distance of the palms' joints, likewise, below which a new hand is another reading of a known one, perhaps as
one of the other side, whose fingers lie elsewhere; for a hidden hand, too. Hands that are seen may cross and clasp."""
PAST = 0.15
"""Hand sizes by which a crop is moved off a hand in front, so that the hand behind is more in its middle."""
FOUND_AGAIN = 0.3
FOUND_APART = 0.25
"""Mean joint confidence from which a hand behind another is believed, and how far its joints are from the other's at
least, in hand sizes: half hidden hands get poses that are half the other hand's."""
LONGEST_SIDE = 32766
"""Pixels: cv2.remap and cv2.warpPerspective count them in 16 bits."""
DETECT_HIDDEN_S = 0.1
"""Time between two looks at the whole image while a hand is hidden: it may come out elsewhere."""


@dataclass(frozen=True)
class PipelineState:
    """What one image leaves for the next."""

    tracker: TrackerState = field(default_factory=TrackerState)
    detected_ns: int = 0                            # stamp of the image in which the detector ran last; 0 never


@dataclass(frozen=True)
class Result:
    """What one image showed."""

    hands: tuple[Hand, ...]                         # smoothed over time
    raw: tuple[Hand, ...]                           # the same hands as measured
    detector_ran: bool
    marks_s: dict[str, float]                       # time.monotonic() at the end of detect, pose and lift


@dataclass(frozen=True, eq=False)
class Pipeline:
    """The two networks and what belongs to them. detect and estimate: see detect.Detector and estimate.Estimator."""

    detect: Callable[[np.ndarray, float], Sequence[Detection]]
    estimate: Callable[[Sequence[Crop]], Sequence[CropPose]]
    crop_size: int                                  # pixels, both sides of what the pose network takes
    calibrated_length_m: float | None = None        # hand length of the calibration file, replaces hand_length_m
    evidence_needed: float = EVIDENCE_NEEDED        # of this pose network
    look: Callable[[Frame, Sequence[crops.CropGeometry]], Sequence[CropPose]] | None = None
    """Crops and poses in one step where the network runs; None: crops are made here and go through ``estimate``."""

    def step(self, state: PipelineState, frame: Frame, config) -> tuple[PipelineState, Result]:
        """One image further. config: a config.Config, or anything with its attributes.

        Raises FrameError if the image, its depth and its camera do not belong together; the state is then still good.
        """
        check_frame(frame)
        if config.mirrored_image:
            frame = unmirrored(frame)
        expected = tracking.predict(state.tracker, frame.stamp_ns, config)
        expected = [d for d in expected if usable(d, frame)][:config.max_hands]
        hidden = [d for d in tracking.hidden(state.tracker, frame.stamp_ns) if usable(d, frame)]
        hidden = hidden[:config.max_hands - len(expected)]
        ran = needs_detector(state, len(expected), len(hidden), frame.stamp_ns, config)
        found = self.detect(frame.image, min(CANDIDATE_SCORE, config.detection_threshold)) if ran else []
        new = unfollowed([d for d in found if usable(d, frame)], expected)
        new = new[:CANDIDATES * (config.max_hands - len(expected))]
        marks_s = {"detect": time.monotonic()}

        seen = self.examine(frame, (*expected, *hidden), new, config)
        known, fresh = seen[:len(expected) + len(hidden)], seen[len(expected) + len(hidden):]
        hands = self._told_apart(frame, (*expected, *hidden), known, len(expected), config)
        marks_s["pose"] = time.monotonic()

        fresh = [(self.new_hand_probability(look.detection, look.pose), look) for look in fresh]
        fresh.sort(key=lambda pair: -pair[0])
        for p, look in fresh:
            # One that would not be followed in the next image would be new in every other, and surely there.
            if p >= config.detection_threshold and look.pose.presence >= config.presence_threshold:
                hand = replace(self._lift(look, frame, config), score=p)
                hands += [] if any(_palms_apart(hand, other) < SAME_PALM for other in hands) else [hand]
        hands = without_duplicates(hands)[:config.max_hands]
        tracker, filtered, raw = tracking.step(state.tracker, tuple(hands), frame.stamp_ns, config)
        if config.mirrored_image:
            filtered, raw = (tuple(mirrored_pixels(h, frame.camera.width) for h in hs) for hs in (filtered, raw))
        marks_s["lift"] = time.monotonic()
        return PipelineState(tracker, frame.stamp_ns if ran else state.detected_ns), Result(filtered, raw, ran, marks_s)

    def new_hand_probability(self, detection: Detection, pose: CropPose) -> float:
        """Probability 0..1 that what the detector proposes is a hand: a logistic regression on ``evidence``."""
        return float(1.0 / (1.0 + np.exp(self.evidence_needed - evidence(detection, pose) @ EVIDENCE_WEIGHTS)))

    def examine(self, frame: Frame, followed: Sequence[Detection], new: Sequence[Detection], config) -> list[Look]:
        """One look at each detection, followed ones first, and a second, better one where that is needed."""
        seen = self._look(frame, [(d, _is_left(d)) for d in (*followed, *new)])
        return self._look_again(frame, seen, len(followed), config)

    def estimate_in_box(self, frame: Frame, box: np.ndarray, config) -> Hand:
        """The hand in a given box (4,) px, side and roll unknown: for evaluation of the pose network alone.

        Tries four rolls and both sides, then improves the roll of the better side twice; the box stays as given.
        Always answers with its best guess, whatever its presence. Raises FrameError if the box cannot be looked at.
        """
        check_frame(frame)
        box = np.asarray(box, np.float64)
        if config.mirrored_image:
            frame, box = unmirrored(frame), _mirrored_box(box, frame.camera.width)

        def turned(up):
            return Detection(box, 1.0, np.nan, np.asarray(up, np.float64))

        first = self._look(frame, [(turned(up), mirrored) for mirrored in (False, True)
                                   for up in ((0, -1), (1, 0), (0, 1), (-1, 0))])
        best = [max(first[:4], key=_belief), max(first[4:], key=_belief)]
        for _ in range(2):
            again = self._look(frame, [(turned(look.refined(frame.camera).up), look.crop.mirrored) for look in best])
            best = [max(pair, key=_belief) for pair in zip(best, again)]
            best = [max(best, key=_belief)]
        hand = self._lift(best[0], frame, config)
        return mirrored_pixels(hand, frame.camera.width) if config.mirrored_image else hand

    def _look(self, frame: Frame, wanted: Sequence[tuple[Detection, bool]]) -> list[Look]:
        """Crop and pose of each (detection, mirrored), in one call of the network."""
        if self.look is not None:
            taken = [crops.plan(frame.camera, detection, self.crop_size, mirrored) for detection, mirrored in wanted]
            poses = self.look(frame, taken)
        else:
            taken = [crops.take(frame, detection, self.crop_size, mirrored) for detection, mirrored in wanted]
            poses = self.estimate(taken) if taken else []
        return [Look(d, crop, pose) for (d, _), crop, pose in zip(wanted, taken, poses)]

    def _look_again(self, frame: Frame, seen: list[Look], followed: int, config) -> list[Look]:
        """The same, with a second look at those whose first crop was not what the joints in it ask for.

        The first ``followed`` come from tracks, the others from the detector.
        """
        again = {}
        for k, look in enumerate(seen):
            if look.pose.presence < 0.5 * config.presence_threshold or not np.isfinite(look.pose.uv).all():
                continue
            try:
                better = look.refined(frame.camera)
            except FrameError:                          # no joint lies on the lens
                continue
            if k < followed:
                other_side, allowed = look.pose.right_probability < 0.5, FOLLOWED_CROP
            else:
                other_side, allowed = side_probability(look) < SURE_SIDE, NEW_CROP
            if (other_side or _differs(look.detection, better, allowed)) and usable(better, frame):
                again[k] = (better, look.crop.mirrored != other_side)
        for k, look in zip(again, self._look(frame, list(again.values()))):
            believed = _belief if k < followed else _belief_of_new
            if look.crop.mirrored == seen[k].crop.mirrored or believed(look) > believed(seen[k]):
                seen[k] = look
        return seen

    def _told_apart(self, frame: Frame, wanted: Sequence[Detection], looks: Sequence[Look], followed: int, config
                    ) -> list[Hand]:
        """The hands that the looks for known ones show, each once. wanted: where the tracks expected them; the first
        ``followed`` were seen in the last image, the others are hidden.

        Where hands overlap, the network often answers with the one in front twice. That answer belongs to the track
        that it fits best; for the other a crop is taken past the hand in front. What this shows is believed only if
        it cannot be the hand in front again; else that hand is not seen in this image.
        """
        claims = []
        for k, (detection, look) in enumerate(zip(wanted, looks)):
            if look.pose.presence >= config.presence_threshold and np.isfinite(look.pose.uv).all():
                hand = self._lift(look, frame, config)
                claims.append((k >= followed, _misfit(detection, hand), detection, hand))
        hands: list[Hand] = []
        for was_hidden, _, detection, hand in sorted(claims, key=lambda claim: claim[:2]):
            front = next((other for other in hands if _same_hand(hand, other)), None)
            if front is not None:
                hand = self._look_past(frame, detection, front, config)
            if was_hidden and hand is not None and any(_palms_apart(hand, other) < SAME_PALM for other in hands):
                continue                                # found again where another track has taken its place
            if hand is not None and (front is None and not was_hidden or _found_again(detection, hand, hands)):
                hands.append(hand)
        return hands

    def _look_past(self, frame: Frame, detection: Detection, front: Hand, config) -> Hand | None:
        """What a crop shows that is moved off the hand in front; None if it shows no hand."""
        away = _middle(detection.box) - _middle(front.box)
        distance = np.linalg.norm(away)
        shift = PAST * np.max(detection.box[2:] - detection.box[:2]) * away / distance if distance > 1e-6 else away
        past = replace(detection, box=detection.box + np.tile(shift, 2))
        if not usable(past, frame):
            return None
        look = self._look(frame, [(past, _is_left(past))])[0]
        if look.pose.presence < config.presence_threshold or not np.isfinite(look.pose.uv).all():
            return None
        return self._lift(look, frame, config)

    def _lift(self, look: Look, frame: Frame, config) -> Hand:
        length, source = config.hand_length_m, ScaleSource.ASSUMED
        if self.calibrated_length_m is not None:
            length, source = self.calibrated_length_m, ScaleSource.CALIBRATED_HAND
        return lift(look.crop, look.pose, frame.camera, length, source, frame.depth if config.use_depth else None,
                    config.metric_without_calibration)


@dataclass(frozen=True, eq=False)
class Look:
    """One crop with what the network said of it."""

    detection: Detection                            # what the crop was taken for
    crop: Crop | crops.CropGeometry
    pose: CropPose

    def refined(self, camera) -> Detection:
        """The detection that the joints ask for, MANO's as the networks learnt them."""
        px = crops.crop_to_image(self.crop, camera, mano_joints(self.pose.uv))
        return crops.from_joints(px, self.detection.score, self.detection.right_probability)


def load(config, live: bool = False, report: Callable[[str], None] | None = None) -> Pipeline:
    """The pipeline with the networks and the calibration that the config names. Raises ModelError or ConfigError.

    live: networks may change over to a faster runtime while they serve (``runtimes.Options.live``). report: told in
    one line what is being built, which can take minutes."""
    from hand_pose_ros import calibration, detect, estimate, models, runtimes

    options = runtimes.Options(live=live, **({"report": report} if report else {}))
    detector = runtimes.load("detector", config.detector_model, config.runtime, options)
    pose = runtimes.load_pose(config.pose_model, config.runtime, options)
    length = calibration.load(config.hand_calibration_file).hand_length_m if config.hand_calibration_file else None
    dense, look = runtimes.looks(detector, pose)
    return Pipeline(detect.Detector(detector, detector.source.input_shape[:2], dense), estimate.Estimator(pose),
                    pose.source.input_shape[0], length,
                    models.card(pose.source.model).get("evidence_needed", EVIDENCE_NEEDED), look)


def evidence(detection: Detection, pose: CropPose) -> np.ndarray:
    """(3,) log-odds of the detector's score, of the pose network's presence and its mean joint confidence: a face may
    look like a hand to the detector and have a presence, but its joints are not clearly anywhere."""
    p = np.clip([detection.score, pose.presence, confidence(pose).mean()], 1e-4, 1 - 1e-4).astype(np.float64)
    return np.log(p / (1 - p))


def needs_detector(state: PipelineState, followed: int, hidden: int, stamp_ns: int, config) -> bool:
    """No hand is followed; or there is room for another, and one was just lost or the last look is long ago.

    With stamp 0 there is no telling how long ago; then it is long ago. While hands are hidden, DETECT_HIDDEN_S is."""
    if followed == 0 or followed >= config.max_hands:
        return followed == 0
    since_s = (stamp_ns - state.detected_ns) * 1e-9
    every_s = min(config.detect_every_s, DETECT_HIDDEN_S) if hidden else config.detect_every_s
    return not stamp_ns or tracking.any_lost(state.tracker, stamp_ns) or not 0 <= since_s < every_s


def check_frame(frame: Frame) -> None:
    """Raises FrameError unless image, depth and camera are what types.Frame says and of one size."""
    image, camera, depth = frame.image, frame.camera, frame.depth
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise FrameError(f"the image is {getattr(image, 'dtype', type(image).__name__)} "
                         f"{getattr(image, 'shape', '')}; it must be uint8 RGB of shape (height, width, 3)")
    if image.shape[:2] != (camera.height, camera.width):
        raise FrameError(f"the image has {image.shape[1]} x {image.shape[0]} pixels, its camera {camera.width} x "
                         f"{camera.height}: make the camera with camera.from_camera_info and the image's size")
    if max(image.shape[:2]) > LONGEST_SIDE:
        raise FrameError(f"the image has {image.shape[1]} x {image.shape[0]} pixels; OpenCV samples crops of at most "
                         f"{LONGEST_SIDE} a side: make it smaller, or cut it into parts")
    if depth is not None and depth.shape != image.shape[:2]:
        raise FrameError(f"the depth image has shape {depth.shape}, the image {image.shape[:2]}: use the depth image "
                         "that is registered to the colour image (aligned_depth_to_color)")


def usable(detection: Detection, frame: Frame) -> bool:
    """Whether a crop can be taken: the middle of the box is in the image and, with what is round it, on the lens, and
    the box has a size worth looking at."""
    box = detection.box
    if not np.all(np.isfinite(box)) or max(box[2] - box[0], box[3] - box[1]) < 4:
        return False
    centre = 0.5 * (box[:2] + box[2:])
    inside = np.all(centre >= -0.5) and np.all(centre <= (frame.camera.width - 0.5, frame.camera.height - 0.5))
    if not inside or cameras.is_pinhole(frame.camera):
        return bool(inside)
    up = detection.up if np.isfinite(detection.up).all() and detection.up.any() else np.array([0.0, -1.0])
    step, half = up / np.linalg.norm(up), crops.NEAREST * 0.5 * np.maximum(box[2:] - box[:2], 2.0)
    needed = centre + [(0, 0), step, -step, (half[0], 0), (-half[0], 0), (0, half[1]), (0, -half[1])]
    return bool(np.isfinite(cameras.unproject(frame.camera, needed)).all())


def unfollowed(found: Sequence[Detection], expected: Sequence[Detection]) -> list[Detection]:
    """The new detections that are not a followed hand: each followed hand takes the one that fits it best, and all
    that hardly differ from its box. What only overlaps it may be a second hand in front of it or behind it."""
    overlaps = np.array([[_iou(d.box, e.box) for e in expected] for d in found]).reshape(len(found), len(expected))
    taken = (overlaps >= OVERLAPPING_IOU).any(1)
    for column in overlaps.T:
        if len(column) and column.max() >= SAME_BOX_IOU:
            taken[column.argmax()] = True
    return [d for d, is_taken in zip(found, taken) if not is_taken]


def without_duplicates(hands: Sequence[Hand]) -> list[Hand]:
    """The hands, earlier ones first, without those that are another pose of an earlier, at least as credible one."""
    order = sorted(range(len(hands)), key=lambda k: -round(hands[k].score * hands[k].confidence.mean(), 2))
    kept: list[int] = []
    for k in order:
        if not any(_same_hand(hands[k], hands[j]) for j in kept):
            kept.append(k)
    return [hands[k] for k in sorted(kept)]


def unmirrored(frame: Frame) -> Frame:
    """The frame as the camera saw it before its image was mirrored; the calibration is that of the camera."""
    depth = None if frame.depth is None else np.ascontiguousarray(frame.depth[:, ::-1])
    return replace(frame, image=cv2.flip(frame.image, 1), depth=depth)


def mirrored_pixels(hand: Hand, width: int) -> Hand:
    """The hand with its pixels in the mirrored image; metres and side stay those of the real world."""
    flipped = np.stack([width - 1 - hand.joints_px[:, 0], hand.joints_px[:, 1]], -1)
    return replace(hand, joints_px=flipped, box=_mirrored_box(hand.box, width))


def _mirrored_box(box: np.ndarray, width: int) -> np.ndarray:
    x0, y0, x1, y1 = box
    return np.array([width - 1 - x1, y0, width - 1 - x0, y1])


def _is_left(detection: Detection) -> bool:
    return bool(detection.right_probability < 0.5)      # NaN: taken for a right hand, the pose network will tell


def side_probability(look: Look) -> float:
    """Probability that the crop was mirrored the right way, 0..1: the detector's guess, which sees whose arm it is,
    times what the pose network makes of the crop (Bayes' rule; neither knows of the other)."""
    p = look.detection.right_probability
    before = 0.5 if np.isnan(p) else 1 - p if look.crop.mirrored else p
    right, wrong = look.pose.right_probability * before, (1 - look.pose.right_probability) * (1 - before)
    return float(right / max(right + wrong, 1e-9))


def _belief_of_new(look: Look) -> float:
    return side_probability(look) * float(confidence(look.pose).mean())


def _belief(look: Look) -> float:
    """How far a look is to be believed: a hand, mirrored the right way, with its joints clearly placed."""
    return float(look.pose.right_probability * confidence(look.pose).mean())


def _differs(before: Detection, after: Detection, allowed: tuple[float, float, float]) -> bool:
    """Whether a crop of ``before`` is not good enough for a hand that lies where ``after`` says: FOLLOWED_CROP."""
    turned_deg, moved, grown = allowed
    size_before, size = (float(np.max(d.box[2:] - d.box[:2])) for d in (before, after))
    shift = np.linalg.norm((before.box[:2] + before.box[2:] - after.box[:2] - after.box[2:]) / 2)
    told = np.isfinite(after.up).all()                  # else it points at the camera: no crop is turned better
    turned = told and not before.up @ after.up >= np.cos(np.deg2rad(turned_deg))                # also if NaN before
    return bool(turned or shift > moved * size or not 1 / grown < size / max(size_before, 1e-6) < grown)


def _same_hand(a: Hand, b: Hand) -> bool:
    return _apart(a, b) < (SAME_HAND if a.is_right == b.is_right else SAME_HAND_OTHER_SIDE)


def _apart(a: Hand, b: Hand) -> float:
    """Mean distance of the joints of two hands in the image, in sizes of the smaller one."""
    size = min(np.max(a.box[2:] - a.box[:2]), np.max(b.box[2:] - b.box[:2]))
    return float(np.nanmean(np.linalg.norm(a.joints_px - b.joints_px, axis=-1)) / max(size, 1e-6))


def _palms_apart(a: Hand, b: Hand) -> float:
    """Mean distance of wrists and knuckles in the image, in sizes of the smaller hand; of the knuckles' two orders the
    one that fits better: readings of one hand as a right and as a left one have them the other way round."""
    size = min(np.max(a.box[2:] - a.box[:2]), np.max(b.box[2:] - b.box[:2]))
    one = a.joints_px[[WRIST, *KNUCKLES]]
    others = (b.joints_px[[WRIST, *order]] for order in (KNUCKLES, KNUCKLES[::-1]))
    return float(min(np.linalg.norm(one - other, axis=-1).mean() for other in others) / max(size, 1e-6))


def _misfit(detection: Detection, hand: Hand) -> float:
    """How badly an answer fits the track that it was looked for, in hand sizes: its box and its side."""
    size = max(np.max(detection.box[2:] - detection.box[:2]), 1e-6)
    return float(np.abs(hand.box - detection.box).mean() / size + tracking.SIDE_WEIGHT * _other_side(detection, hand))


def _other_side(detection: Detection, hand: Hand) -> float:
    """0 that the hand is of the side of its track, 1 that it is of the other; 0 if unknown."""
    return float(np.nan_to_num(abs(detection.right_probability - hand.right_probability)))


def _found_again(detection: Detection, hand: Hand, others: Sequence[Hand]) -> bool:
    """Whether an answer can be believed to be the hand that was looked for behind one of the others."""
    return bool(_other_side(detection, hand) < 0.5 and hand.confidence.mean() >= FOUND_AGAIN
                and all(_apart(hand, other) >= FOUND_APART for other in others))


def _middle(box: np.ndarray) -> np.ndarray:
    return 0.5 * (box[:2] + box[2:])


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    common = sides.prod()
    return float(common / max((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common, 1e-9))
