"""Mixes the weights before and after a round of training, which read photographs better than either.

    python3 -m hand_pose_ros.training.mix OLD_FOLDER pose_light --held-out SHARDS [--eval EVAL_FOLDER]

The same for a detector, whose shards are of frames.

A round that starts from given weights ends in the same valley of the loss, so that weights between the two are good
ones too, and such means carry over better to pictures of another kind (Wortsman et al., Robust fine-tuning of zero-shot
models, CVPR 2022, section 3). The share of the newer weights is chosen on held-out virtual hands alone, best on such
that another version of the renderer has made: on hands like those of the round its own weights always win. The curve in
the card stays that of the training.
"""
from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch

from hand_pose_ros import models, networks, resources
from hand_pose_ros.errors import DataError, HandPoseError, ModelError
from hand_pose_ros.training import measure
from hand_pose_ros.training.export import export
from hand_pose_ros.training.settings import from_dict

MEASURES = {"pose": (measure.pose_on_samples, measure.pose_on_photographs),
            "detector": (measure.detector_on_samples, measure.detector_on_photographs)}
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def mixed(before: dict, after: dict, share: float) -> dict:
    """Weights by name: share of ``after`` and the rest of ``before``; parts that the training added are ``after``'s.
    Raises ModelError if the two do not fit."""
    if any(name not in after or after[name].shape != value.shape for name, value in before.items()):
        raise ModelError("the two models are not of one architecture: mix weights before and after one training")
    return {name: torch.lerp(before[name].float(), value.float(), share)
            if name in before and value.is_floating_point() else value for name, value in after.items()}


def best_share(network: torch.nn.Module, before: dict, after: dict, samples: dict, kind: str = "pose",
               shares=SHARES) -> float:
    """The share that is best on the samples; its weights are then in ``network``. By the error (NME) of a pose network;
    by missed hands and false ones of a detector, %."""
    errors = {}
    for share in shares:
        network.load_state_dict(mixed(before, after, share))
        found = MEASURES[kind][0](network.eval(), samples)
        errors[share] = found["nme"] if kind == "pose" else 100 - found["recall"] + found["false"]
        print(f"{100 * share:.0f} % of the newer weights: {errors[share]:.2f} % on held-out virtual hands", flush=True)
    best = min(errors, key=errors.get)
    network.load_state_dict(mixed(before, after, best))
    return best


def main(arguments=None) -> int:
    """Mix, choose, measure, and write over the newer model. Returns 0, or 1 if it failed and said why."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="folder of the model that the training started from")
    parser.add_argument("after", help="name or folder of the model that it has exported; is written over")
    parser.add_argument("--held-out", type=Path, required=True, help="shards that neither has learnt from")
    parser.add_argument("--eval", type=Path, help="labelled photographs, to be looked at only")
    parser.add_argument("--count", type=int, default=512, help="of held-out pictures")
    args = parser.parse_args(arguments)
    try:
        _mix(args)
    except HandPoseError as error:
        print(f"mix: {error}", file=sys.stderr)
        return 1
    return 0


def _mix(args: argparse.Namespace) -> None:
    where = Path(args.after) if os.sep in args.after else resources.folder("models") / args.after
    old, new = (models.card(folder.name, folder.absolute().parent) for folder in (args.before, where))
    kind, shown = new["kind"], "crops" if new["kind"] == "pose" else "frames"
    paths = tuple(sorted(map(str, args.held_out.glob(f"{shown}*.tar"))))
    if not paths:
        raise DataError(f"{args.held_out}: no shard called {shown}*.tar")
    size = tuple(new["input"][:2])
    samples = measure.held_out(kind, paths, size, args.count)
    network = networks.load(where.name, where.parent)
    after = {name: value.clone() for name, value in network.state_dict().items()}
    share = best_share(network, networks.load(args.before.name, args.before.parent).state_dict(), after, samples,
                       kind)
    on_samples, on_photographs = MEASURES[kind]
    accuracy = {"virtual": on_samples(network, samples)}
    if args.eval:
        accuracy["photographs"] = on_photographs(network, measure.Photographs(args.eval),
                                                 size[0] if kind == "pose" else size)
    settings = from_dict({"architecture": new["architecture"], "options": new["options"], "size": list(size)})
    export(network, settings, where, data=new["data"], accuracy=accuracy, curve=new["curve"],
           latency=new.get("latency"), evidence_needed=new.get("evidence_needed", old.get("evidence_needed")),
           training={**new["training"], "mixed": {"share": share, "with": old["sha256"], "of": new["sha256"]}})
    print(f"{100 * share:.0f} % of the newer weights written to {where}")


if __name__ == "__main__":
    raise SystemExit(main())
