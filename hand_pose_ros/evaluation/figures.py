"""Drawings for the report as SVG text and JPEG data: no plotting library, the same bytes for the same numbers."""
from __future__ import annotations

import base64
import html
from collections.abc import Sequence

import cv2
import numpy as np

from ..annotate import colour_of_joint
from ..skeleton import BONES

COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#4b5563")
LETTER_PX, VALUE_PX, SHORTEST_AXIS_PX = 7.2, 168, 120
"""Width of a letter, of a bar's number and count, and of the longest bar at least."""
HAND_LAYOUT = np.array([
    [50, 96], [33, 84], [22, 70], [14, 58], [7, 47], [36, 52], [33, 35], [31, 23], [29, 12], [49, 49], [49, 30],
    [49, 17], [49, 5], [62, 52], [65, 34], [66, 22], [67, 11], [74, 58], [80, 44], [83, 35], [86, 26]], float)
"""A right hand seen from its back, percent of the drawing: x, y of the 21 joints."""


def data_url(rgb: np.ndarray, quality: int = 85) -> str:
    """A picture as a JPEG data URL. rgb: (H, W, 3) uint8."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def curves(series: Sequence[tuple[str, np.ndarray, np.ndarray]], x_label: str, y_label: str, width: int = 460,
           height: int = 300) -> str:
    """Lines over a common axis; y from 0 to 1 shown in percent. series: (name, x (N,), y (N,))."""
    left, right, top, bottom = 52, 14, 14, 44
    high = max(float(x[-1]) for _, x, _ in series)
    wide = max(126, 24 + round(LETTER_PX * max(len(name) for name, _, _ in series)))

    def at(x: float, y: float) -> tuple[float, float]:
        return left + (width - left - right) * x / high, height - bottom - (height - top - bottom) * y

    # The legend lies where no line runs: at the lower right, else at the upper left.
    legend, first = width - right - wide, height - bottom - 12 - 17 * (len(series) - 1)
    if any(x >= legend - 4 and y >= first - 14 for _, xs, ys in series for x, y in map(at, xs, ys)):
        legend, first = left + 8, top + 14

    parts = [_svg(width, height)]
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1.0):
        x, y = at(0, tick)
        parts.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{width - right}" y2="{y:.1f}" class="grid"/>'
                     f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{100 * tick:.0f}</text>')
    for k in range(6):
        x, y = at(high * k / 5, 0)
        parts.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{y:.1f}" class="grid"/>'
                     f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{high * k / 5:g}</text>')
    for number, (name, xs, ys) in enumerate(series):
        points = " ".join(f"{px:.1f},{py:.1f}" for px, py in (at(float(x), float(y)) for x, y in zip(xs, ys)))
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = first + 17 * number
        parts.append(f'<rect x="{legend}" y="{y - 9}" width="12" height="4" fill="{colour}"/>'
                     f'<text x="{legend + 18}" y="{y - 3}">{html.escape(name)}</text>')
    parts.append(f'<text x="{(left + width) / 2:.0f}" y="{height - 8}" text-anchor="middle">'
                 f'{html.escape(x_label)}</text>'
                 f'<text transform="translate(14 {height / 2:.0f}) rotate(-90)" text-anchor="middle">'
                 f'{html.escape(y_label)}</text></svg>')
    return "".join(parts)


def hand(values: np.ndarray, unit: str, width: int = 300) -> str:
    """A drawn hand with one number and colour per joint: green for small, red for large. values: (21,), NaN: grey."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    height = width * 1.1
    place = HAND_LAYOUT / 100 * (width, height)
    parts = [_svg(width, int(height))]
    for a, b in BONES:
        (x0, y0), (x1, y1) = place[a], place[b]
        parts.append(f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" class="bone"/>')
    for (x, y), value in zip(place, values):
        share = (value - low) / max(high - low, 1e-9)
        fill = "#9ca3af" if not np.isfinite(value) else f"hsl({130 * (1 - share):.0f} 70% 62%)"
        text = "-" if not np.isfinite(value) else f"{value:.1f}" if value < 99.5 else f"{value:.0f}"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="12.5" fill="{fill}" stroke="#fff"/>'
                     f'<text x="{x:.1f}" y="{y + 3.5:.1f}" text-anchor="middle" class="joint">{text}</text>')
    parts.append(f'<text x="4" y="{height - 4:.0f}">{html.escape(unit)}</text></svg>')
    return "".join(parts)


