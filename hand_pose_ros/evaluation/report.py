"""Results as JSON for machines, Markdown for reviews, and one HTML page, self-contained, for people."""
from __future__ import annotations

import html
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from ..errors import DataError
from ..skeleton import JOINT_NAMES
from . import anchors, attributes, cases, datasets, figures, metrics, weak_points, work
from .predictions import Row
from .predictions import write as write_whole
from .scoring import COLUMNS, HandScore, ImageScore, headline, shown

TITLES = {
    "images": "images", "hands": "hands", "recall": "recall %", "precision": "precision %", "nme": "NME %",
    "nme_median": "median NME %", "nme_area": "NME (area) %", "epe_px": "EPE px",
    "epe_joints_px": "EPE px over joints", "pck_0.1": "PCK@0.1 %", "pck_0.2": "PCK@0.2 %",
    "pck_0.2_all": "PCK@0.2 all %", "auc_2d": "AUC 2D", "auc_30px": "AUC 30 px",
    "mpjpe_mm": "MPJPE mm", "scale_mpjpe_mm": "scale-aligned MPJPE mm", "pa_mpjpe_mm": "PA-MPJPE mm",
    "hands_3d": "hands with 3D", "handedness": "handedness %", "images_with_false": "images with false hands",
    "camera_mpjpe_mm": "camera-space MPJPE mm", "pa_mpvpe_mm": "PA-MPVPE mm", "f_5mm": "F@5 mm", "f_15mm": "F@15 mm",
    "mrrpe_mm": "MRRPE mm", "ap": "AP %", "ap50": "AP50 %", "ap75": "AP75 %",
    "auc_3d_0_50": "3D AUC 0-50 mm", "auc_3d_20_50": "3D AUC 20-50 mm",
    "auc_scale_0_50": "scale-aligned 3D AUC 0-50 mm", "auc_scale_20_50": "scale-aligned 3D AUC 20-50 mm",
    "auc_pa_0_50": "aligned 3D AUC 0-50 mm",
    "auc_pa_20_50": "aligned 3D AUC 20-50 mm", "coverage_1sigma_ray": "within 1 sigma along the ray % (68.3)",
    "coverage_2sigma_ray": "within 2 sigma along the ray % (95.4)", "nees_ray": "NEES along the ray (1)",
    "coverage_1sigma_across": "within 1 sigma across % (68.3)",
    "coverage_2sigma_across": "within 2 sigma across % (95.4)", "nees_across": "NEES across (1)",
    "jitter_px": "jitter px", "jitter_mm_s2": "jitter mm/s2", "acceleration_error_mm_s2": "acceleration error mm/s2"}
HIGHER_IS_BETTER = ("recall", "precision", "pck", "auc", "handedness", "ap", "f_")
NO_DIRECTION = ("images", "hands", "hands_3d")
NEARER_IS_BETTER = ("coverage", "nees")                 # to the number in their title
ANCHOR_NOTE = "Each under its own protocol; ours stands beside it where this run has measured by it on the same part."
CASES = 8
SHEETS = "sheets"
"""Folder within the output for pictures of cases; each run makes it anew."""
OFFSETS = "Mean offset by joint, % of the hand's size: towards the fingers / towards the thumb"


# ------------------------------------------------------------------------------------------------------------- writing

def write_numbers(out: Path, result: dict[str, Any], images: Sequence[ImageScore],
                  earlier: Sequence[dict[str, Any]]) -> None:
    """results.json, hands.jsonl and report.md in ``out``."""
    write_whole(out / "results.json", [json.dumps(_plain(result), indent=1, sort_keys=True) + "\n"])
    write_whole(out / "hands.jsonl", (json.dumps(_hand_row(hand)) + "\n" for image in images for hand in image.hands))
    write_whole(out / "report.md", [markdown(result, earlier)])


def write_pages(out: Path, result: dict[str, Any], images: Sequence[ImageScore], rows: dict[str, Row],
                units: Sequence[dict[str, Any]], run: dict[str, Any], earlier: Sequence[dict[str, Any]],
                found: cases.Cases) -> None:
    """sheets/, weak_points.md and report.html in ``out``."""
    shutil.rmtree(out / SHEETS, ignore_errors=True)
    sheets = cases.write_sheets(out / SHEETS, found)
    weak = weak_points.tables(images, found) if images else None
    if weak:
        write_whole(out / "weak_points.md", [weak_points_text(result, weak, found)])
    write_whole(out / "report.html", [page(result, images, rows, units, run, earlier, found, sheets, weak)])


