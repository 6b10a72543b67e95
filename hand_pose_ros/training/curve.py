"""log.jsonl of a training -> curve.png: loss, errors on virtual hands and on photographs over images seen."""
from __future__ import annotations

import json
import logging
from pathlib import Path

_log = logging.getLogger(__name__)

MIN_HANDS = 10


def plot(folder: str | Path) -> Path:
    """Draw ``folder``/log.jsonl into ``folder``/curve.png and return its path."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    folder = Path(folder)
    lines = _lines(folder)
    train = [line for line in lines if line["kind"] == "train"]
    measured = [line for line in lines if line["kind"] == "measure"]
    series = {part: _series(measured, part) for part in ("virtual", "photographs")}
    shown = [part for part in series if series[part]]
    figure, axes = plt.subplots(1, 1 + len(shown), figsize=(6 + 5 * len(shown), 4.5), constrained_layout=True,
                                squeeze=False)
    axes = axes[0]
    axes[0].plot([t["images"] for t in train], [t["loss"] for t in train], marker="." if len(train) < 2 else "")
    axes[0].set(title="training loss", xlabel="images seen")
    for axis, part in zip(axes[1:], shown):
        axis.set_prop_cycle(color=plt.get_cmap("tab20").colors)          # more sets than the usual ten
        for name, values in series[part].items():
            axis.plot(*zip(*values), marker=".", label=name)
        axis.set(title={"virtual": "held-out virtual hands (%)", "photographs": "photographs: NME or recall (%)"}[part],
                 xlabel="images seen")
        axis.legend(fontsize=7)
        axis.set_ylim(0, None)
    figure.savefig(folder / "curve.png", dpi=90)
    plt.close(figure)
    return folder / "curve.png"


def points(folder: str | Path, before=()) -> list[dict]:
    """What was measured on the way, for a card: [{"images", "virtual": %, "photographs": {set: %}}], oldest first.

    The number is the NME of a pose network and the recall of a detector. before: the points of the training that this
    one went on from, whose images count. Sets without hands and those of fewer than
    MIN_HANDS hands (of a detector: pictures) are left out.
    """
    start = before[-1]["images"] if len(before) else 0
    out = list(before)
    for line in _lines(Path(folder)):
        if line["kind"] != "measure":
            continue
        sets = {name: row for name, row in (line.get("photographs") or {}).items()
                if isinstance(row, dict) and row.get("hands", row.get("images", 0)) >= MIN_HANDS
                and ("nme" in row or "recall" in row)}
        while len(out) > len(before) and out[-1]["images"] >= start + line["images"]:
            out.pop()                                   # measured again, or trained again from an earlier checkpoint
        out.append({"images": start + line["images"], "virtual": _number(line["virtual"]),
                    **({"photographs": {name: _number(row) for name, row in sets.items()}} if sets else {})})
    return out


def _lines(folder: Path) -> list[dict]:
    """None of a training that is still young: its checkpoint may come before its first line. Those that were cut off
    while they were written are named and left out."""
    log, lines = folder / "log.jsonl", []
    for number, text in enumerate(log.read_text(errors="replace").splitlines() if log.is_file() else (), 1):
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if isinstance(line, dict) and "kind" in line:
            lines.append(line)
        elif text.strip():
            _log.warning("left out: line %d of %s is not whole", number, log)
    return lines


def _number(row: dict) -> float:
    value = row.get("nme", row.get("recall"))
    return float("nan") if value is None else round(value, 2)


def _series(measured, part):
    series = {}
    for line in measured:
        for name, value in (line.get(part) or {}).items():
            number = value if not isinstance(value, dict) else value.get("nme", value.get("recall"))
            if number is not None and not name.endswith("calibration"):
                series.setdefault(name, []).append((line["images"], number))
    return series
