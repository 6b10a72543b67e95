"""The crop on the device equals the crop on the CPU: same virtual camera, same averaging, same black outside."""
from __future__ import annotations

import numpy as np
import pytest
import standin

from hand_pose_ros import camera as cameras
from hand_pose_ros import crop as crops
from hand_pose_ros import config, detect, estimate, pipeline, runtimes
from hand_pose_ros.errors import FrameError
from hand_pose_ros.runtimes import Options, eager, gpu_frame
from hand_pose_ros.runtimes.gpu_frame import DeviceDense, DeviceFrame, DeviceLook, Uploaded
from hand_pose_ros.skeleton import joint_centres
from hand_pose_ros.types import Camera, Detection, Frame

K = np.array([[600.0, 0, 330.0], [0, 610.0, 236.0], [0, 0, 1]])
CAMERAS = {
    "pinhole": Camera(640, 480, K),
    "plumb_bob": Camera(640, 480, K, "plumb_bob", np.array([-0.28, 0.09, 0.001, -0.002, 0.0])),
    "rational": Camera(640, 480, K, "rational_polynomial", np.array([0.3, -0.1, 0.001, 0.0, 0.02, 0.4, -0.1, 0.01])),
    "fisheye": Camera(640, 480, np.array([[300.0, 0, 330], [0, 305, 236], [0, 0, 1]]), "equidistant",
                      np.array([0.05, -0.01, 0.002, 0.0])),
}


def smooth_picture(height: int = 480, width: int = 640) -> np.ndarray:
    """Waves of 30 pixels: OpenCV's sampling in steps of 1/32 pixel then costs under two grey levels."""
    y, x = np.mgrid[:height, :width].astype(float)
    waves = [np.sin(x / 11 + y / 23), np.cos(x / 17 - y / 13), np.sin((x + y) / 19)]
    return np.uint8(127.5 + 110 * np.stack(waves, -1))


def detection(x: float, y: float, side: float, up=(0.0, -1.0)) -> Detection:
    box = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2])
    return Detection(box, 1.0, 1.0, np.array(up) / np.linalg.norm(up))


PLACES = {
    "middle": detection(320, 240, 120),
    "rolled": detection(250, 300, 90, (0.6, 0.8)),
    "beyond the corner": detection(20, 10, 150, (-1.0, -0.3)),
    "right edge": detection(630, 470, 130),
    "large, averaged": detection(330, 230, 400, (0.2, -1.0)),
}


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("lens", CAMERAS)
def test_equals_the_crop_on_the_cpu(lens, place, mirrored):
    frame = Frame(smooth_picture(), CAMERAS[lens], 0)
    size = 96 if "averaged" in place else 160
    geometry = crops.plan(frame.camera, PLACES[place], size, mirrored)
    expected = crops.sample(frame.image, frame.camera, geometry).astype(int)
    on_device = DeviceFrame(frame.image, "cpu").crops(frame.camera, [geometry]).numpy()[0].astype(int)
    assert on_device.shape == expected.shape and expected.max() > 100
    difference = np.abs(on_device - expected)
    edge = (np.minimum(on_device, expected) < 5)            # the rim of the image falls from full to black in one pixel
    assert difference.mean() < 0.6
    assert np.quantile(difference[~edge], 0.999) <= 3


def test_large_hands_are_averaged():
    geometry = crops.plan(CAMERAS["pinhole"], PLACES["large, averaged"], 96)
    assert crops.averaging_factor(CAMERAS["pinhole"], geometry) >= 2


def test_several_hands_from_one_frame_are_in_order():
    frame, camera = smooth_picture(), CAMERAS["plumb_bob"]
    geometries = [crops.plan(camera, PLACES[place], 64) for place in ("middle", "rolled", "right edge")]
    together = DeviceFrame(frame, "cpu").crops(camera, geometries)
    assert together.shape == (3, 64, 64, 3)
    for one, geometry in zip(together, geometries):
        np.testing.assert_array_equal(one, DeviceFrame(frame, "cpu").crops(camera, [geometry])[0])


def test_a_marked_pixel_is_found_where_the_camera_model_says():
    """Outside truth: a bright dot in the frame lies in the crop where image_to_crop puts it."""
    camera = CAMERAS["plumb_bob"]
    frame = np.zeros((480, 640, 3), np.uint8)
    frame[298:303, 258:263] = 255                           # centre (260, 300)
    geometry = crops.plan(camera, PLACES["rolled"], 160)
    crop = DeviceFrame(frame, "cpu").crops(camera, [geometry])[0, ..., 0].numpy().astype(float)
    rows, columns = np.mgrid[:160, :160]
    found = np.array([(crop * columns).sum(), (crop * rows).sum()]) / crop.sum()
    np.testing.assert_allclose(found, crops.image_to_crop(geometry, camera, np.array([260.0, 300.0])), atol=0.1)


def test_behind_the_camera_is_black():
    camera = cameras.assumed(640, 480, 60.0)
    geometry = crops.plan(camera, PLACES["middle"], 32)
    turned = crops.CropGeometry(32, geometry.K, geometry.R_camera_crop @ np.diag([-1.0, 1.0, -1.0]), False)
    assert not DeviceFrame(smooth_picture(), "cpu").crops(camera, [turned]).any()


@pytest.mark.parametrize("shape, size", [((480, 640), (256, 320)), ((480, 640), (192, 192)), ((1080, 620), (256, 320)),
                                         ((120, 160), (256, 320)), ((200, 320), (256, 320)),
                                         ((480, 640), (224, 256)), ((720, 1280), (224, 256)), ((541, 799), (224, 256))])
