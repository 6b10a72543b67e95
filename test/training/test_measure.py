"""Measuring while the network is on a GPU, played by tensors that only a move can bring there and back."""
import json

import cv2
import numpy as np
import pytest
import standin_hands
import torch

from hand_pose_ros import crop as crops
from hand_pose_ros import lift
from hand_pose_ros.camera import project
from hand_pose_ros.skeleton import joint_centres
from hand_pose_ros.training import checkpoint, detector_samples, loop, measure, settings
from hand_pose_ros.training.batches import collate
from hand_pose_ros.types import Camera, Detection

KINDS = {"pose": {"architecture": "pose_light", "options": {"width": 0.4, "neck": 16}, "size": [64, 64]},
         "detector": {"architecture": "detector_light", "options": {"width": 0.5, "neck": 16}, "size": [96, 128]}}
GPU = torch.device("cuda", 0)


class OnGpu(torch.Tensor):
    """Values that answer as those of a GPU do: no NumPy, and no computing with values of the CPU."""
    device = GPU

    def cpu(self):
        with torch._C.DisableTorchFunctionSubclass():
            return self.as_subclass(torch.Tensor)

    def numpy(self, *args, **more):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if any(type(value) is torch.Tensor and value.ndim for value in args):
            raise RuntimeError("Expected all tensors to be on the same device")
        return super().__torch_function__(func, types, args, kwargs)


