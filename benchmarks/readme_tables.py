"""Fills the README's generated tables: parameters from the settings, accuracy from scored predictions, times.

    hand-pose score EVAL_FOLDER --out out/score                          # ours: hands found, and boxes given
    python3 benchmarks/readme_tables.py --scores out/score --peer out/peer --peer-name "MediaPipe 0.10.21"
    hand-pose benchmark --video VIDEO --rounds 3 --mediapipe PYTHON --out out/benchmark
    python3 benchmarks/readme_tables.py --benchmark out/benchmark        # table, and its plot into docs/images

A score folder holds scores_found.json and scores_box_given.json as the scorer writes them; for a peer, score its
predictions into such a folder. What is not given stays as it is.
"""
from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from pathlib import Path

from hand_pose_ros import config, models, predict
from hand_pose_ros.errors import DataError
from hand_pose_ros.ros import parameters

README = Path(__file__).resolve().parents[1] / "README.md"
PLOT = README.parent / "docs" / "images" / "benchmark.png"
ROWS = {                                                               # set of the folder -> (what it is, truth)
    "ge_real": "one hand close up (Ge et al. 2019)", "freihand": "FreiHAND", "onehand10k": "OneHand10K",
    "panoptic": "CMU Panoptic, manual", "panoptic_dome": "CMU Panoptic, dome", "interhand2.6m": "InterHand2.6M",
    "rhd": "RHD", "coco_wholebody": "COCO-WholeBody, tiny or gloved",
    "hagrid": "HaGRID, persons at 0.5 to 4 m *", "sign_digits": "sign digits *", "asl_video": "signing *",
    "NEGATIVES": "no hands"}
COLUMNS = (("recall %", "found", "recall"), ("NME %, found", "found", "NME%"),
           ("NME %, box given", "box_given", "NME%"),
           ("PA-MPJPE mm, box given", "box_given", "PA-MPJPE"), ("side right %", "found", "hand%"))


def between(text: str, name: str, content: str) -> str:
    """The text with what stands between the two comments of that name replaced."""
    before, rest = text.split(f"<!-- {name} -->\n")
    _, after = rest.split(f"<!-- /{name} -->")
    return f"{before}<!-- {name} -->\n{content}<!-- /{name} -->{after}"


def read(folder: Path) -> dict:
    """{"found": {set: row}, "box_given": {set: row}} of a score folder. Raises DataError if a file is absent."""
    out = {}
    for kind in ("found", "box_given"):
        path = folder / f"scores_{kind}.json"
        if not path.is_file():
            raise DataError(f"{path} is not there: make it with hand-pose score")
        out[kind] = json.loads(path.read_text())
    return out


def accuracy_table(ours: dict, peer: dict | None, peer_name: str) -> str:
    """Markdown: ours / the peer's in each cell, a set in each row."""
    def cell(scores, kind, name, column):
        value = scores[kind].get(name, {}).get(column, "-")
        return "–" if value == "-" else value

    lines = [f"| photographs | hands | {' | '.join(title for title, _, _ in COLUMNS)} |",
             "|---|---|" + "---|" * len(COLUMNS)]
    for name, title in ROWS.items():
        if name not in ours["found"]:
            continue
        row = ours["found"][name]
        if name == "NEGATIVES":
            false = [f"{row['imgFP']} of {row['img']} images with a false hand"]
            if peer:
                false.append(f"{peer_name}: {peer['found'][name]['imgFP']}")
            lines.append(f"| {title} | 0 | {'; '.join(false)} |" + " |" * (len(COLUMNS) - 1))
            continue
        cells = []
        for _, kind, column in COLUMNS:
            own = cell(ours, kind, name, column)
            cells.append(f"{own} / {cell(peer, kind, name, column)}" if peer else own)
        lines.append(f"| {title} | {row['hands']} | {' | '.join(cells)} |")
    versions = ", ".join(f"{name} {models.card(name)['sha256'][:8]}" for name in ("detector_light", predict.POSE_MODEL))
    note = (f"Ours{' / ' + peer_name if peer else ''}; weights {versions}. NME: mean joint error over the longer side "
            "of the tight box. Rows with * have labels made with MediaPipe and checked by eye, so its own error there "
            "says nothing.")
    return "\n".join([*lines, "", *textwrap.wrap(note, 120)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", type=Path)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--peer-name", default="peer")
    parser.add_argument("--benchmark", type=Path)
    args = parser.parse_args()
    text = between(README.read_text(), "parameters", config.markdown_table(parameters.all_settings()))
    if args.scores:
        table = accuracy_table(read(args.scores), read(args.peer) if args.peer else None, args.peer_name)
        text = between(text, "accuracy", table)
    if args.benchmark:
        text = between(text, "benchmark", (args.benchmark / "benchmark.md").read_text())
        shutil.copyfile(args.benchmark / "benchmark.png", PLOT)
    README.write_text(text)


if __name__ == "__main__":
    main()
