"""Published figures, each with its protocol, to be shown beside ours and never mixed with it.

A protocol is what a number means: where the crop comes from, what is aligned, which joints and test part. Ours is named
in the report in the same words; equal words are needed before two numbers are compared.
"""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Anchor:
    """One published number."""

    method: str
    metric: str                                     # our name of the metric
    value: float                                    # in the unit of our tables: mm, px, percent for shares
    protocol: str
    source: str
    ours: tuple[str, str] | None = None             # our protocol and split that measure the same; None: none does


_FREIHAND = "FreiHAND evaluation set, labelled crop, Procrustes-aligned, mean of 21 joints"
_ZOO = "labelled box (1.25 x), image as stored, PCK and AUC with the model zoo's own thresholds"
_ZOO_SOURCE = "mmpose model zoo"
_IH = "InterHand2.6M v0.0 test (human + machine), labelled box and root depth, wrist-aligned"
_DETECTION = "COCO-WholeBody hands, detection in the whole image"
_AUC = "scale-aligned 3D PCK, area 20-50 mm"

ANCHORS: dict[str, tuple[Anchor, ...]] = {
    "freihand": tuple(Anchor(method, "pa_mpjpe_mm", value, _FREIHAND, source, ("box", "evaluation"))
                      for method, value, source in (
        ("WiLoR", 5.5, "arXiv 2409.12259, Tab. 3"), ("MobRecon", 5.7, "arXiv 2409.12259, Tab. 3"),
        ("Mesh Graphormer", 5.9, "arXiv 2409.12259, Tab. 3"), ("HaMeR", 6.0, "arXiv 2409.12259, Tab. 3"),
        ("METRO", 6.5, "arXiv 2409.12259, Tab. 3"), ("I2L-MeshNet", 7.4, "arXiv 2409.12259, Tab. 3"),
        ("SPLite, Raspberry Pi 5 CPU", 9.0, "arXiv 2510.16396"))),
    "interhand26m": (
        Anchor("InterNet, single hand", "mpjpe_mm", 9.69, _IH, _ZOO_SOURCE),
        Anchor("InterNet, interacting", "mpjpe_mm", 13.72, _IH, _ZOO_SOURCE),
        Anchor("InterNet", "mrrpe_mm", 29.27, _IH, _ZOO_SOURCE)),
    "onehand10k": (
        Anchor("HRNetv2-w18 + DarkPose", "epe_joints_px", 23.96, _ZOO, _ZOO_SOURCE, ("box", "test")),
        Anchor("HRNetv2-w18 + DarkPose", "pck_0.2", 99.0, _ZOO, _ZOO_SOURCE),
        Anchor("MobileNetV2", "epe_joints_px", 28.56, _ZOO, _ZOO_SOURCE, ("box", "test"))),
    "coco_wholebody": (
        Anchor("RTMPose-m 256", "epe_joints_px", 4.51, _ZOO, _ZOO_SOURCE, ("box", "val")),
        Anchor("RTMPose-m 256", "pck_0.2", 81.5, _ZOO, _ZOO_SOURCE),
        Anchor("WiLoR detector, medium", "ap50", 62.48, _DETECTION, "arXiv 2409.12259, Tab. 1"),
        Anchor("MediaPipe", "ap50", 15.43, _DETECTION, "arXiv 2409.12259, Tab. 1")),
    "rhd": (
        Anchor("Minimal-Hand-pytorch DetNet", "auc_scale_20_50", 0.9339, _AUC, "its README"),
        Anchor("HRNetv2-w18 + DarkPose", "epe_joints_px", 2.18, _ZOO, _ZOO_SOURCE)),
    "stb": (Anchor("minimal-hand DetNet + IKNet", "auc_scale_20_50", 0.898, _AUC, "its paper, second-hand"),),
}
"""Data set: published numbers."""


def comparable(anchor: Anchor, source: dict) -> bool:
    """Whether a run has measured what the published number says, on all of the same part. source: the result's.

    Not where ours differs in more than the crop: PCK of the model zoo is relative to its own boxes; InterNet is given
    the true depth of the wrist; of RHD both take one hand a picture, and DetNet has its root and scale in the middle
    knuckle; AP of COCO-WholeBody is over boxes round joints here, labelled ones there, and over pictures with a
    labelled hand only; which part of STB was taken is not said.
    """
    return anchor.ours == (source.get("protocol"), source.get("split")) and bool(source.get("whole"))


def protocol(source: dict) -> str:
    """Our own protocol in words. source: the result's source."""
    if source.get("recorded"):
        return f"hands that a node has published on {source['recorded']} and that the recording holds"
    if source.get("realtime"):
        return "frames of the recording that the node would have taken at this machine's speed; the others are dropped"
    if source["kind"] != "dataset":
        return "every frame of the recording through detector, tracker and pose network, in stamp order"
    where = {"full": "whole image: detector, then joints; missed hands lower recall, not the mean errors",
             "box": "labelled box given, four turns and both sides tried; no detector",
             }.get(source["protocol"], source["protocol"])
    name = source["folder"] if source["name"] == "folder" else f"{source['name']} {source['split']}"
    return f"{name}: {where}; joints compared with the wrist at the origin"