def test_letterbox_equals_the_detectors_own(shape, size):
    image = smooth_picture(*shape)
    expected, _, _ = detect.letterbox(image, size)
    on_device = DeviceFrame(image, "cpu").letterboxed(size).numpy()
    assert on_device.shape == (1, *expected.shape)
    assert np.abs(on_device[0].astype(int) - expected).max() <= 1


class OnCpu(eager.Eager):
    """Has the part of a runtime on a GPU that takes crops from there."""

    def __init__(self, max_batch: int = 4, kind: str = "pose"):
        super().__init__(standin.source(kind, size=64), Options(threads=1, max_batch=max_batch))
        self.looked = 0

    def run_on_device(self, images):
        assert len(images) <= self.max_batch
        self.looked += len(images)
        return self.run(images.numpy())


class PretendsCuda:
    """The same under another name of its device, so that DeviceLook takes its path for GPUs."""

    device = "cuda"

    def __init__(self, runtime):
        self.runtime, self.max_batch, self.source = runtime, runtime.max_batch, runtime.source

    def __call__(self, batch):
        return self.runtime(batch)

    def run_on_device(self, images):
        return self.runtime.run_on_device(images)


@pytest.fixture
def look(monkeypatch):
    runtime = OnCpu(max_batch=2)
    made = DeviceLook(PretendsCuda(runtime), Uploaded())
    frames: list[DeviceFrame] = []

    def on_cpu(image, device):
        frames.append(DeviceFrame(image, "cpu"))
        return frames[-1]

    monkeypatch.setattr(gpu_frame, "DeviceFrame", on_cpu)
    return made, runtime, frames


def test_a_frame_is_uploaded_once_and_every_hand_is_answered_in_order(look):
    looking, runtime, uploaded = look
    frame = Frame(smooth_picture(), CAMERAS["plumb_bob"], 0)
    geometries = [crops.plan(frame.camera, PLACES[place], 64) for place in ("middle", "rolled", "right edge")]
    poses = looking(frame, geometries)
    assert looking(frame, []) == [] and len(poses) == 3 and runtime.looked == 3
    looking(frame, geometries[:1])
    assert len(uploaded) == 1
    looking(Frame(frame.image.copy(), frame.camera, 0), geometries[:1])
    assert len(uploaded) == 2
    twins = np.stack([crops.sample(frame.image, frame.camera, geometry) for geometry in geometries])
    for pose, uv, xyz in zip(poses, *runtime(twins)[:2]):
        np.testing.assert_allclose(pose.uv, joint_centres(uv), atol=0.05)
        np.testing.assert_allclose(pose.xyz, joint_centres(xyz), atol=0.001)


def test_crops_are_made_on_the_cpu_while_the_network_is_still_there():
    runtime = OnCpu()
    frame = Frame(smooth_picture(), CAMERAS["pinhole"], 0)
    assert len(DeviceLook(runtime, Uploaded())(frame, [crops.plan(frame.camera, PLACES["middle"], 64)])) == 1
    assert runtime.looked == 0


def test_the_pipeline_finds_the_same_hands_either_way(look):
    looking, runtime, _ = look

    def detector(image, min_score):
        return [PLACES["middle"], PLACES["right edge"]]

    frame = Frame(smooth_picture(), CAMERAS["plumb_bob"], 1)
    settings = config.Config(presence_threshold=0.01)
    shown = [pipeline.Pipeline(detector, estimate.Estimator(runtime), 64, look=way).step(
        pipeline.PipelineState(), frame, settings)[1].raw for way in (None, looking)]
    assert len(shown[0]) == len(shown[1]) > 0
    for one, other in zip(*shown):
        assert np.abs(one.joints_px - other.joints_px).max() < 0.3 and one.is_right == other.is_right


def test_detector_and_pose_network_share_one_upload(look):
    _, runtime, uploaded = look
    searching = PretendsCuda(OnCpu(kind="detector"))
    dense, looking = runtimes.looks(searching, PretendsCuda(runtime))
    detector = detect.Detector(searching, (64, 64), dense)
    image = smooth_picture()
    found = detector(image)
    assert searching.runtime.looked == 1 and len(uploaded) == 1
    expected = detect.Detector(searching, (64, 64))(image)           # through the CPU's letterbox
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected):                          # a grey level of rounding, 10 px of image per px
        np.testing.assert_allclose(one.box, other.box, atol=1.0)
    frame = Frame(image, CAMERAS["pinhole"], 0)
    looking(frame, [crops.plan(frame.camera, PLACES["middle"], 64)])
    assert len(uploaded) == 1
    with pytest.raises(FrameError, match="detector needs"):
        detector(np.zeros((4, 4), np.uint8))


def test_networks_on_the_cpu_get_no_device_path(look):
    _, runtime, _ = look
    on_cpu, on_gpu = OnCpu(kind="detector"), PretendsCuda(runtime)
    assert runtimes.looks(on_cpu, runtime) == (None, None)
    dense, looking = runtimes.looks(on_cpu, on_gpu)
    assert dense is None and looking is not None


def test_a_detector_that_is_not_on_the_gpu_yet_gets_its_letterbox_on_the_cpu():
    detector, image = OnCpu(kind="detector"), smooth_picture()
    dense = DeviceDense(detector, Uploaded())(image)
    assert detector.looked == 0
    np.testing.assert_array_equal(dense, detector(detect.letterbox(image, (64, 64))[0][None])[0][0])


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_another_image_is_refused(image):
    with pytest.raises(FrameError, match="uint8 RGB, got"):
        DeviceFrame(image, "cpu")
