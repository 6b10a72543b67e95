"""Pages for people to look at: contact sheets of labelled pictures and statistics of what was rendered."""
from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from hand_pose_ros.errors import DataError
from hand_pose_ros.skeleton import BONES, FINGERTIPS, JOINT_NAMES
from hand_pose_ros.synthesis import shards
from hand_pose_ros.types import JointState

_COLORS = {JointState.VISIBLE: (60, 230, 60), JointState.SELF_OCCLUDED: (255, 70, 70),
           JointState.OBJECT_OCCLUDED: (70, 110, 255), JointState.OUTSIDE_IMAGE: (230, 230, 60)}


def draw(image: np.ndarray, meta: dict, scale: int = 2) -> np.ndarray:
    """Enlarge a picture (H, W, 3) uint8 RGB and draw its labels: visible joints filled, hidden ones hollow."""
    out = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)

    def place(point):
        return tuple(int(round((v + 0.5) * scale * 8)) for v in point)

    for hand in meta["hands"]:
        side = max(hand["box"][2] - hand["box"][0], hand["box"][3] - hand["box"][1]) * scale
        radius = int(np.clip(side / 45, 1, 5) * 8)
        color = (255, 200, 0) if hand["is_right"] else (0, 200, 255)
        for a, b in BONES:
            cv2.line(out, place(hand["joints_px"][a]), place(hand["joints_px"][b]), color, 1, cv2.LINE_AA, 3)
        for point, state in zip(hand["joints_px"], hand["state"]):
            shown = state == JointState.VISIBLE
            cv2.circle(out, place(point), radius, _COLORS[JointState(state)], -1 if shown else 1, cv2.LINE_AA, 3)
    for box in meta.get("unseen_boxes", ()):
        cv2.rectangle(out, place(box[:2]), place(box[2:]), (200, 0, 200), 1, cv2.LINE_AA, 3)
    return out


def contact_sheet(folder: Path, kind: str, count: int = 48, columns: int = 8, labels: bool = True) -> np.ndarray:
    """The first ``count`` pictures of a folder as one (H, W, 3) uint8 RGB image. Raises DataError if there are none."""
    tiles = []
    for record in _records(folder, kind, count):
        image = cv2.cvtColor(_decoded(record, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        tile = draw(image, record["meta"]) if labels else image
        if tiles and tile.shape != tiles[0].shape:                  # of another run into the same folder
            tile = cv2.resize(tile, tiles[0].shape[1::-1], interpolation=cv2.INTER_AREA)
        tiles.append(tile)
    columns = min(columns, len(tiles))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[i:i + columns]) for i in range(0, len(tiles), columns)])


