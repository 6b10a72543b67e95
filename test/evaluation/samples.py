"""Small generated data sets in the exact official layouts. Joints carry their own number, so a wrong order shows.

Joint j of every sample hand lies at pixel (BASE + 7 j, BASE + 5 j) or, in 3D, projects to a place that follows from
``hand_m``. Pictures are random noise.
"""
from __future__ import annotations

import json
import pickle
from pathlib import Path

import cv2
import numpy as np

BASE = 20.0


def hand_px() -> np.ndarray:
    """(21, 2) in our order."""
    return BASE + np.arange(21)[:, None] * (7.0, 5.0)


def hand_m(shift: float = 0.0) -> np.ndarray:
    """(21, 3) metres in a camera's frame, our order; every joint differs from every other."""
    j = np.arange(21.0)[:, None]
    return np.hstack([0.002 * j - 0.02 + shift, 0.0015 * j - 0.015, 0.5 + 0.003 * j])


def picture(path: Path, width: int, height: int, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def write_json(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


FREIHAND_K = [[480.0, 0, 112.0], [0, 480.0, 112.0], [0, 0, 1]]


def freihand(folder: Path, split: str = "evaluation", count: int = 3, versions: int = 1) -> Path:
    write_json(folder / f"{split}_K.json", [FREIHAND_K] * count)
    write_json(folder / f"{split}_xyz.json", [hand_m().tolist()] * count)
    write_json(folder / f"{split}_verts.json", [np.repeat(hand_m(), 38, axis=0)[:778].tolist()] * count)
    for number in range(count * versions):
        picture(folder / split / "rgb" / f"{number:08d}.jpg", 224, 224, number)
    return folder


def interhand26m(folder: Path, split: str = "test") -> Path:
    """One single right hand and one interacting pair, from two cameras; world axes are not the camera's."""
    order = [4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17, 0]     # file place -> our joint
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    position = np.array([100.0, 200.0, -300.0])
    camera = np.vstack([hand_m()[order], hand_m(0.08)[order]]) * 1000
    world = camera @ turn + position
    labels = folder / "annotations" / split / f"InterHand2.6M_{split}"
    images = [{"id": n, "file_name": f"Capture0/0000_pose/cam400262/image{n}.jpg", "width": 334, "height": 512,
               "capture": 0, "subject": 0, "seq_name": "0000_pose", "camera": "400262", "frame_idx": n}
              for n in range(2)]
    annotations = [
        {"id": 0, "image_id": 0, "bbox": [1, 2, 3, 4], "joint_valid": [1] * 21 + [0] * 21, "hand_type": "right",
         "hand_type_valid": 1},
        {"id": 1, "image_id": 1, "bbox": [1, 2, 3, 4], "joint_valid": [1] * 41 + [0], "hand_type": "interacting",
         "hand_type_valid": 1}]
    write_json(Path(f"{labels}_data.json"), {"images": images, "annotations": annotations})
    write_json(Path(f"{labels}_camera.json"), {"0": {
        "campos": {"400262": position.tolist()}, "camrot": {"400262": turn.tolist()},
        "focal": {"400262": [1200.0, 1210.0]}, "princpt": {"400262": [150.0, 250.0]}}})
    write_json(Path(f"{labels}_joint_3d.json"), {"0": {str(n): {
        "world_coord": world.tolist(), "joint_valid": [[1]] * 42, "hand_type": "interacting", "hand_type_valid": True,
        "seq": "0000_pose"} for n in range(2)}})
    for image in images:
        picture(folder / "images" / split / image["file_name"], 334, 512)
    return folder


def hiu_dmtl(folder: Path) -> Path:
    """A hand in the first half, one in the second and two in one picture, at different depths. What is not labelled is
    (0, 0) or (2.0, -0.67), the filler that users of the set report."""
    for name, hand_type in (("abcd", [1, 0]), ("part/efgh", [0, 1]), ("part/session/ijkl", [1, 1])):
        points = np.full((42, 2), (2.0, -0.67))
        for half, exists in zip((slice(0, 21), slice(21, 42)), hand_type):
            if exists:
                points[half] = hand_px()
        points[30] = (0.0, 0.0)
        write_json(folder / f"{name}.json", {
            "pts2d_2hand": points.tolist(), "pts3d_w_2hand": np.zeros((42, 3)).tolist(), "hand_type": hand_type,
            "hand_type_valid": [1, 1]})
        picture(folder / f"{name}.jpg", 256, 256)
        picture(folder / f"{name}_mask.png", 256, 256)
    return folder


def onehand10k(folder: Path, form: str = "json") -> Path:
    points = hand_px()
    if form == "json":
        keypoints = np.hstack([points, np.ones((21, 1))])
        keypoints[3] = 0
        write_json(folder / "annotations" / "onehand10k_test.json", {
            "images": [{"file_name": "9.jpg", "height": 240, "width": 320, "id": 9}],
            "annotations": [{"id": 9, "image_id": 9, "category_id": 1, "iscrowd": 0, "area": 100,
                             "bbox": [10, 12, 165, 120], "keypoints": keypoints.ravel().tolist()}],
            "categories": [{"id": 1, "name": "hand"}]})
    else:
        points[3] = -1
        row = ",".join(str(int(value)) for value in points.ravel())
        (folder / "Test").mkdir(parents=True, exist_ok=True)
        (folder / "Test" / "label_joint.txt").write_text(f"9.jpg,320,240,1,{row}\n")
    picture(folder / "Test" / "source" / "9.jpg", 320, 240)
    return folder


def _person(number: int, image: int, left: bool, right: bool) -> dict:
    points = np.hstack([hand_px(), np.full((21, 1), 0.8)]).ravel().tolist()
    return {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "bbox": [5, 6, 200, 180], "area": 100,
            "num_keypoints": 0, "keypoints": [0] * 51, "foot_kpts": [0] * 18, "face_kpts": [0] * 204,
            "lefthand_valid": left, "lefthand_kpts": points if left else [0] * 63,
            "lefthand_box": [10.0, 12.0, 165.0, 120.0] if left else [0, 0, 0, 0],
            "righthand_valid": right, "righthand_kpts": points if right else [0] * 63,
            "righthand_box": [20.0, 20.0, 140.0, 100.0] if right else [0, 0, 0, 0]}


def coco_wholebody(folder: Path) -> Path:
    images = [{"id": n, "file_name": f"{n:012d}.jpg", "height": 240, "width": 320} for n in (139, 285)]
    write_json(folder / "annotations" / "coco_wholebody_val_v1.0.json", {
        "images": images, "annotations": [_person(7, 139, True, False), _person(8, 285, False, False)],
        "categories": [{"id": 1, "name": "person"}]})
    for image in images:
        picture(folder / "val2017" / image["file_name"], 320, 240)
    return folder


def coco(folder: Path) -> Path:
    images = [{"id": n, "file_name": f"{n:012d}.jpg", "height": 240, "width": 320} for n in (1, 2)]
    person = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [5, 6, 200, 180], "area": 100}
    dog = {"id": 2, "image_id": 2, "category_id": 18, "iscrowd": 0, "bbox": [0, 0, 50, 50], "area": 100}
    write_json(folder / "annotations" / "instances_val2017.json", {"images": images, "annotations": [person, dog],
                                                                   "categories": []})
    for image in images:
        picture(folder / "val2017" / image["file_name"], 320, 240)
    return folder


def panoptic_manual(folder: Path) -> Path:
    points = np.hstack([hand_px(), np.ones((21, 1))])
    points[3] = (0, 0, 0)
    for name, left in (("000015774_01_l", 1), ("000015774_01_r", 0)):
        write_json(folder / "hand_labels" / "manual_test" / f"{name}.json", {
            "hand_pts": points.tolist(), "hand_box_center": [90.0, 70.0], "is_left": left, "mpii_image": "x.jpg"})
        picture(folder / "hand_labels" / "manual_test" / f"{name}.jpg", 320, 240)
    return folder


def panoptic_dome(folder: Path) -> Path:
    points = np.hstack([hand_px(), np.ones((21, 1))])
    write_json(folder / "hand143_panopticdb" / "hands_v143_14817.json", {"root": [
        {"img_paths": "imgs/00000000.jpg", "img_width": 320.0, "img_height": 240.0, "joint_self": points.tolist(),
         "objpos": [90.0, 70.0], "scale_provided": 0.5}]})
    picture(folder / "hand143_panopticdb" / "imgs" / "00000000.jpg", 320, 240)
    return folder


RHD_K = np.array([[299.0, 0, 160.0], [0, 299.0, 160.0], [0, 0, 1]])


def rhd(folder: Path, extra=None) -> Path:
    order = [0, 4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17]     # file place -> our joint
    joints = np.vstack([hand_m()[order], hand_m(0.1)[order]])
    uv = joints @ RHD_K.T
    visible = np.ones(42)
    visible[21 + 8:] = 0                            # the right hand shows 8 joints only
    label = {"xyz": joints, "uv_vis": np.hstack([uv[:, :2] / uv[:, 2:], visible[:, None]]), "K": RHD_K}
    path = folder / "evaluation" / "anno_evaluation.pickle"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({0: label if extra is None else extra}, protocol=2))
    picture(folder / "evaluation" / "color" / "00000.png", 320, 320)
    return folder