class NetworkOnGpu(torch.nn.Module):
    """A network whose weights and answers are there, and that refuses pictures which are not."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def parameters(self, recurse=True):
        return iter([torch.zeros(1).as_subclass(OnGpu)])

    def forward(self, images):
        assert isinstance(images, OnGpu), "pictures of the CPU, weights of the GPU"
        out = self.network(images.cpu())
        return out.as_subclass(OnGpu) if isinstance(out, torch.Tensor) else tuple(o.as_subclass(OnGpu) for o in out)


@pytest.fixture
def gpu(monkeypatch):
    """Makes ``tensor.to(GPU)`` possible where there is none."""
    real = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *args, **more: self.as_subclass(OnGpu)
                        if GPU in args else real(self, *args, **more))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Shards, and beside them three labelled pictures as photographs."""
    root, rng, lines = tmp_path_factory.mktemp("measured"), np.random.default_rng(4), []
    for k in range(2):
        standin_hands.write(root / f"crops-{k}.tar", 6, k)
        standin_hands.write(root / f"frames-{k}.tar", 4, k, "frames")
    for k in range(3):
        image, label = standin_hands.record(rng, 160, 120, 1, 0.7)
        cv2.imwrite(str(root / f"{k}.png"), image)
        (hand,) = label["hands"]
        x, y, right, bottom = hand["box"]
        lines.append({"image": f"{k}.png", "dataset": "sticks", "truth": "independent", "width": 160, "height": 120,
                      "exhaustive": True, "hands": [{
                          "bbox": [x, y, right - x, bottom - y], "joints_2d": hand["joints_px"], "valid_2d": [1] * 21,
                          "handedness": "right" if hand["is_right"] else "left", "K": label["K"],
                          "joints_3d": hand["joints_m"]}]})
    (root / "annotations.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return root


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_on_a_gpu_is_measured_as_one_on_the_cpu(folder, tmp_path, gpu, kind):
    run = loop.Trainer(settings.from_dict(KINDS[kind]), str(folder), tmp_path, workers=0, held_out=6,
                       photographs=measure.Photographs(folder))
    run.shelf.rescan()
    if kind == "detector":
        run.average.head[1].bias[0] = 1.0                           # hands everywhere: boxes and sides are compared too
    expected = run.measure()
    run.average, run.device, run.held_out = NetworkOnGpu(run.average), GPU, None
    assert json.dumps(run.measure()) == json.dumps(expected)
    wanted = {"nme", "pa_mm", "uv_calibration"} if kind == "pose" else {"recall", "false"}
    assert set(expected["photographs"]["sticks"]) >= wanted


def test_validation_sees_whole_and_undisturbed_hands(folder, monkeypatch):
    """An augmentation that training gets later must not change what validation measures."""
    samples, photometric = measure.pose_samples, measure.pose_samples.photometric
    for module, name in ((samples, "cut_off"), (samples, "_part"), (photometric, "put_behind"),
                         (photometric, "occlude"), (photometric, "distort")):
        monkeypatch.setattr(module, name, lambda *_, name=name: pytest.fail(f"validation calls {name}"))
    shards = [str(shard) for shard in sorted(folder.glob("crops-*.tar"))]
    assert measure.held_out("pose", shards, (64, 64), 60)["presence"].mean() > 0.8


class Constant(torch.nn.Module):
    """Says the same of every crop: all joints at ``at`` (u, v), with a standard deviation of ``sigma`` pixels."""

    def __init__(self, at, sigma):
        super().__init__()
        self.at, self.sigma = torch.nn.Parameter(torch.tensor(at)), sigma

    def forward(self, images):
        n = len(images)
        return (self.at.expand(n, 21, 2), torch.zeros(n, 21, 3), torch.full((n, 21), self.sigma),
                torch.ones(n, 21), torch.ones(n, 21), torch.ones(n), torch.ones(n))


def test_calibration_on_photographs_is_the_error_over_the_expected_one(tmp_path):
    """Hands round the camera's axis, where a crop pixel is 1.3 * 40 / 64 pixels: the error can be told by hand."""
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((100, 100, 3), 99, np.uint8))
    pixel, lines = 1.3 * 40 / 64, []
    for side, sign in (("right", 1), ("left", -1)):
        joints = np.tile([49.5 + sign * 8.0 * pixel, 49.5], (21, 1))    # the network says 3 crop pixels: 5 too few
        joints[0, 1] += 21.0 * pixel
        joints[20] = 1000.0
        lines.append({"image": "grey.png", "dataset": side, "truth": "fitted", "width": 100, "height": 100, "hands": [{
            "bbox": [29.5, 29.5, 40, 40], "joints_2d": joints.tolist(), "valid_2d": [1] * 20 + [0], "handedness": side,
            "K": [[120, 0, 49.5], [0, 120, 49.5], [0, 0, 1]]}]})
    (tmp_path / "annotations.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    found = measure.pose_on_photographs(Constant([31.5 + 3.0, 31.5], 4.0), measure.Photographs(tmp_path), 64)
    for side in ("right", "left"):
        assert found[side]["uv_calibration"] == pytest.approx((20 * 5.0 + 21.0) / 40 / (4.0 * 0.5 ** 0.5), rel=1e-4)


def test_measuring_that_fails_costs_no_training(folder, tmp_path, monkeypatch, caplog):
    values = {**KINDS["pose"], "batch": 4, "steps": 3}
    for measure_s in (0.0, 1e9):                                    # after every step, and at the end alone
        run = loop.Trainer(settings.from_dict(values), str(folder), tmp_path / str(measure_s), workers=0, held_out=6,
                           measure_s=measure_s)
        saved = []
        monkeypatch.setattr(measure, "pose_on_samples", lambda *_: saved.append(
            checkpoint.load(run.folder / "last.pt")["step"]) or {}["no such number"])
        assert run.run() == {} and run.step == 3
        assert saved == ([1, 2, 3, 3] if measure_s == 0.0 else [3]), "the checkpoint comes before the measurement"
        lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
        assert "no such number" in lines[-1]["error"] and "no such number" in caplog.text
        caplog.clear()


def _photographs(folder, tmp_path, change=lambda number, record: None):
    """A copy of the folder's photographs whose labels ``change`` has been at."""
    records = [json.loads(line) for line in (folder / "annotations.jsonl").read_text().splitlines()]
    for number, record in enumerate(records):
        change(number, record)
        (tmp_path / record["image"]).write_bytes((folder / record["image"]).read_bytes())
    (tmp_path / "annotations.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return records


def test_pictures_are_measured_as_they_are_stored(folder, tmp_path):
    """Labels belong to the stored pixels, whatever a camera notes of how it was held."""
    records = _photographs(folder, tmp_path)
    for record in records:
        rgb = cv2.imread(str(tmp_path / record["image"]))
        ok, data = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, 100])
        upside_down = b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x03\0\0\0" + b"\0" * 4
        (tmp_path / record["image"]).write_bytes(data.tobytes()[:2] + upside_down + data.tobytes()[2:])
        assert np.abs(cv2.imread(str(tmp_path / record["image"])).astype(int) - rgb[::-1, ::-1]).mean() < 5
    stored = [image for _, image in measure.Photographs(tmp_path).pictures()]
    plain = [image for _, image in measure.Photographs(folder).pictures()]
    assert all(np.abs(a.astype(int) - b).mean() < 5 for a, b in zip(stored, plain)) and len(stored) == 3