def statistics(folder: Path, kind: str, path: Path, count: int = 2000) -> dict:
    """Plot what the first ``count`` pictures show to a PNG: views, poses, sizes, tones, visibility, brightness.

    Returns the numbers behind the plots. Raises DataError if there are no shards.
    """
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    metas, brightness = [], []
    for record in _records(folder, kind, count):
        metas.append(record["meta"])
        brightness.append(float(_decoded(record, cv2.IMREAD_REDUCED_COLOR_4).mean()))
    hands = [hand for meta in metas for hand in meta["hands"]]
    figure, axes = pyplot.subplots(3, 4, figsize=(17, 11))
    axes = axes.ravel()
    summary = {"pictures": len(metas), "hands": len(hands)}
    axes[8].hist(brightness, 40)
    axes[8].set_title("mean brightness (0..255)")
    axes[9].hist([len(meta["hands"]) for meta in metas], np.arange(6) - 0.5)
    axes[9].set_title("hands per picture")
    places = Counter(meta.get("background", "?") for meta in metas).most_common()
    axes[11].barh([name for name, _ in places], [n for _, n in places])
    axes[11].set_title("backgrounds")
    if hands:
        joints = np.array([hand["joints_m"] for hand in hands])
        towards, roll = view_angles(joints, np.array([hand["is_right"] for hand in hands]))
        axes[0].scatter(np.degrees(np.arctan2(towards[:, 0], -towards[:, 2])),
                        np.degrees(np.arcsin(towards[:, 1])), s=3)
        axes[0].set(title="camera seen from the hand", xlabel="0 palm, 180 back (deg)",
                    ylabel="towards fingertips (deg)")
        axes[1].hist(np.degrees(roll), 36)
        axes[1].set_title("in-plane roll, 0 = fingers up (deg)")
        length = np.array([hand["hand_length_m"] for hand in hands])
        reach = np.linalg.norm(joints[:, FINGERTIPS[1:], :] - joints[:, :1], axis=-1).mean(1) / length
        axes[2].hist(reach, 40)
        axes[2].set_title("openness: wrist to fingertips / hand length")
        names = Counter(hand.get("pose", "?") for hand in hands).most_common(14)
        axes[3].barh([name for name, _ in names][::-1], [n for _, n in names][::-1])
        axes[3].set_title("commonest poses")
        boxes = np.array([hand["box"] for hand in hands])
        sides = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
        axes[4].hist(np.log2(sides), 40)
        axes[4].set_title("log2 of the box's longest side (px)")
        axes[5].hist(joints[:, 0, 2], 40)
        axes[5].set_title("distance (m)")
        skins = [skin for meta in metas for skin in (*meta.get("skins", ()), meta.get("melanin")) if skin is not None]
        if skins:
            axes[6].hist(skins, 30)
            axes[6].set_title("skin: 0 very pale .. 1 very dark")
        else:
            axes[6].set_axis_off()
        state = np.array([hand["state"] for hand in hands])
        shares = {name: (state == value).mean(0)
                  for name, value in (("visible", 1), ("self", 2), ("object", 3), ("outside", 4))}
        base = np.zeros(21)
        for name, share in shares.items():
            axes[7].bar(np.arange(21), share, bottom=base, label=name)
            base += share
        axes[7].set_xticks(np.arange(21), JOINT_NAMES, rotation=90, fontsize=6)
        axes[7].legend(fontsize=7)
        axes[7].set_title("visibility")
        axes[10].hist(length * 1000, 40)
        axes[10].set_title("hand length (mm)")
        summary.update(right=float(np.mean([hand["is_right"] for hand in hands])),
                       visible=float(shares["visible"].mean()),
                       palm_views=float((towards[:, 2] < -0.5).mean()), back_views=float((towards[:, 2] > 0.5).mean()))
    figure.suptitle(f"{kind}: {len(metas)} pictures, {len(hands)} hands")
    figure.tight_layout()
    figure.savefig(path, dpi=70)
    pyplot.close(figure)
    return summary


def view_angles(joints_m: np.ndarray, is_right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the camera is, seen from the hand, from joints (n, 21, 3) in the camera frame.

    Returns unit vectors (n, 3) in a right hand's frame (x to the little finger, y to the fingers, z out of the back)
    and the roll (n,) of wrist -> middle knuckle in the image, radians, 0 up, positive clockwise.
    """
    wrist, index, middle, little = (joints_m[:, k] for k in (0, 5, 9, 17))
    y = middle - wrist
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    x = little - index
    x -= (x * y).sum(1, keepdims=True) * y
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    z = np.cross(x, y) * np.where(is_right, 1.0, -1.0)[:, None]
    eye = -0.5 * (wrist + middle)
    eye /= np.linalg.norm(eye, axis=1, keepdims=True)
    towards = np.stack([(eye * axis).sum(1) for axis in (x, y, z)], axis=1)
    a, b = wrist[:, :2] / wrist[:, 2:], middle[:, :2] / middle[:, 2:]
    return towards, np.arctan2((b - a)[:, 0], -(b - a)[:, 1])


def _records(folder: Path, kind: str, count: int):
    found = 0
    for path in shards.files(folder, kind):
        for record in shards.read(path):
            if found == count:
                return
            found += 1
            if missing := {"meta", "jpg"} - record.keys():
                raise DataError(f"shard {path} has no {min(missing)} of picture {record['index']}; delete it and "
                                "render it again")
            yield {**record, "shard": path}
    if not found:
        raise DataError(f"the {kind} shards in {folder} are empty; delete them and render again")


def _decoded(record: dict, how: int) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(record["jpg"], np.uint8), how)
    except cv2.error:                                               # of no bytes at all
        image = None
    if image is None:
        raise DataError(f"picture {record['index']} of shard {record['shard']} cannot be decoded; delete the shard and "
                        "render it again")
    return image
