"""How good the averaged weights are now: on held-out virtual hands, and on photographs that never train."""
from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from hand_pose_ros import camera as cameras
from hand_pose_ros import crop as crops
from hand_pose_ros import imaging
from hand_pose_ros.errors import DataError, FrameError
from hand_pose_ros.evaluation.metrics import share_inside
from hand_pose_ros.predict import labelled_box
from hand_pose_ros.skeleton import joint_centres
from hand_pose_ros.training import detector_samples, pose_samples, shards
from hand_pose_ros.training.batches import collate, readable
from hand_pose_ros.types import Camera, Detection

_log = logging.getLogger(__name__)

HAND_SIZES_PX = ((0.0, 16.0), (16.0, 24.0), (24.0, 32.0), (32.0, 48.0), (48.0, 96.0), (96.0, float("inf")))
"""Longer sides of boxes, in pixels of the detector's input: of 416x320, 0.65 of those of a 640x480 image."""
JITTER = replace(pose_samples.EXACT, scale=(0.9, 1.1), shift=0.05, roll_deg=15.0, negatives=0.1)
"""What a good detector or tracker leaves wrong; validation boxes."""


def held_out(kind: str, paths, size, count: int) -> dict:
    """A fixed batch of ``count`` held-out samples: the same for the same shards. Raises DataError if hardly one of them
    can be read."""
    pool, rng = shards.Pool(), np.random.default_rng(0)

    def draw() -> dict:
        if kind == "pose":
            return pose_samples.pose_sample(pool, paths, size[0], rng, JITTER)
        return detector_samples.detector_sample(pool, paths, (), size, rng, detector_samples.EXACT)

    return collate([readable(draw, pool) for _ in range(count)])


@torch.no_grad()
def pose_on_samples(network, samples: dict, batch: int = 64) -> dict:
    """Virtual validation: nme (% of the longer side of the tight box), xyz (% of a hand length), sigma (mean of |error|
    over expected |error|, 1 is calibrated), visible and presence (% correct), right (% correct of the pictures and of
    their mirror images)."""
    outputs = [_answer(network, images) for images in samples["image"].split(batch)]
    uv, xyz, uv_sigma, z_sigma, visible, presence, right = (torch.cat(o) for o in zip(*outputs))
    mirrored = torch.cat([_answer(network, images.flip(2))[6] for images in samples["image"].split(batch)])
    hand = samples["labelled"] > 0
    size = samples["image"].shape[1]
    truth = (samples["uv"][hand] + 1) * (0.5 * size) - 0.5
    span = (truth.amax(1) - truth.amin(1)).amax(-1)
    error = (uv[hand] - truth).norm(dim=-1)
    z_error = (xyz[hand] - samples["xyz"][hand])[..., 2].abs()
    expected = uv_sigma[hand] * 2 ** -0.5                                   # mean |error| of a Laplace distribution
    known = samples["known"] > 0
    return {
        "nme": 100 * (error.mean(1) / span).mean().item(),
        "xyz": 100 * (xyz[hand] - samples["xyz"][hand]).norm(dim=-1).mean().item(),
        "uv_calibration": ((uv[hand] - truth).abs().mean() / expected.mean()).item(),
        "z_calibration": (z_error[:, 1:].mean() / (z_sigma[hand] * 2 ** -0.5)[:, 1:].mean()).item(),     # not the wrist
        "visible": 100 * ((visible > 0.5) == (samples["visible"] > 0))[known].float().mean().item(),
        "presence": 100 * ((presence > 0.5) == (samples["presence"] > 0)).float().mean().item(),
        "right": 50 * ((right > 0.5).float() + (mirrored < 0.5).float())[hand].mean().item(),
    }