def test_what_cannot_be_read_is_left_out_and_named(folder, tmp_path, caplog):
    def change(number, record):
        if number == 0:
            record["hands"] = [{"joints_2d": record["hands"][0]["joints_2d"]}]      # all that the documents ask for
            del record["dataset"], record["truth"]
        if number == 1:
            del record["hands"]

    _photographs(folder, tmp_path, change)
    (tmp_path / "2.png").write_bytes(b"")
    network = Constant([31.5, 31.5], 4.0)
    found = measure.pose_on_photographs(network, measure.Photographs(tmp_path), 64)
    assert list(found) == ["folder"] and found["folder"]["hands"] == 1 and np.isfinite(found["folder"]["nme"])
    assert "annotations.jsonl:2 cannot be used, left out (KeyError: 'hands')" in caplog.text
    assert "2.png is left out: the file is missing or empty" in caplog.text
    whole = measure.pose_on_photographs(network, measure.Photographs(folder), 64)
    assert whole["sticks"]["hands"] == 3


@pytest.mark.parametrize("limit, count", [(1, 1), (2, 2), (3, 3), (9, 3), (None, 3)])
def test_no_more_pictures_are_measured_than_asked_for(folder, limit, count):
    assert len(measure.Photographs(folder, limit).records) == count


def test_photographs_that_fail_leave_the_virtual_hands(folder, tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("something else")
    monkeypatch.setattr(measure, "pose_on_photographs", fail)
    run = loop.Trainer(settings.from_dict({**KINDS["pose"], "batch": 4, "steps": 1}), str(folder), tmp_path, workers=0,
                       held_out=4, photographs=measure.Photographs(folder))
    result = run.run()
    assert np.isfinite(result["virtual"]["nme"]) and "something else" in result["error"]


def network(answer):
    out = torch.nn.Linear(1, 1)
    out.forward = answer
    return out


def test_a_network_that_knows_every_side_and_mirror_image_is_all_right():
    count = 6
    image = torch.zeros(count, 8, 8, 3, dtype=torch.uint8)
    image[:, :, :4] = 255                                                    # bright on the left: as a right hand
    samples = {"image": image, "uv": torch.rand(count, 21, 2), "xyz": torch.zeros(count, 21, 3),
               "labelled": torch.ones(count), "known": torch.ones(count, 21), "visible": torch.ones(count, 21),
               "presence": torch.ones(count)}

    def answer(images, always=None):
        n = len(images)
        right = (images[:, 0, 0, 0] > 0).float() if always is None else torch.full((n,), always)
        return (torch.zeros(n, 21, 2), torch.zeros(n, 21, 3), torch.ones(n, 21), torch.ones(n, 21), torch.ones(n, 21),
                torch.ones(n), right)
    assert measure.pose_on_samples(network(answer), samples)["right"] == 100.0
    assert measure.pose_on_samples(network(lambda i: answer(i, 1.0)), samples)["right"] == 50.0


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_network_that_says_the_truth_has_no_error_on_photographs(tmp_path, monkeypatch, side):
    """One hand, one picture; the network answers with the label of whatever crop it is given."""
    K = np.array([[200, 0, 79.5], [0, 200, 59.5], [0, 0, 1.0]])
    mano = standin_hands.joints(np.random.default_rng(2)) * ((1 if side == "right" else -1), 1, 1) + (0.02, 0.03, 0.45)
    joints, camera = joint_centres(mano), Camera(160, 120, K, D=np.zeros(0))
    px = project(camera, joints)
    wild = px.copy()
    wild[20] = 900.0                                                         # not known: must not count
    low, high = px.min(0), px.max(0)
    cv2.imwrite(str(tmp_path / "a.png"), np.full((120, 160, 3), 90, np.uint8))
    (tmp_path / "annotations.jsonl").write_text(json.dumps({
        "image": "a.png", "dataset": "d", "truth": "independent", "width": 160, "height": 120, "hands": [{
            "bbox": [*low, *(high - low)], "joints_2d": wild.tolist(), "valid_2d": [1] * 20 + [0], "handedness": side,
            "K": K.tolist(), "joints_3d": [[None] * 3, *joints[1:].tolist()]}, {           # null: not known
            # One labelled joint has no size to divide by: no error is known of that hand.
            "bbox": [*low, *(high - low)], "joints_2d": px.tolist(), "valid_2d": [1] + [0] * 20, "handedness": side}]}))
    planned, plan = [], crops.plan
    monkeypatch.setattr(measure.crops, "plan", lambda *args: planned.append(plan(*args)) or planned[-1])

    def answer(_):
        uv, xyz = (torch.tensor(one, dtype=torch.float32)[None] for one in lift.label(mano, planned[-1]))
        return uv, xyz, torch.ones(1, 21), torch.ones(1, 21), torch.ones(1, 21), torch.ones(1), torch.ones(1)
    found = measure.pose_on_photographs(network(answer), measure.Photographs(tmp_path), 64)["d"]
    assert found["nme"] < 0.5 and found["pa_mm"] < 0.1 and found["hands"] == 1


def detector(boxes, answers):
    """Measures of a network that answers with ``answers`` where ``boxes`` are the hands, in one picture of 96 x 128;
    both (x0, y0, x1, y1)."""

    def joints(box):
        u, v = np.meshgrid(np.linspace(box[0], box[2], 7), np.linspace(box[1], box[3], 3))
        return np.stack([u.ravel(), v.ravel()], 1)
    whole = detector_samples.rectangle((-0.5, -0.5), (127.5, 95.5))
    target = detector_samples.labels([(joints(box), True, whole) for box in boxes], (96, 128))
    dense = np.zeros((8, 12, 16), np.float32)
    for x0, y0, x1, y1 in answers:
        column, row = int((x0 + x1) / 2 // 8), int((y0 + y1) / 2 // 8)
        u, v = (column + 0.5) * 8 - 0.5, (row + 0.5) * 8 - 0.5
        dense[:, row, column] = 0.9, u - x0, v - y0, x1 - u, y1 - v, 1.0, 0.0, -1.0
    samples = collate([{"image": np.zeros((96, 128, 3), np.uint8), **target}])
    return measure.detector_on_samples(network(lambda images: torch.tensor(dense)[None]), samples)


def test_recall_and_false_hands_of_a_detector_by_hand():
    hand = (20, 20, 60, 60)
    assert {k: detector([hand], [hand])[k] for k in ("recall", "false", "side")} == dict(recall=100, false=0, side=100)
    half = detector([hand], [(40, 20, 80, 60)])                              # IoU 1/3: not found, and a false one
    assert half["recall"] == 0 and half["false"] == 100
    assert detector([hand], [hand, (80, 50, 120, 90)])["false"] == 100
    assert detector([], [hand])["false"] == 100


def test_a_hand_in_an_ignored_region_is_no_false_one(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((120, 160, 3), 90, np.uint8))
    found = [Detection(np.array([x, 20.0, x + 30, 60.0]), 0.9, 0.9, np.array([0.0, -1.0])) for x in (10.0, 90.0)]
    monkeypatch.setattr("hand_pose_ros.detect.Detector", lambda run, size: lambda image, min_score: found)

    def false(**more):
        (tmp_path / "annotations.jsonl").write_text(json.dumps({
            "image": "a.png", "dataset": "d", "exhaustive": True, "width": 160, "height": 120, "hands": [], **more}))
        return measure.detector_on_photographs(None, measure.Photographs(tmp_path), (96, 128))["d"]["false"]
    assert false() == 2 and false(ignore=None) == 2
    assert false(ignore=[[80, 10, 60, 80]]) == 1 and false(ignore=[[110, 10, 60, 80]]) == 2        # a third of it