def stb(folder: Path, camera: str = "BB") -> Path:
    """The file has the palm centre half way between wrist and ring base, then little ... thumb, base to tip."""
    from scipy.io import savemat
    from scipy.spatial.transform import Rotation

    joints = hand_m() * 1000
    palm = (joints[0] + joints[13]) / 2
    rows = np.vstack([palm, joints[17:21], joints[13:17], joints[9:13], joints[5:9], joints[1:5]])
    if camera == "SK":
        turn = Rotation.from_rotvec([0.00531, -0.01196, 0.00301]).as_matrix()
        rows = rows @ turn.T + [-24.0381, -0.4563, -1.2326]
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    savemat(folder / "labels" / f"B1Counting_{camera}.mat", {"handPara": np.stack([rows.T] * 2, axis=2)})
    for number in range(2):
        name = f"BB_left_{number}.png" if camera == "BB" else f"SK_color_{number}.png"
        picture(folder / "images" / "B1Counting" / name, 640, 480)
    return folder


def folder(folder: Path, count: int = 4, width: int = 320, height: int = 240) -> Path:
    K = [[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1]]
    lines = []
    for number in range(count):
        joints = hand_m(0.01 * number)
        uv = joints @ np.array(K).T
        points = uv[:, :2] / uv[:, 2:]
        low, high = points.min(axis=0), points.max(axis=0)
        lines.append({"image": f"images/{number:03d}.png", "width": width, "height": height, "dataset": "made",
                      "group": f"made/{number // 2}", "truth": "independent", "synthetic": False, "exhaustive": True,
                      "ignore": [], "hands": [{
                          "bbox": [*low.tolist(), *(high - low).tolist()], "joints_2d": points.tolist(),
                          "valid_2d": [1] * 21, "joints_3d": joints.tolist(), "valid_3d": [1] * 21,
                          "handedness": "right" if number % 2 else "left", "K": K}]})
        picture(folder / lines[-1]["image"], width, height, number)
    (folder / "annotations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


SAMPLES = {"freihand": freihand, "interhand26m": interhand26m, "hiu_dmtl": hiu_dmtl, "onehand10k": onehand10k,
           "coco_wholebody": coco_wholebody, "coco": coco, "panoptic": panoptic_manual, "rhd": rhd, "stb": stb,
           "folder": folder}
"""Name in DATASETS: writer of a sample."""