def bars(rows: Sequence[tuple[str, float, int]], unit: str, width: int = 330) -> str:
    """Horizontal bars. rows: (label, value, number of hands)."""
    rows = [row for row in rows if np.isfinite(row[1])]
    if not rows:
        return "<p>Nothing to show.</p>"
    high, step = max(value for _, value, _ in rows) or 1.0, 24
    left = max(78, 12 + round(LETTER_PX * max(len(label) for label, _, _ in rows)))
    width = max(width, left + VALUE_PX + SHORTEST_AXIS_PX)
    parts = [_svg(width, step * len(rows) + 8)]
    for number, (label, value, count) in enumerate(rows):
        y, length = 6 + step * number, (width - left - VALUE_PX) * value / high
        parts.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{html.escape(label)}</text>'
                     f'<rect x="{left}" y="{y + 1}" width="{length:.1f}" height="16" rx="2" fill="{COLOURS[0]}"/>'
                     f'<text x="{left + length + 6:.1f}" y="{y + 13}">{value:.1f} {html.escape(unit)} '
                     f'<tspan class="faint">({count})</tspan></text>')
    return "".join(parts) + "</svg>"


def timeline(frames: Sequence[tuple[float, bool, Sequence[tuple[int, str, float]]]], width: int = 960) -> str:
    """Tracks of a recording over time. frames: (seconds, detector ran, hands as (track id, side, score)), in order."""
    ids = sorted({track for _, _, hands in frames for track, _, _ in hands})
    lanes = {track: lane for lane, track in enumerate(ids[:12])}
    length = max(frames[-1][0], 1e-9)
    left, step = 74, 20
    height = 34 + step * max(len(lanes), 1) + 26

    def x(seconds: float) -> float:
        return left + (width - left - 26) * seconds / length

    wide = max(0.8, (width - left - 26) / max(len(frames), 1)) + 0.6           # no seams between neighbours
    parts = [_svg(width, height), f'<text x="{left - 8}" y="18" text-anchor="end">detector</text>']
    for seconds, ran, hands in frames:
        if ran:
            parts.append(f'<rect x="{x(seconds):.1f}" y="8" width="{wide:.2f}" height="12" fill="#9ca3af"/>')
        for track, side, score in hands:
            if track in lanes:
                colour = COLOURS[0] if side == "right" else COLOURS[3] if side == "left" else COLOURS[7]
                opacity = 0.25 + 0.75 * min(max(score, 0.0), 1.0)
                parts.append(f'<rect x="{x(seconds):.1f}" y="{30 + step * lanes[track]}" width="{wide:.2f}" '
                             f'height="14" fill="{colour}" fill-opacity="{opacity:.2f}"/>')
    for track, lane in lanes.items():
        parts.append(f'<text x="{left - 8}" y="{41 + step * lane}" text-anchor="end">hand {track}</text>')
    base = 30 + step * max(len(lanes), 1) + 4
    for k in range(7):
        at = length * k / 6
        parts.append(f'<text x="{x(at):.1f}" y="{base + 14}" text-anchor="middle">{at:.1f} s</text>')
    more = f'<text x="{left}" y="{base}" class="faint">{len(ids) - 12} more tracks</text>' if len(ids) > 12 else ""
    return "".join(parts) + more + "</svg>"


def _svg(width: int, height: int) -> str:
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" xmlns="http://www.w3.org/2000/svg">'


def case(rgb: np.ndarray, truth_px: np.ndarray | None, predicted_px: np.ndarray | None, box: np.ndarray,
         size: int = 220) -> np.ndarray:
    """A square picture of one hand with the truth (white, thin) and the prediction (coloured). (size, size, 3) uint8.

    truth_px, predicted_px: (21, 2) or None; NaN joints are left out. box: (4,) x0 y0 x1 y1 round which to cut.
    """
    points = [p for p in (truth_px, predicted_px) if p is not None]
    corners = np.concatenate([box.reshape(2, 2), *[p[np.isfinite(p).all(axis=1)] for p in points]])
    centre = (corners.min(axis=0) + corners.max(axis=0)) / 2
    half = max(float((corners.max(axis=0) - corners.min(axis=0)).max()) * 0.65, 12.0)
    scale = size / (2 * half)
    matrix = np.array([[scale, 0, size / 2 - scale * centre[0]], [0, scale, size / 2 - scale * centre[1]]])
    out = cv2.warpAffine(rgb, matrix, (size, size), flags=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
                         borderValue=(40, 40, 40))
    for joints, truth in ((predicted_px, False), (truth_px, True)):
        if joints is None:
            continue
        moved = joints * scale + matrix[:, 2]
        for a, b in BONES:
            if np.isfinite(moved[[a, b]]).all():
                ends = [tuple(int(round(v)) for v in np.clip(moved[k], -9999, 9999)) for k in (a, b)]
                if truth:
                    cv2.line(out, *ends, (0, 0, 0), 3, cv2.LINE_AA)
                cv2.line(out, *ends, (255, 255, 255) if truth else colour_of_joint(b), 1 if truth else 3, cv2.LINE_AA)
    return out