class Photographs:
    """A folder with annotations.jsonl as in docs/evaluation.md (image, hands: bbox, handedness, joints_2d, valid_2d,
    joints_3d, K). Labels and pictures that cannot be read are named in the log and left out.

    limit: so many of them, spread over the set. Raises DataError if none can be used.
    """

    def __init__(self, folder: str | Path, limit: int | None = None):
        self.folder = Path(folder)
        try:
            text = (self.folder / "annotations.jsonl").read_text("utf8")
        except (OSError, ValueError) as error:
            raise DataError(f"{self.folder}/annotations.jsonl cannot be read: {error}") from error
        records = [record for number, line in enumerate(text.split("\n"), 1)
                   if line.strip() and (record := self._record(number, line))]
        if not records:
            raise DataError(f"{self.folder}/annotations.jsonl holds no label that can be used")
        count = min(limit or len(records), len(records))
        self.records = [records[k] for k in np.linspace(0, len(records) - 1, count).round().astype(int)]
        self._unreadable: set[str] = set()

    def _record(self, number: int, line: str) -> dict | None:
        """A label with what it may leave out, None if it is damaged."""
        try:
            given = {name: value for name, value in json.loads(line).items() if value is not None}
            record = {"dataset": "folder", "truth": "independent", **given}
            record["image"], record["hands"] = str(record["image"]), [_full(hand) for hand in record["hands"]]
            return record
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            _log.warning("%s/annotations.jsonl:%d cannot be used, left out (%s: %s)", self.folder, number,
                         type(error).__name__, error)
            return None

    def pictures(self) -> Iterator[tuple[dict, np.ndarray]]:
        """Each label with its picture, (H, W, 3) uint8 RGB as stored."""
        for record in self.records:
            try:
                image = imaging.read_picture(self.folder / record["image"])
                if any(hand.get("K") is not None for hand in record["hands"]) and \
                        image.shape[1::-1] != (record.get("width"), record.get("height")):
                    raise FrameError(f"it has {image.shape[1]} x {image.shape[0]} pixels, its label says "
                                     f"{record.get('width')} x {record.get('height')}")
            except FrameError as error:
                if record["image"] not in self._unreadable:
                    self._unreadable.add(record["image"])
                    _log.warning("%s is left out: %s", self.folder / record["image"], error)
                continue
            yield record, image


def _full(hand: dict) -> dict:
    """A labelled hand with "bbox" and "valid_2d", also where they are left out. Raises KeyError, TypeError or
    ValueError for one that is damaged."""
    joints = np.full((21, 2), np.nan) if hand.get("joints_2d") is None else \
        np.array(hand["joints_2d"], float).reshape(21, 2)
    valid = np.isfinite(joints).all(-1)
    if hand.get("valid_2d") is not None:
        valid &= np.array(hand["valid_2d"], float).reshape(21) > 0
    box = [float(value) for value in np.array(labelled_box(hand), float).reshape(4)]
    if not np.isfinite(box).all():
        raise ValueError(f"bbox {box}")
    return {**hand, "joints_2d": joints, "valid_2d": valid, "bbox": box}


def _camera(image: np.ndarray, hand: dict) -> Camera:
    """The image's camera where the labels tell, else an assumed one."""
    height, width = image.shape[:2]
    if hand.get("K") is not None:
        return Camera(width, height, np.array(hand["K"], float).reshape(3, 3), D=np.zeros(0))
    return cameras.assumed(width, height, 60.0)