def read_run(path: str | Path) -> dict[str, Any]:
    """The results of an earlier run, from its folder or its results.json. Raises DataError if it is none."""
    path = Path(path)
    path = path / "results.json" if path.is_dir() else path
    try:
        result = json.loads(path.read_text("utf8"))
        result["metrics"] = {key: float("nan") if value is None else value for key, value in result["metrics"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not the results.json of a run ({type(error).__name__}: {error})") from error
    return {**result, "name": path.parent.name}


def _plain(value: Any) -> Any:
    """JSON without NaN, numpy types or -0."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, (float, np.floating)):
        return None if not np.isfinite(value) else float(value) + 0.0
    return int(value) if isinstance(value, np.integer) else value


def _hand_row(hand: HandScore) -> dict[str, Any]:
    return _plain({"image": hand.image, "hand": hand.index, "subset": hand.subset, "group": hand.group,
                   "size_px": hand.size_px, **hand.attributes, "found": hand.found, "iou": hand.iou,
                   "fault": hand.fault,
                   "score": hand.score, "side_right": hand.side_right, "nme": hand.nme, "mpjpe_mm": hand.mpjpe_mm,
                   "pa_mpjpe_mm": hand.pa_mpjpe_mm, "camera_mpjpe_mm": hand.camera_mpjpe_mm})


def summary_text(result: dict[str, Any]) -> str:
    """A few lines for the terminal."""
    lines = [f"{result['frames']} frames"]
    if result["tables"]:
        lines.append(_text_table(_main_table(result)))
    for name, facts in result["tracks"].items():
        lines.append(f"{name}: a hand in {facts['frames_with_hand']} of {facts['frames']} frames, "
                     f"{facts['tracks']} tracks, detector ran {facts['detector_ran']} times"
                     + (f", jitter {facts['jitter_px']:.2f} px" if facts["jitter_px"] is not None else ""))
    for problem, count in result["problems"].items():
        lines.append(f"{count} x {problem}")
    for name, reason in result["failed_units"].items():
        lines.append(f"FAILED {name}: {reason}")
    return "\n".join(lines)


def _text_table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(w) if k else cell.ljust(w) for k, (cell, w) in enumerate(zip(row, widths)))
                     for row in rows)


# -------------------------------------------------------------------------------------------------------------- tables

PARTS = (("Finding hands, and joints in the image", (
    "images", "hands", "recall", "precision", "images_with_false", "ap50", "nme", "nme_median", "epe_px",
    "pck_0.1", "pck_0.2", "pck_0.2_all", "auc_2d", "handedness")),
         ("Joints in space", ("hands", "hands_3d", "mpjpe_mm", "scale_mpjpe_mm", "pa_mpjpe_mm", "camera_mpjpe_mm",
                              "auc_3d_20_50", "auc_scale_20_50", "auc_3d_0_50", "auc_pa_0_50", "pa_mpvpe_mm", "f_5mm",
                              "f_15mm")))
"""The main table in two, so that each fits a page."""


def _blocks(table: Sequence[Sequence[str]], result: dict[str, Any]) -> set[int]:
    """Rows of a main table at which a new kind of row starts: all sets together, sizes."""
    names = [row[0] for row in table]
    starts = [next((k for k, name in enumerate(names) if test(name)), None) for test in (
        lambda name: name in result["tables"]["kinds"], lambda name: name.startswith("size "))]
    return {k for k in starts if k}


def _main_table(result: dict[str, Any], columns: Sequence[str] = COLUMNS, needs: str = "hands") -> list[list[str]]:
    """Header and one row per subset, kind of label, and size, with the columns that have anything in them.

    Rows that have none of ``needs`` are left out.
    """
    tables = result["tables"]
    parts = ("subsets", "kinds") if len(tables["subsets"]) > 1 else ("subsets",)
    rows = [(name, row) for part in parts for name, row in tables[part].items()]
    every = ", every label" if result.get("over") else ""
    rows += [(f"size {name}{every}", row) for name, row in tables["by"]["size"].items()]
    rows = [(name, row) for name, row in rows if needs == "hands" or row.get(needs)]
    columns = [c for c in columns if any(shown(c, row.get(c, np.nan)) not in ("-", "0") for _, row in rows)]
    out = [["set", *[TITLES[c] for c in columns]]]
    out += [[name, *["" if c not in row else shown(c, row[c]) for c in columns]] for name, row in rows]
    mean = tables.get("mean_of_real_subsets")
    if mean:
        cells = ["" if np.isnan(mean.get(c, np.nan)) else f"{mean[c]:.{3 if c == 'auc_2d' else 1}f}" for c in columns]
        place = 1 + sum(not name.startswith("size ") for name, _ in rows)
        out.insert(place, [f"mean of the {mean['subsets']} real sets", *cells])
    return out


def _metric_rows(result: dict[str, Any]) -> list[list[str]]:
    """Every metric with its interval."""
    out = [["metric", "value", "95 % interval"]]
    for name, value in result["metrics"].items():
        if name in ("images", "hands", "hands_3d") or value is None or np.isnan(value):
            continue
        low, high = result["intervals"].get(name, (np.nan, np.nan))
        known = low is not None and high is not None and np.isfinite([low, high]).all()
        span = f"{shown(name, low)} to {shown(name, high)}" if known else ""
        out.append([TITLES.get(name, name), shown(name, value), span])
    return out


def direction(metric: str) -> int:
    """+1 if more is better, -1 if less is, 0 if neither."""
    if metric in NO_DIRECTION or metric.startswith(NEARER_IS_BETTER):
        return 0
    return 1 if metric.startswith(HIGHER_IS_BETTER) else -1


def comparison(result: dict[str, Any], earlier: dict[str, Any]) -> list[list[str]]:
    """What got better or worse. A change inside the earlier run's own interval is called small."""
    rows = [["metric", "before", "now", "change", ""]]
    for name, now in result["metrics"].items():
        before = earlier["metrics"].get(name)
        if before is None or now is None or not np.isfinite([before, now]).all() or name in ("images", "hands"):
            continue
        sign = direction(name)
        low, high = (earlier["intervals"].get(name) or (None, None))
        small = low is not None and high is not None and low <= now <= high
        word = "same" if shown(name, now) == shown(name, before) else "" if sign == 0 else \
            ("better" if (now - before) * sign > 0 else "worse") + (" (small)" if small else "")
        change = "" if word == "same" else shown(name, now - before)
        rows.append([TITLES.get(name, name), shown(name, before), shown(name, now),
                     change if not change or change.startswith("-") else f"+{change}", word])
    return rows


_SAME = ("kind", "name", "folder", "split", "protocol", "images", "realtime", "recorded", "recordings")


def _comparable(result: dict[str, Any], earlier: dict[str, Any]) -> str:
    """A warning if two runs did not measure the same thing; "" if they did."""
    before, now = ({**run["source"], "min_iou": run["run"].get("min_iou")} for run in (earlier, result))
    keys = [key for key in (*_SAME, "min_iou") if before.get(key) != now.get(key)]
    return "" if not keys else "The two runs differ in " + ", ".join(
        f"{key} ({before.get(key)} before, {now.get(key)} now)" for key in keys) + ": read differences with care."


def compare_text(runs: Sequence[dict[str, Any]]) -> str:
    """Two runs beside each other, the first as the earlier one, as Markdown."""
    before, now = runs[0], runs[1]
    warning = _comparable(now, before)
    return "\n".join([f"{before['name']} (before), {now['name']} (now)", *([warning] if warning else []), "",
                      _markdown_table(comparison(now, before))])


def _markdown_table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" + "|---:" * (len(rows[0]) - 1) + "|", *lines[1:]])


def _anchor_rows(result: dict[str, Any]) -> list[list[str]]:
    rows = [["method", "metric", "value", "ours", "protocol", "source"]]
    for anchor in anchors.ANCHORS.get(result["source"].get("name", ""), ()):
        ours = shown(anchor.metric, result["metrics"].get(anchor.metric, np.nan)) \
            if anchors.comparable(anchor, result["source"]) else "not comparable"
        rows.append([anchor.method, TITLES[anchor.metric], f"{anchor.value:g}", ours, anchor.protocol, anchor.source])
    return rows if len(rows) > 1 else []


# ------------------------------------------------------------------------------------------------------------ Markdown

def markdown(result: dict[str, Any], earlier: Sequence[dict[str, Any]]) -> str:
    """The report without pictures."""
    parts = [f"# {_title(result)}", "", f"Protocol: {anchors.protocol(result['source'])}.", ""]
    if result["tables"]:
        parts += ["## Result", "", _markdown_table(_main_table(result)), "", _markdown_table(_metric_rows(result)), ""]
    elif result["source"]["kind"] != "dataset":
        parts += ["No truth: neither the recordings nor a labels file hold labelled hands.", ""]
    if result["tracks"]:
        parts += ["## Recordings", "", _markdown_table(_track_rows(result)), ""]
        if _camera_rows(result):
            parts += [_markdown_table(_camera_rows(result)), ""]
    for run in earlier:
        warning = _comparable(result, run)
        parts += [f"## Compared with {run['name']}", "", *([warning, ""] if warning else []),
                  _markdown_table(comparison(result, run)), ""]
    if _anchor_rows(result):
        parts += ["## Published figures", "", ANCHOR_NOTE, "",
                  _markdown_table(_anchor_rows(result)), ""]
    parts += ["## Problems", "", *_problem_lines(result), ""]
    parts += ["## Run", "", *[f"- {name}: {value}" for name, value in _facts(result)], ""]
    return "\n".join(parts)


def weak_points_text(result: dict[str, Any], weak: weak_points.Tables, found: cases.Cases) -> str:
    """Where accuracy is lost, as Markdown tables."""
    parts = [f"# Where accuracy is lost: {_title(result)}", "", "## What went wrong", "",
             _markdown_table(weak.faults), ""]
    for title, table in _weak_tables(weak):
        if len(table) > 1:
            parts += [f"## {title}", "", _markdown_table(table), ""]
    if found.reasons:
        parts += ["## Missed hands", "", *[f"- {name}, hand {index}: {reason}"
                                           for (name, index), reason in sorted(found.reasons.items())], ""]
    return "\n".join(parts)


def _weak_tables(weak: weak_points.Tables) -> list[tuple[str, weak_points.Table]]:
    """Titles and tables; what is over all sets says over which of their labels."""
    over = f" (over {weak.over})" if weak.over else ""
    return [*((name or f"All sets{over}", table) for name, table in weak.attributes.items()),
            (f"Error by joint, NME %{over and f', all{over}'}", weak.joints), (OFFSETS, weak.offsets)]


def _title(result: dict[str, Any]) -> str:
    source = result["source"]
    if source["kind"] == "dataset":
        title = datasets.module(source["name"]).TITLE
        return f"Evaluation on {title}" + (f" in {source['folder']}" if source["name"] == "folder" else
                                           f", {source['split']}")
    names = source["recordings"]
    return f"Evaluation of {names[0] if len(names) == 1 else f'{len(names)} recordings'}"


def _track_rows(result: dict[str, Any]) -> list[list[str]]:
    rows = [["recording", "frames", "seconds", "with a hand", "tracks", "longest track", "detector ran", "jitter px",
             "jitter mm/s2", "acceleration error mm/s2"]]
    for name, facts in result["tracks"].items():
        number = [("-" if facts[key] is None else f"{facts[key]:.{digits}f}")
                  for key, digits in (("jitter_px", 2), ("jitter_mm_s2", 0), ("acceleration_error_mm_s2", 0))]
        rows.append([name, str(facts["frames"]), f"{facts['seconds']:.1f}", str(facts["frames_with_hand"]),
                     str(facts["tracks"]), str(facts["longest_track_frames"]), str(facts["detector_ran"]), *number])
    return rows


def _camera_rows(result: dict[str, Any]) -> list[list[str]]:
    """Which topics were read, and where the camera is, of each recording."""
    rows = [["recording", "images", "calibration", "camera frame", "mounted (/tf_static)"]]
    for name, camera in result["source"].get("cameras", {}).items():
        mount = camera["mount"]
        place = "not said" if not mount else "in {} at ({}) m, quaternion ({})".format(
            mount["parent"],
            *(", ".join(f"{value:.3f}" for value in mount[key]) for key in ("translation", "rotation")))
        rows.append([name, camera["image_topic"], camera["info_topic"] or "none", camera["frame_id"], place])
    return rows if len(rows) > 1 else []


def _problem_lines(result: dict[str, Any]) -> list[str]:
    lines = [f"- {count} x {problem}" for problem, count in result["problems"].items()]
    lines += [f"- not evaluated: {name}: {reason}" for name, reason in result["failed_units"].items()]
    return lines or ["None."]


def _facts(result: dict[str, Any]) -> list[tuple[str, str]]:
    run, source = result["run"], result["source"]
    facts = [("commit", run.get("commit") or "unknown"), ("frames", str(result["frames"]))]
    facts += [(f"{kind} model", f"{model['name']}, sha256 {model['sha256']}") for kind, model in run["models"].items()]
    if result.get("runtime"):
        facts.append(("runtime", result["runtime"]))
    if source.get("licence"):
        facts.append(("licence of the data", source["licence"]))
    facts.append(("latency per stage", "latency.md and latency.json beside this page: the only files that "
                  "differ between two runs"))
    facts.append(("settings", ", ".join(f"{key}={value}" for key, value in sorted(run["settings"].items()))))
    return facts


# ---------------------------------------------------------------------------------------------------------------- HTML

STYLE = """
:root{color-scheme:light}body{font:15px/1.5 system-ui,sans-serif;color:#1f2937;background:#fff;margin:0}
main{max-width:1160px;margin:0 auto;padding:24px}h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:34px 0 10px;
border-bottom:1px solid #e5e7eb;padding-bottom:4px}
h3{font-size:15px;margin:16px 0 6px}.lead{color:#4b5563;margin:0 0 18px}
.cards{display:flex;flex-wrap:wrap;gap:12px}
.card{border:1px solid #e5e7eb;border-radius:8px;padding:10px 16px;min-width:120px}
.card b{display:block;font-size:24px;font-weight:600}.card span{color:#6b7280;font-size:13px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:12.5px;margin:8px 0}th,td{padding:3px 6px;text-align:right;
border-bottom:1px solid #e5e7eb;font-variant-numeric:tabular-nums}th{background:#f9fafb;vertical-align:bottom}
th:first-child,td:first-child{text-align:left}td.text,th.text{text-align:left}
tr.block td{border-top:2px solid #9ca3af}
.better{color:#047857}.worse{color:#b91c1c}.row{display:flex;flex-wrap:wrap;gap:26px;align-items:flex-start}
.pictures{display:flex;flex-wrap:wrap;gap:10px}figure{margin:0;width:220px}figure.thumb{width:116px}
figure img{width:100%;border-radius:6px;display:block}figcaption{font-size:12px;color:#4b5563;overflow-wrap:anywhere}
svg text{font:12px system-ui,sans-serif;fill:#374151}svg rect{shape-rendering:crispEdges}
svg .grid{stroke:#e5e7eb}svg .bone{stroke:#cbd5e1;stroke-width:5;
stroke-linecap:round}svg .joint{font-size:9px;fill:#111827}svg .faint,.faint{fill:#9ca3af;color:#9ca3af}
svg{max-width:100%;height:auto}details{margin:10px 0}summary{cursor:pointer}
.note{background:#fffbeb;border:1px solid #fde68a;border-radius:6px;padding:8px 12px}
"""


def page(result: dict[str, Any], images: Sequence[ImageScore], rows: dict[str, Row], units: Sequence[dict[str, Any]],
         run: dict[str, Any], earlier: Sequence[dict[str, Any]], found: cases.Cases,
         sheets: dict[str, dict[str, str]], weak: weak_points.Tables | None) -> str:
    """The whole HTML page."""
    body = [f"<h1>{_e(_title(result))}</h1><p class=lead>{_e(anchors.protocol(result['source']))}.</p>", _cards(result)]
    if result["tables"]:
        body.append("<h2>Result</h2>")
        for title, columns in PARTS:
            table = _main_table(result, columns, "hands_3d" if "hands_3d" in columns else "hands")
            if len(table) > 1 and len(table[0]) > 2:
                body.append(f"<h3>{title}</h3><div class=scroll>{_table(table, blocks=_blocks(table, result))}</div>")
    elif result["source"]["kind"] != "dataset":
        body.append("<p class=note>No truth: neither the recordings nor a labels file hold labelled hands, so nothing "
                    "is scored. What can be told without truth is below.</p>")
    for other in earlier:
        warning = _comparable(result, other)
        table = comparison(result, other)
        changed = [row for row in table if row[4] != "same"]
        equal = f"<p class=faint>{len(table) - len(changed)} other metrics are the same.</p>"
        body += [f"<h2>Compared with {_e(other['name'])}</h2>", f"<p class=note>{_e(warning)}</p>" if warning else "",
                 f"<div class=scroll>{_table(changed)}</div>" if len(changed) > 1 else "",
                 equal if len(table) > len(changed) else ""]
    if images:
        chosen, over = headline(images), _over(result["over"])
        body += [_curve_section(chosen, over), _calibration_section(chosen, over), _joint_section(chosen, over),
                 _weak_section(weak)]
    body += [_recording_section(result, rows, units, run)]
    if images:
        body.append(_case_section(images, found, sheets))
        body += ["<h2>All metrics</h2><div class=scroll>", _table(_metric_rows(result)), "</div>"]
    if _anchor_rows(result):
        body += ["<h2>Published figures</h2><p>", ANCHOR_NOTE, " Ours: ",
                 _e(anchors.protocol(result["source"])), ".</p><div class=scroll>",
                 _table(_anchor_rows(result), text=(0, 1, 4, 5)),
                 "</div>"]
    body.append("<h2>Problems</h2><ul>" + "".join(f"<li>{_e(line[2:] if line.startswith('- ') else line)}</li>"
                                                  for line in _problem_lines(result)) + "</ul>")
    body.append("<h2>Run</h2><table>" + "".join(f"<tr><td>{_e(a)}</td><td class=text>{_e(b)}</td></tr>"
                                                for a, b in _facts(result)) + "</table>")
    return (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width,initial-scale=1"><title>{_e(_title(result))}</title><style>{STYLE}</style>'
            f'</head><body><main>{"".join(body)}</main></body></html>\n')


def _e(text: str) -> str:
    return html.escape(str(text))


def _table(rows: Sequence[Sequence[str]], text: Sequence[int] = (0,), blocks: Sequence[int] | set[int] = ()) -> str:
    """text: columns of words, to be set from the left. blocks: rows with a line above them."""
    def cell(k: int, value: str) -> str:
        kind = " class=better" if value.startswith("better") else " class=worse" if value.startswith("worse") else \
            " class=text" if k in text else ""
        return f"<td{kind}>{_e(value)}</td>"

    head = "".join(f"<th{' class=text' if k in text else ''}>{_e(value)}</th>" for k, value in enumerate(rows[0]))
    return f"<table><tr>{head}</tr>" + "".join(
        f"<tr{' class=block' if number in blocks else ''}>" + "".join(cell(k, value) for k, value in enumerate(row))
        + "</tr>" for number, row in enumerate(rows) if number) + "</table>"


def _cards(result: dict[str, Any]) -> str:
    """The headline numbers with their intervals."""
    cards = []
    for name in ("pa_mpjpe_mm", "mpjpe_mm", "camera_mpjpe_mm", "nme", "pck_0.2_all", "recall", "precision", "ap50",
                 "handedness", "jitter_px"):
        value = result["metrics"].get(name)
        if value is not None and np.isfinite(value):
            low, high = result["intervals"].get(name) or (np.nan, np.nan)
            span = f"{shown(name, low)} to {shown(name, high)}" if np.isfinite([low, high]).all() else ""
            digits = shown(name, value)
            cards.append(f"<div class=card><b>{digits}</b>{_e(TITLES[name])}<br><span>{span}&nbsp;</span></div>")
    return f"<div class=cards>{''.join(cards)}</div>{_over(result.get('over')) if cards else ''}"


def _over(words: str | None) -> str:
    """Says below a heading what its figures are over, where that is not everything or of different worth."""
    return f"<p class=faint>Over {_e(words)}.</p>" if words else ""


def _curve_section(images: Sequence[ImageScore], over: str) -> str:
    hands = [hand for image in images for hand in image.hands if hand.found]
    shares = [hand.errors_px / hand.extent_px for hand in hands if np.isfinite(hand.errors_px).any()]
    out = []
    if shares:
        flat = np.concatenate(shares)
        flat = flat[np.isfinite(flat)]
        missed = sum(hand.labelled_joints for image in images for hand in image.hands if not hand.found)
        x = metrics.PCK_2D_THRESHOLDS
        out.append("<div><h3>2D: joints within a share of the hand's size</h3>" + figures.curves([
            ("found hands", x, metrics.pck(flat, x)),
            ("all hands", x, metrics.pck(np.concatenate([flat, np.full(missed, np.nan)]), x))],
            "error / size of the hand", "joints, %") + "</div>")
    series = []
    for name, key in (("wrist at origin", "errors_mm"), ("aligned (PA)", "pa_errors_mm")):
        flat = np.concatenate([getattr(hand, key) for hand in hands] or [np.zeros(0)])
        flat = flat[np.isfinite(flat)]
        if flat.size:
            x = np.linspace(0, 50, 101)
            series.append((name, x, metrics.pck(flat, x)))
    if series:
        drawn = figures.curves(series, "error, mm", "joints, %")
        out.append(f"<div><h3>3D: joints within a distance</h3>{drawn}</div>")
    return f"<h2>PCK curves</h2>{over}<div class=row>{''.join(out)}</div>" if out else ""


def _calibration_section(images: Sequence[ImageScore], over: str) -> str:
    """How often the error is within what the stated uncertainty says, against how often it should be."""
    hands = [hand for image in images for hand in image.hands if hand.found]
    x, series = np.linspace(0.0, 1.0, 41), []
    for name, title in (("ray", "along the viewing ray"), ("across", "across it")):
        errors = np.concatenate([getattr(hand, f"{name}_errors_m") for hand in hands] or [np.zeros(0)])
        sigma = np.concatenate([getattr(hand, f"{name}_sigma_m") for hand in hands] or [np.zeros(0)])
        known = np.isfinite(errors) & np.isfinite(sigma) & (sigma > 0)
        if known.any():
            series.append((title, x, metrics.calibration_curve(errors[known], sigma[known], x)))
    if not series:
        return ""
    drawn = figures.curves([*series, ("ideal", x, x)], "stated probability", "errors within it, %")
    return f"<h2>Calibration of the stated uncertainty</h2>{over}<div class=row>{drawn}</div>"


def _joint_section(images: Sequence[ImageScore], over: str) -> str:
    hands = [hand for image in images for hand in image.hands if hand.found]
    out = []
    for title, unit, values in (
            ("2D, share of the hand's size", "% of the hand's size",
             [100 * hand.errors_px / hand.extent_px for hand in hands if np.isfinite(hand.errors_px).any()]),
            ("3D, wrist at the origin", "mm", [h.errors_mm for h in hands if np.isfinite(h.errors_mm).any()]),
            ("3D, aligned (PA)", "mm", [h.pa_errors_mm for h in hands if np.isfinite(h.pa_errors_mm).any()])):
        if values:
            stack = np.array(values)
            counts = np.isfinite(stack).sum(axis=0)
            mean = np.where(counts > 0, np.nansum(stack, axis=0) / np.maximum(counts, 1), np.nan)
            worst = int(np.nanargmax(mean))
            out.append(f"<div><h3>{_e(title)}</h3>{figures.hand(mean, unit)}"
                       f"<p class=faint>largest: {JOINT_NAMES[worst].replace('_', ' ')}</p></div>")
    return f"<h2>Error by joint</h2>{over}<div class=row>{''.join(out)}</div>" if out else ""


def _weak_section(weak: weak_points.Tables) -> str:
    """What went wrong how often, and accuracy by what the hands look like."""
    out = ["<h2>Where accuracy is lost</h2><p class=faint>Every hand counts once, under the first that applies. Why "
           "hands were missed: both networks were asked again (for those on the sheets). Brackets: number of "
           "hands.</p>", _over(weak.over),
           f"<div class=scroll>{_table(weak.faults, text=(0, 3, 5))}</div>"]
    rows = weak.attributes[""]
    titles = [title for title in attributes.TITLES.values() if any(row[0] == title for row in rows)]
    for title in titles:
        start = next(k for k, row in enumerate(rows) if row[0] == title)
        stop = next((k for k in range(start + 1, len(rows)) if rows[k][0]), len(rows))
        parts = []
        for column, unit, count in ((3, "% found", 2), (4, "% NME", 9), (6, "mm PA-MPJPE", 10)):
            bars = [(row[1], float(row[column]), int(row[count])) for row in rows[start:stop]
                    if row[column] != "-" and row[1] != attributes.UNKNOWN]
            if bars:
                parts.append(figures.bars(bars, unit))
        out.append(f"<h3>{_e(title)}</h3><div class=row>{''.join(parts)}</div>")
    for name, table in _weak_tables(weak):
        if len(table) > 1:
            text = (0, 1) if table[0][1] == "group" else (0,)
            out.append(f"<details><summary>{_e(name)}</summary><div class=scroll>{_table(table, text)}</div></details>")
    return "".join(out)


def _recording_section(result: dict[str, Any], rows: dict[str, Row], units: Sequence[dict[str, Any]],
                       run: dict[str, Any]) -> str:
    if not result["tracks"]:
        return ""
    out = ["<h2>Recordings</h2><div class=scroll>", _table(_track_rows(result)),
           _table(_camera_rows(result), text=range(5)) if _camera_rows(result) else "", "</div>",
           "<p class=faint>Blue: right hand, orange: left; the paler, the lower the score. Grey: the detector ran.</p>"]
    for unit in units[:12]:
        own = [row for name, row in rows.items() if name.rpartition("/")[0] == unit["name"]]
        own.sort(key=lambda row: row.stamp_ns)
        if not own:
            continue
        start = own[0].stamp_ns
        frames = [((row.stamp_ns - start) / 1e9, row.detector_ran,
                   [(hand.track_id, hand.handedness or "", hand.score) for hand in row.hands]) for row in own]
        thumbs = sorted(work.part_path(unit, run).with_suffix(".thumbs").glob("*.jpg"), key=lambda path: int(path.stem))
        step = max(1, -(-len(thumbs) // 8))
        pictures = "".join(f'<figure class=thumb><img alt="" src="{_file_url(path)}"><figcaption>'
                           f'{(int(path.stem) - start) / 1e9:.1f} s</figcaption></figure>' for path in thumbs[::step])
        out.append(f"<h3>{_e(unit['name'])}</h3><div class=pictures>{pictures}</div>{figures.timeline(frames)}")
    return "".join(out)


def _file_url(path: Path) -> str:
    import base64

    return "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()


# --------------------------------------------------------------------------------------------------------------- cases

def _case_section(images: Sequence[ImageScore], found: cases.Cases, sheets: dict[str, dict[str, str]]) -> str:
    """Worst, typical, missed and false hands with truth (white) and prediction (colour), and links to the sheets."""
    hands = {(hand.image, hand.index): hand for image in images for hand in image.hands}
    every = {kind: [key for kinds in found.sheets.values() for key in kinds.get(kind, ())] for kind in cases.KINDS}
    every["worst"].sort(key=lambda key: (-hands[key].nme, key))
    every["missed"].sort(key=lambda key: (-hands[key].size_px, key))
    wanted = (("Worst", every["worst"]), ("Typical (round the median)", found.typical),
              ("Missed, the largest first", every["missed"]), ("False hands", every["false"]))
    out = ["<h2>Cases</h2><p class=faint>White: truth. Colours: prediction, one per finger.</p>"]
    for title, keys in wanted:
        shots = [f'<figure><img alt="" src="{figures.data_url(found.shots[key])}"><figcaption>'
                 f'{_e(", ".join(filter(None, found.captions[key])))}</figcaption></figure>'
                 for key in keys[:CASES] if key in found.shots]
        if shots:
            out.append(f"<h3>{_e(title)}</h3><div class=pictures>{''.join(shots)}</div>")
    if sheets:
        lines = [f"{_e(subset)}: " + ", ".join(
            f'<a href="{SHEETS}/{quote(name)}">{_e(cases.KINDS[kind].lower())}</a>' for kind, name in kinds.items())
            for subset, kinds in sheets.items()]
        out.append(f"<h3>Sheets of up to {cases.PER_SHEET} hands of each set</h3><p>Files beside this page. "
                   f"{'; '.join(lines)}.</p>")
    return "".join(out)