@torch.no_grad()
def pose_on_photographs(network, photographs: Photographs, size: int, margin: float = crops.MARGIN) -> dict:
    """By set: nme, pa_mm, presence and right (%, of the crops and of their mirror images) and uv_calibration (as of
    ``pose_on_samples``), with box and side given and one refinement from the network's own joints, as the tracker does;
    the first crop is not turned, since boxes do not tell which way a hand points. ``hand-pose score`` gives the box
    alone, and finds the side itself. size: pixels of the crop; margin: its side over the box's (``crop.plan``)."""
    rows = defaultdict(lambda: defaultdict(list))
    for record, image in photographs.pictures():
        for hand in record["hands"]:
            valid = hand["valid_2d"]
            if not valid.any() or not np.ptp(hand["joints_2d"][valid], axis=0).any():       # one joint has no size
                continue
            camera = _camera(image, hand)
            x, y, w, h = hand["bbox"]
            detection = Detection(np.array([x, y, x + w, y + h], float), 1.0, np.nan, np.full(2, np.nan))
            mirrored = hand.get("handedness") == "left"
            for _ in range(2):
                geometry = crops.plan(camera, detection, size, mirrored, margin)
                batch = torch.from_numpy(crops.sample(image, camera, geometry)[None].copy())
                uv, xyz, uv_sigma, _, _, presence, right = (o[0].numpy() for o in _answer(network, batch))
                px = crops.crop_to_image(geometry, camera, joint_centres(uv))
                if np.isfinite(px).all():
                    detection = Detection(detection.box, 1.0, np.nan, crops.from_joints(px).up)
            truth = hand["joints_2d"]
            row = rows[record["dataset"]]
            span = np.ptp(truth[valid], axis=0).max()
            row["nme"].append(100 * np.linalg.norm(px - truth, axis=-1)[valid].mean() / span)
            off = np.abs(joint_centres(uv) - crops.image_to_crop(geometry, camera, truth))[valid]
            row["uv_error"].extend(off.mean(-1))
            row["uv_expected"].extend(uv_sigma[valid] * 2 ** -0.5)
            row["presence"].append(100.0 * (presence > 0.5))
            mirror_right = _answer(network, batch.flip(2))[6].item()
            row["right"].append(50.0 * (right > 0.5) + 50.0 * (mirror_right < 0.5))
            if hand.get("joints_3d") is not None and record["truth"] == "independent":
                mm = 1000 * np.asarray(hand["joints_3d"], float).reshape(21, 3)
                known = np.isfinite(mm).all(1) & (np.asarray(hand.get("valid_3d") or [1] * 21) > 0)
                shape = joint_centres(xyz) * ((-1, 1, 1) if mirrored else (1, 1, 1)) @ geometry.R_camera_crop.T
                if known.sum() >= 8:
                    row["pa_mm"].append(_aligned_error(shape[known], mm[known]))
    result = {}
    for name, row in sorted(rows.items()):
        means = {k: float(np.nanmean(v)) for k, v in row.items()}
        result[name] = {"hands": len(row["nme"]), "uv_calibration": means.pop("uv_error") / means.pop("uv_expected"),
                        **means}
    return result


@torch.no_grad()
def detector_on_samples(network, samples: dict, batch: int = 32) -> dict:
    """Virtual validation of whole frames, letterboxed: recall and false (per 100 images) at score 0.5 and IoU 0.5, side
    (% right of the found), up_deg (median error of the direction, of those that it gives), by_size ("from to": hands of
    so many pixels of the input, recall and mean IoU of those found, in %)."""
    from hand_pose_ros import detect
    found = hands = false = 0
    by_size = {limits: [] for limits in HAND_SIZES_PX}
    sides, ups = [], []
    dense = torch.cat([_answer(network, images) for images in samples["image"].split(batch)]).numpy()
    for k in range(len(dense)):
        truth = _middles(samples, k)
        answers = detect.decode(dense[k], 0.5)
        hands += len(truth)
        used = set()
        for box, right, up in truth:
            overlap = [detect.iou(box, a.box) if j not in used else 0.0 for j, a in enumerate(answers)]
            size = float(np.max(box[2:] - box[:2]))
            by_size[next(pair for pair in HAND_SIZES_PX if size < pair[1])].append(max(overlap, default=0.0))
            if overlap and max(overlap) >= 0.5:
                j = int(np.argmax(overlap))
                used.add(j)
                found += 1
                sides.append((answers[j].right_probability > 0.5) == (right > 0.5))
                ups.append(np.rad2deg(np.arccos(np.clip(answers[j].up @ up, -1, 1))))
        ignored = samples["care"][k].numpy() == 0
        false += sum(1 for j, a in enumerate(answers) if j not in used and not _covers(ignored, a.box))
    return {"recall": 100 * found / max(hands, 1), "false": 100 * false / len(dense),
            "side": 100 * float(np.mean(sides)) if sides else float("nan"),
            "up_deg": float(np.nanmedian(ups)) if ups else float("nan"),
            "by_size": {f"{low:g} to {high:g}": {"hands": len(ious), "recall": 100 * len(good) / len(ious),
                                                 **({"iou": 100 * float(np.mean(good))} if good else {})}
                        for (low, high), ious in by_size.items() if ious
                        for good in [[iou for iou in ious if iou >= 0.5]]}}


def detector_on_photographs(network, photographs: Photographs, size: tuple[int, int]) -> dict:
    """By set: recall (%) at score 0.5 and IoU 0.3, false hands in exhaustive images but for their ignored regions, side
    (%)."""
    from hand_pose_ros import detect

    def run(batch):
        with torch.no_grad():
            return (_answer(network, torch.from_numpy(batch)).numpy(),)

    detector = detect.Detector(run, size)
    rows = defaultdict(lambda: defaultdict(list))
    for record, image in photographs.pictures():
        answers = detector(image, min_score=0.5)
        used = set()
        row = rows[record["dataset"]]
        row["images"].append(1)
        for hand in record["hands"]:
            x, y, w, h = hand["bbox"]
            overlap = [detect.iou(np.array([x, y, x + w, y + h]), a.box) if j not in used else 0.0
                       for j, a in enumerate(answers)]
            hit = bool(overlap) and max(overlap) >= 0.3
            row["recall"].append(100.0 * hit)
            if hit:
                j = int(np.argmax(overlap))
                used.add(j)
                if hand.get("handedness"):
                    right = answers[j].right_probability > 0.5
                    row["side"].append(100.0 * (right == (hand["handedness"] == "right")))
        if record.get("exhaustive"):
            ignored = [(x, y, x + w, y + h) for x, y, w, h in record.get("ignore", ())]
            row["false"].append(sum(j not in used and not any(share_inside(a.box, one) > 0.5 for one in ignored)
                                    for j, a in enumerate(answers)))
    return {name: {"images": len(row.pop("images")),
                   **{k: float(np.sum(v) if k == "false" else np.mean(v)) for k, v in row.items()}}
            for name, row in sorted(rows.items())}


def _answer(network: torch.nn.Module, images: torch.Tensor):
    """Outputs on the CPU of a network on any device; images, samples and labels stay on the CPU."""
    outputs = network(images.to(next(network.parameters()).device))
    return outputs.cpu() if isinstance(outputs, torch.Tensor) else [output.cpu() for output in outputs]


def _middles(samples: dict, k: int):
    """(box (4,), right, up (2,)) of the taught hands of sample k, in pixels of the input."""
    v, u = np.nonzero(samples["middle"][k].numpy())
    stride = detector_samples.STRIDE
    out = []
    for row, column in zip(v, u):
        if samples["weight"][k, row, column] > 0:
            left, top, right, bottom = np.exp(samples["box"][k, :, row, column].numpy()) * stride
            x, y = (column + 0.5) * stride - 0.5, (row + 0.5) * stride - 0.5
            out.append((np.array([x - left, y - top, x + right, y + bottom]), float(samples["side"][k, row, column]),
                        samples["up"][k, :, row, column].numpy()))
    return out


def _covers(ignored: np.ndarray, box) -> bool:
    """True if the middle of the box is in a cell that is neither hand nor background."""
    stride = detector_samples.STRIDE
    column, row = ((box[:2] + box[2:]) / 2 / stride).astype(int)
    h, w = ignored.shape
    return bool(ignored[np.clip(row, 0, h - 1), np.clip(column, 0, w - 1)])


def _aligned_error(points: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance after the best similarity without mirroring (Umeyama 1991)."""
    a, b = points - points.mean(0), truth - truth.mean(0)
    u, s, vt = np.linalg.svd(a.T @ b)
    d = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt)) or 1.0])
    return float(np.linalg.norm((s * d).sum() / (a * a).sum() * a @ ((u * d) @ vt) - b, axis=-1).mean())
