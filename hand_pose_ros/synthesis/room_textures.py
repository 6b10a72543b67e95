"""Pictures of walls, floors, furniture and the things in rooms, painted once per process.

Each texture is RGB or RGBA uint8 with halved copies of itself, so that it can be drawn small without aliasing. They are
made from fixed seeds: nothing here depends on the picture being rendered.
"""
from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from hand_pose_ros.synthesis import environment, materials, sensor

_SIZE = 128


@lru_cache(maxsize=1)
def bank() -> dict:
    """Textures by category: {name: [[full (h, w, 3 or 4) uint8, half, quarter, ...], ...]}."""
    rng = np.random.default_rng(23)
    return {name: [_pyramid(painter(rng, k)) for k in range(count)] for name, (painter, count) in _PAINTERS.items()}


def _pyramid(image: np.ndarray) -> list:
    levels = [np.ascontiguousarray(np.clip(image, 0, 255).astype(np.uint8))]
    while min(levels[-1].shape[:2]) > 8:
        h, w = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], (w // 2, h // 2), interpolation=cv2.INTER_AREA))
    return levels


def _flat(color, width: int = _SIZE, height: int = _SIZE) -> np.ndarray:
    return np.broadcast_to(np.asarray(color, np.float32), (height, width, 3)).copy()


def _noise(rng, exponent: float, width: int = _SIZE, height: int = _SIZE) -> np.ndarray:
    field = materials.noise(rng, 128, exponent)[..., 0]
    return cv2.resize(np.roll(field, rng.integers(0, 128, 2), (0, 1)), (width, height))[..., None]


def _grained(rng, image: np.ndarray, strength: float, exponent: float = 0.8) -> np.ndarray:
    h, w = image.shape[:2]
    return image * (1 + strength * _noise(rng, exponent, w, h))


def _tuple(color) -> tuple:
    return tuple(float(c) for c in color)


def wood_color(rng) -> np.ndarray:
    """sRGB (3,) of varnished or painted wood."""
    woods = np.array([[168, 122, 78], [120, 78, 46], [88, 54, 34], [200, 166, 120], [222, 200, 165], [60, 42, 32],
                      [225, 222, 215], [150, 140, 128]], np.float32)
    return np.clip(woods[rng.integers(len(woods))] * np.exp(rng.normal(0, 0.12) + rng.normal(0, 0.04, 3)), 10, 250)


def wall_color(rng) -> np.ndarray:
    """sRGB (3,) of painted walls: mostly whites and pale tints, a few strong ones."""
    u = rng.random()
    if u < 0.45:
        return np.clip(rng.normal(222, 18) * np.array([1.0, rng.uniform(0.95, 1.0), rng.uniform(0.85, 1.0)]), 90, 250)
    hue = rng.choice([rng.integers(180), rng.normal(20, 8)]) % 180
    saturation = rng.uniform(8, 45) if u < 0.94 else rng.uniform(50, 130)
    value = rng.normal(205, 25) if u < 0.94 else rng.uniform(70, 190)
    hsv = np.array([[[hue, np.clip(saturation, 0, 255), np.clip(value, 40, 245)]]], np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)


def _plaster(rng, k):
    return _flat(225) * (1 + rng.uniform(0.005, 0.03) * _noise(rng, 0.4) + rng.uniform(0.01, 0.03) * _noise(rng, 1.4))


def _wallpaper(rng, k):
    image = _flat(218)
    if k % 3 == 0:                               # stripes
        n = int(rng.choice([2, 4, 6, 8]))
        x = np.arange(_SIZE) * n // _SIZE % 2
        image *= np.where(x == 1, rng.uniform(0.82, 0.95), 1.0)[None, :, None]
    else:                                        # a motif, mirrored, on a half-drop grid
        tile = _flat(1.0, 32, 32)
        for _ in range(int(rng.integers(3, 8))):
            centre = tuple(int(v) for v in rng.integers(2, 30, 2))
            axes = tuple(int(v) for v in rng.integers(1, 9, 2))
            tint = 1 + rng.uniform(0.04, 0.2) * rng.choice([-1, 1]) * rng.uniform(0.4, 1, 3)
            cv2.ellipse(tile, centre, axes, float(rng.uniform(0, 180)), 0, 360, _tuple(tint), int(rng.choice([-1, 1])))
        motif = np.hstack([tile, tile[:, ::-1]])
        column = np.vstack([motif, np.roll(motif, 32, 1)])
        image *= np.tile(column, (_SIZE // 64, _SIZE // 64, 1))
    return _grained(rng, image, 0.01)


def _tiles(rng, k):
    n = int(rng.choice([2, 4, 4, 8]))
    image = np.kron(225 * (1 + rng.normal(0, 0.02, (n, n))), np.ones((_SIZE // n, _SIZE // n)))[..., None].repeat(3, 2)
    if k % 2:
        image = _grained(rng, image, 0.05, 1.3)
    step = _SIZE // n
    for i in range(n):
        image[i * step:i * step + 1] *= 0.75
        image[:, i * step:i * step + 1] *= 0.75
    return image


def _brick(rng, k):
    image = _flat(150 if k % 2 else 200)
    image *= np.array([1.0, 0.62, 0.5]) if k % 2 else 1.0
    rows, columns = 8, 4
    for r in range(rows):
        for c in range(-1, columns):
            x = int((c + 0.5 * (r % 2)) * _SIZE / columns)
            y = int(r * _SIZE / rows)
            image[y:y + _SIZE // rows, max(x, 0):x + _SIZE // columns] *= rng.normal(1, 0.09)
            image[y:y + 2] = 190
            if x >= 0:
                image[y:y + _SIZE // rows, x:x + 2] = 190
    return _grained(rng, image, 0.06, 0.5)


def _planks(rng, k):
    n = int(rng.choice([4, 6, 8]))
    base = wood_color(rng)
    image = np.empty((_SIZE, _SIZE, 3), np.float32)
    step = _SIZE / n
    for i in range(n):
        a, b = int(i * step), int((i + 1) * step)
        image[:, a:b] = base * rng.normal(1, 0.07)
        cut = int(rng.integers(_SIZE))
        image[cut:cut + 1, a:b] *= 0.7
        image[:, a:a + 1] *= 0.75
    grain = cv2.resize(materials.noise(rng, 128, 0.5)[:16, :, 0], (_SIZE, _SIZE))
    return image * (1 + 0.07 * grain[..., None])


def _carpet(rng, k):
    image = _flat(wall_color(rng) * rng.uniform(0.35, 0.95))
    return _grained(rng, image, 0.10, 0.15)


def _rug(rng, k):
    colors = [np.array(c, np.float32) for c in ([130, 40, 40], [60, 40, 50], [190, 150, 100], [40, 60, 90],
                                                [210, 195, 170], [100, 80, 60])]
    image = _flat(colors[int(rng.integers(6))])
    for inset in (4, 10, 18, 24):
        cv2.rectangle(image, (inset, inset), (127 - inset, 127 - inset), _tuple(colors[int(rng.integers(6))]),
                      int(rng.choice([-1, 2, 4])))
    quarter = image[:64, :64].copy()
    for _ in range(40):
        centre = tuple(int(v) for v in rng.integers(2, 64, 2))
        axes = tuple(int(v) for v in rng.integers(1, 6, 2))
        cv2.ellipse(quarter, centre, axes, float(rng.choice([0, 45, 90])), 0, 360,
                    _tuple(colors[int(rng.integers(6))]), -1)
    half = np.hstack([quarter, quarter[:, ::-1]])
    return _grained(rng, np.vstack([half, half[::-1]]), 0.06, 0.2)


def _fabric(rng, k):
    tile = materials.patterns()[1 + (5 * k + 2) % (materials.PATTERNS - 1)].astype(np.float32) / 127
    base = wall_color(rng) * rng.uniform(0.3, 1.0)
    image = base * (tile if k % 3 == 0 else 1 + 0.3 * (tile - tile.mean()))
    return _grained(rng, image, 0.05, 0.3) * (1 + 0.05 * _noise(rng, 1.6))


def _panel(rng, base, image, rect, depth=2):
    x0, y0, x1, y1 = rect
    cv2.rectangle(image, (x0, y0), (x1, y1), _tuple(base * 0.62), depth)
    cv2.line(image, (x0 + depth, y1), (x1, y1), _tuple(np.minimum(base * 1.15, 255)), 1)
    cv2.line(image, (x1, y0 + depth), (x1, y1), _tuple(np.minimum(base * 1.15, 255)), 1)


def _wood(rng, base, width, height):
    grain = cv2.resize(materials.noise(rng, 128, 0.6)[:, :24, 0].T if rng.random() < 0.3
                       else materials.noise(rng, 128, 0.6)[:24, :, 0], (width, height))
    strength = 0.015 if base.min() > 180 else 0.09
    return _flat(base, width, height) * (1 + strength * grain[..., None])


def _door(rng, k):
    base = wood_color(rng)
    image = _wood(rng, base, 64, 128)
    frame = np.clip(base * rng.uniform(0.8, 1.25), 0, 250)
    style = k % 4
    if style == 0:
        for y0, y1 in ((12, 60), (70, 118)):
            _panel(rng, base, image, (12, y0, 52, y1))
    elif style == 1:
        for x0, x1 in ((11, 29), (35, 53)):
            for y0, y1 in ((10, 40), (48, 118)):
                _panel(rng, base, image, (x0, y0, x1, y1))
    elif style == 2:                             # glazed
        cv2.rectangle(image, (16, 14), (48, 76), _tuple(rng.uniform(140, 235) * np.array([0.95, 1, 1])), -1)
        _panel(rng, base, image, (16, 14, 48, 76))
    cv2.rectangle(image, (0, 0), (63, 127), _tuple(frame), 7)
    cv2.rectangle(image, (4, 3), (60, 127), _tuple(base * 0.5), 1)
    cv2.circle(image, (52, 68), 2, (200, 190, 160), -1, cv2.LINE_AA)
    return image


def _cabinet(rng, k):
    base = wood_color(rng)
    columns, rows = ((1, 1), (2, 1), (3, 1), (2, 2), (1, 3), (1, 4), (2, 3), (4, 1), (3, 2))[k % 9]
    image = _wood(rng, base, _SIZE, _SIZE)
    metal = (190, 185, 175) if rng.random() < 0.6 else (50, 46, 42)
    for c in range(columns):
        for r in range(rows):
            x0, x1 = c * _SIZE // columns + 1, (c + 1) * _SIZE // columns - 2
            y0, y1 = r * _SIZE // rows + 1, (r + 1) * _SIZE // rows - 2
            image[y0:y1, x0:x1] *= rng.normal(1, 0.03)
            cv2.rectangle(image, (x0, y0), (x1, y1), _tuple(base * 0.4), 1)
            if k % 3 == 0:
                inset = max((x1 - x0) // 7, 3)
                _panel(rng, base, image, (x0 + inset, y0 + inset, x1 - inset, y1 - inset), 1)
            elif k % 7 == 1 and rng.random() < 0.5:   # glass
                dark = rng.uniform(40, 120) * np.array([0.9, 1.0, 1.05])
                cv2.rectangle(image, (x0 + 4, y0 + 4), (x1 - 4, y1 - 4), _tuple(dark), -1)
                cv2.line(image, (x0 + 8, y1 - 8), (x1 - 8, y0 + 8), _tuple(dark * 1.5), 2, cv2.LINE_AA)
            if rows > columns:
                cv2.line(image, ((x0 + x1) // 2 - 7, (y0 + y1) // 2), ((x0 + x1) // 2 + 7, (y0 + y1) // 2), metal, 2)
            else:
                x = x1 - 5 if c % 2 == 0 else x0 + 5
                cv2.line(image, (x, (y0 + y1) // 2 - 6), (x, (y0 + y1) // 2 + 6), metal, 2)
    return image


def _books(rng, k):
    """Shelves with books, boxes and gaps; the board is wood."""
    size = 192
    board = wood_color(rng)
    rows = int(rng.choice([2, 3, 4, 5]))
    image = _flat(board * rng.uniform(0.3, 0.55), size, size)
    row = size / rows
    vivid = rng.uniform(0.2, 0.8)
    for r in range(rows):
        bottom = int((r + 1) * row - 4)
        image[int(r * row):int(r * row) + 8] *= 0.7
        x = 4.0
        while x < size - 6:
            u = rng.random()
            if u < 0.10:
                x += rng.uniform(6, 40)
                continue
            if u < 0.85:                         # a book
                w, h = rng.uniform(3, 10), row * rng.uniform(0.5, 0.85)
                color = _object_color(rng, vivid)
                lean = int(rng.normal(0, 1.0)) if rng.random() < 0.2 else 0
                quad = np.array([[x + lean, bottom - h], [x + w + lean, bottom - h], [x + w, bottom], [x, bottom]])
                cv2.fillConvexPoly(image, quad.astype(np.int32), _tuple(color), cv2.LINE_AA)
                image[int(bottom - h):bottom, int(x):int(x) + 1] *= 0.6
                if rng.random() < 0.7:
                    band = _tuple(_object_color(rng, vivid) if rng.random() < 0.5 else color * 0.6)
                    y = int(bottom - h * rng.uniform(0.4, 0.9))
                    cv2.rectangle(image, (int(x) + 1, y), (int(x + w) - 1, y + int(rng.integers(1, 8))), band, -1)
            else:                                # a box or ornament
                w, h = rng.uniform(10, 30), row * rng.uniform(0.25, 0.7)
                color = _object_color(rng, vivid)
                corner, end = (int(x), int(bottom - h)), (int(x + w), bottom)
                if rng.random() < 0.5:
                    cv2.rectangle(image, corner, end, _tuple(color), -1)
                else:
                    cv2.ellipse(image, ((corner[0] + end[0]) // 2, bottom - int(h / 2)), (int(w / 2), int(h / 2)), 0, 0,
                                360, _tuple(color), -1, cv2.LINE_AA)
            x += w + rng.exponential(0.7)
        image[bottom:bottom + 4] = board * 0.95
    image[:, :4], image[:, -4:] = board, board * 0.9
    image[:3] = board
    return image * (1 + 0.04 * _noise(rng, 0.8, size, size))


def _object_color(rng, vivid: float) -> np.ndarray:
    """sRGB (3,) of a thing that was made and sold."""
    if rng.random() > vivid:
        return np.clip(rng.uniform(25, 240) * (1 + rng.normal(0, 0.06, 3)), 0, 255)
    hsv = np.array([[[rng.integers(180), np.clip(rng.normal(105, 50), 0, 220), rng.uniform(45, 225)]]], np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)


def _goods(rng, k):
    """A shop's or kitchen's shelf: rows of the same cans, jars, boxes."""
    size = 192
    image = _flat(rng.uniform(40, 170), size, size)
    rows = int(rng.choice([3, 4, 5]))
    row = size / rows
    for r in range(rows):
        bottom = int((r + 1) * row - 5)
        x = float(rng.uniform(-6, 0))
        color, w, h, kind = _object_color(rng, 0.7), 10.0, row * 0.6, 0
        label = np.full(3, 235.0)
        while x < size:
            if rng.random() < 0.25:
                color, label = _object_color(rng, 0.7), _object_color(rng, 0.5)
                w, h, kind = rng.uniform(7, 22), row * rng.uniform(0.4, 0.8), int(rng.integers(3))
            x0, x1, top = int(x), max(int(x + w), int(x) + 2), int(bottom - h)
            across = np.linspace(-1, 1, max(x1 - x0, 1))
            shade = (1.0 - 0.45 * across ** 2 + 0.35 * np.exp(-((across + 0.4) / 0.15) ** 2)) if kind else np.ones_like(
                across)
            block = np.broadcast_to(color * shade[:, None], (bottom - top, x1 - x0, 3)).copy()
            a, b = int(len(block) * 0.3), int(len(block) * 0.75)
            block[a:b] = label * shade[:, None]
            block[(a + b) // 2:(a + b) // 2 + 2] = color * 0.5
            if kind == 2:                        # bottle: a narrow neck
                block[:len(block) // 4, :len(across) // 3] = image[top:top + len(block) // 4][:1, :1]
                block[:len(block) // 4, -(len(across) // 3 + 1):] = image[top:top + len(block) // 4][:1, :1]
            low, high = max(x0, 0), min(x1, size)
            if high > low:
                image[top:bottom, low:high] = block[:, low - x0:high - x0]
            x += w + rng.uniform(0.5, 3)
        image[bottom:bottom + 5] = rng.uniform(120, 230)
        image[bottom + 4:bottom + 5] *= 0.5
    return image * (1 + 0.04 * _noise(rng, 0.8, size, size))


def _photo(rng, width: int, height: int) -> np.ndarray:
    """A piece of a light probe as a framed photograph or a view through glass would show it, sRGB 0..255."""
    probes = environment.probes()
    probe = probes[int(rng.integers(len(probes)))]
    yaw, pitch = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.2)
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    axes = np.stack([right, np.cross(forward, right), forward], axis=1)
    image = environment.view(probe, axes, rng.uniform(0.7, 1.5), width, height)
    image = image * 0.3 / max(float(np.median(image)), 1e-3)
    return sensor.to_srgb(image / (1 + 0.35 * image)) * 255


def _picture(rng, k):
    width, height = ((96, 64), (64, 96), (80, 80))[k % 3]
    kind = k % 4
    if kind < 2:
        inner = _photo(rng, width, height)
    elif kind == 2:                              # print or painting
        inner = _flat(wall_color(rng), width, height)
        for _ in range(int(rng.integers(3, 14))):
            centre = (int(rng.integers(width)), int(rng.integers(height)))
            axes = tuple(int(v) for v in rng.integers(2, 30, 2))
            cv2.ellipse(inner, centre, axes, float(rng.uniform(0, 180)), 0, 360, _tuple(_object_color(rng, 0.6)), -1,
                        cv2.LINE_AA)
        inner = cv2.GaussianBlur(inner, (0, 0), 1.0) * (1 + 0.06 * _noise(rng, 0.6, width, height))
    else:                                        # poster, calendar, notice
        inner = _flat(rng.uniform(200, 250), width, height)
        y = 6
        if rng.random() < 0.7:
            high = int(height * rng.uniform(0.25, 0.55))
            inner[4:high, 4:-4] = _photo(rng, width - 8, high - 4)
            y = high + 3
        ink = rng.uniform(10, 120, 3)
        while y < height - 6:
            thick = int(rng.choice([1, 1, 1, 3]))
            cv2.line(inner, (6, y), (int(width * rng.uniform(0.4, 0.92)), y), _tuple(ink), thick)
            y += 3 + 2 * thick
        return inner
    if rng.random() < 0.7:
        frame = wood_color(rng)
        if rng.random() < 0.5:
            cv2.rectangle(inner, (0, 0), (width - 1, height - 1), (238, 236, 230), 15)
        cv2.rectangle(inner, (0, 0), (width - 1, height - 1), _tuple(frame), 7)
        cv2.rectangle(inner, (3, 3), (width - 4, height - 4), _tuple(frame * 0.6), 1)
    return inner


def _window(rng, k):
    width, height = 112, 128
    if k % 3 == 0:
        outside = _flat(252, width, height)
    else:
        outside = np.clip(_photo(rng, width, height) * rng.uniform(1.2, 2.2), 0, 255)
    if k % 5 == 4:                               # blinds
        slats = (np.arange(height) % 6 < 4)[:, None, None]
        outside = np.where(slats, 215.0 - 25 * (np.arange(height) % 6)[:, None, None] / 4, outside)
    panes = int(rng.integers(1, 4))
    frame = _tuple(np.full(3, rng.uniform(205, 240))) if rng.random() < 0.8 else _tuple(wood_color(rng))
    shade = (150, 150, 150)
    for i in range(1, panes):
        x = i * width // panes
        cv2.rectangle(outside, (x - 3, 0), (x + 3, height), frame, -1)
        cv2.line(outside, (x + 3, 0), (x + 3, height), shade, 1)
    if rng.random() < 0.4:
        cv2.rectangle(outside, (0, 36), (width, 41), frame, -1)
    cv2.rectangle(outside, (0, 0), (width - 1, height - 1), frame, 10)
    cv2.rectangle(outside, (5, 5), (width - 6, height - 6), shade, 1)
    return outside


def _curtain(rng, k):
    x = np.linspace(0, 1, _SIZE)
    wave = sum(np.sin(2 * np.pi * (f * x + rng.random())) * rng.uniform(0.4, 1) for f in rng.uniform(4, 14, 4))
    fold = 1 + rng.uniform(0.05, 0.14) * wave
    image = _flat(wall_color(rng) * rng.uniform(0.6, 1.05)) * fold[None, :, None]
    if k % 3 == 0:
        tile = materials.patterns()[1 + (7 * k + 3) % (materials.PATTERNS - 1)].astype(np.float32) / 127
        image *= 1 + 0.4 * (tile - tile.mean())
    return _grained(rng, image, 0.02)


def _appliance(rng, k):
    kind = k % 6
    if kind == 0:                                # refrigerator with magnets and notes
        image = _flat(rng.uniform(170, 240), 64, 128)
        cv2.line(image, (0, 42), (64, 42), (90, 90, 90), 2)
        for x, y in ((56, 30), (56, 70)):
            cv2.line(image, (x, y - 12), (x, y + 12), (120, 120, 120), 3)
        for _ in range(int(rng.integers(0, 12))):
            x, y = int(rng.integers(4, 46)), int(rng.integers(4, 90))
            end = (x + int(rng.integers(2, 12)), y + int(rng.integers(2, 14)))
            cv2.rectangle(image, (x, y), end, _tuple(_object_color(rng, 0.6)), -1)
        image *= np.linspace(1.05, 0.9, 64)[None, :, None]
    elif kind == 1:                              # oven or washing machine
        image = _flat(rng.choice([40.0, 190.0, 235.0]), 96, 96)
        cv2.rectangle(image, (12, 30), (84, 84), (25, 25, 28), -1)
        cv2.rectangle(image, (12, 30), (84, 84), (110, 110, 110), 2)
        cv2.line(image, (14, 24), (82, 24), (150, 150, 150), 3)
        for x in (14, 28, 68, 82):
            cv2.circle(image, (x, 11), 4, (120, 120, 120), -1, cv2.LINE_AA)
    elif kind == 2:                              # radiator
        image = _flat(228, 128, 64)
        shade = 1 - 0.3 * (np.arange(128) % 12 < 3) + 0.05 * (np.arange(128) % 12 == 6)
        image *= shade[None, :, None]
        image[:3] *= 0.8
    elif kind == 3:                              # television or monitor, off or on
        image = _flat(14, 112, 64)
        if rng.random() < 0.5:
            image[3:-4, 3:-3] = _photo(rng, 106, 57)
        else:
            cv2.line(image, (10, 62), (60, 4), (34, 36, 40), 14, cv2.LINE_AA)
        cv2.rectangle(image, (0, 0), (111, 63), (10, 10, 11), 3)
    elif kind == 4:                              # whiteboard or noticeboard
        image = _flat(240 if rng.random() < 0.6 else (176, 138, 96), 128, 80)
        for _ in range(int(rng.integers(2, 14))):
            x, y = int(rng.integers(4, 110)), int(rng.integers(4, 66))
            if image[40, 64, 2] > 200:
                points = np.cumsum(rng.normal(0, 3, (8, 2)) + [2, 0], 0) + (x, y)
                cv2.polylines(image, [points.astype(np.int32)], False, _tuple(rng.uniform(0, 150, 3)), 1, cv2.LINE_AA)
            else:
                end = (x + int(rng.integers(6, 22)), y + int(rng.integers(6, 22)))
                cv2.rectangle(image, (x, y), end, _tuple(rng.uniform(170, 250, 3)), -1)
        cv2.rectangle(image, (0, 0), (127, 79), (150, 150, 150), 3)
    else:                                        # air conditioner, fuse box
        image = _flat(232, 96, 40)
        for y in (28, 32, 36):
            cv2.line(image, (4, y), (92, y), (170, 170, 170), 1)
        cv2.rectangle(image, (0, 0), (95, 39), (190, 190, 190), 1)
    return _grained(rng, image, 0.01)


def _ceiling(rng, k):
    image = _flat(238)
    if k % 3 == 1:                               # office tiles
        for i in range(0, _SIZE, 64):
            image[i:i + 2] *= 0.85
            image[:, i:i + 2] *= 0.85
        image = _grained(rng, image, 0.02, 0.1)
    elif k % 3 == 2:                             # boards
        for i in range(0, _SIZE, 16):
            image[:, i:i + 1] *= 0.85
    return _grained(rng, image, 0.012, 1.2)


def _soft_shadow(rng, k):
    image = np.zeros((64, 64, 4), np.float32)
    image[14:50, 14:50, 3] = 200
    image[..., 3] = cv2.GaussianBlur(image[..., 3], (0, 0), 6)
    return image


def _plant(rng, k):
    image = np.zeros((128, 128, 4), np.float32)
    green = np.array([rng.uniform(25, 90), rng.uniform(70, 140), rng.uniform(20, 70)], np.float32)
    root = np.array([64.0, 104.0])
    for _ in range(int(rng.integers(14, 60))):
        angle, length = rng.normal(-np.pi / 2, 0.75), rng.uniform(30, 96)
        tip = np.clip(root + length * np.array([np.cos(angle), np.sin(angle)]), 2, 125)
        bend = (root + tip) / 2 + rng.normal(0, 8, 2)
        shade = green * np.exp(rng.normal(0, 0.3))
        across = np.array([-(tip - root)[1], (tip - root)[0]]) / length * rng.uniform(2, 9)
        leaf = np.array([bend, (bend + tip) / 2 + across, tip, (bend + tip) / 2 - across]).astype(np.int32)
        start, middle, end = (tuple(p.astype(int).tolist()) for p in (root, bend, tip))
        cv2.line(image, start, middle, (*_tuple(shade * 0.7), 255), 1)
        cv2.fillPoly(image, [leaf], (*_tuple(shade), 255.0))
        cv2.line(image, middle, end, (*_tuple(shade * 1.25), 255), 1)
    pot = _object_color(rng, 0.4)
    cv2.fillConvexPoly(image, np.array([[46, 100], [82, 100], [77, 127], [51, 127]]), (*_tuple(pot), 255.0))
    cv2.rectangle(image, (44, 97), (84, 103), (*_tuple(pot * 0.85), 255.0), -1)
    return image


def _clothes(rng, k):
    """Things on hooks: coats, bags, towels."""
    image = np.zeros((128, 128, 4), np.float32)
    for _ in range(int(rng.integers(1, 5))):
        x, w, h = rng.uniform(20, 100), rng.uniform(10, 26), rng.uniform(50, 118)
        color = _object_color(rng, 0.35) * 0.8
        points = np.array([[x - w * 0.3, 4], [x + w * 0.3, 4], [x + w, 24], [x + w * rng.uniform(0.7, 1.2), h],
                           [x - w * rng.uniform(0.7, 1.2), h - 4], [x - w, 24]])
        cv2.fillPoly(image, [points.astype(np.int32)], (*_tuple(color), 255.0), cv2.LINE_AA)
        for _ in range(4):
            at = rng.uniform(-0.8, 0.8)
            ends = (int(x + at * w * 0.5), 20), (int(x + at * w), int(h - 4))
            cv2.line(image, *ends, (*_tuple(color * 0.7), 255.0), 2, cv2.LINE_AA)
    return image


def _clock(rng, k):
    image = np.zeros((64, 64, 4), np.float32)
    cv2.circle(image, (32, 32), 30, (*_tuple(_object_color(rng, 0.3)), 255.0), -1, cv2.LINE_AA)
    cv2.circle(image, (32, 32), 25, (240, 238, 232, 255), -1, cv2.LINE_AA)
    for a in np.arange(12) * np.pi / 6:
        p = [int(32 + r * np.cos(a)) for r in (20, 23)], [int(32 + r * np.sin(a)) for r in (20, 23)]
        cv2.line(image, (p[0][0], p[1][0]), (p[0][1], p[1][1]), (30, 30, 30, 255), 1, cv2.LINE_AA)
    for r, a in ((12, rng.uniform(0, 6.3)), (18, rng.uniform(0, 6.3))):
        cv2.line(image, (32, 32), (int(32 + r * np.cos(a)), int(32 + r * np.sin(a))), (20, 20, 20, 255), 2, cv2.LINE_AA)
    return image


def _thing(rng, k):
    """Small things that stand on furniture, from the side: vases, bottles, boxes, cups, lamps, toys."""
    image = np.zeros((64, 48, 4), np.float32)
    color = _object_color(rng, 0.5)
    kind = k % 5
    if kind == 0:
        cv2.rectangle(image, (4, int(rng.integers(8, 40))), (44, 63), (*_tuple(color), 255.0), -1)
        cv2.rectangle(image, (8, 44), (40, 54), (*_tuple(_object_color(rng, 0.5)), 255.0), -1)
    elif kind == 4:                              # lamp
        cv2.line(image, (24, 30), (24, 63), (*_tuple(color * 0.5), 255.0), 4)
        cv2.fillConvexPoly(image, np.array([[14, 4], [34, 4], [44, 34], [4, 34]]), (250, 240, 210, 255))
    else:                                        # turned shapes
        y = np.arange(64)
        knots = rng.uniform(5, 22, 6)
        half = np.interp(y, np.linspace(0, 63, 6), knots if kind != 2 else np.array([5, 5, 6, 18, 18, 17]))
        x = np.arange(48) - 23.5
        across = x[None] / half[:, None]
        inside = (np.abs(across) <= 1) & (y > rng.integers(2, 24))[:, None]
        shade = 1.05 - 0.55 * across ** 2 + 0.5 * np.exp(-((across + 0.45) / 0.14) ** 2) * rng.random()
        image[..., :3] = color * np.clip(shade, 0.3, 1.6)[..., None]
        image[..., 3] = 255.0 * inside
        if kind == 2:
            image[40:52, :, :3] = _object_color(rng, 0.5) * np.clip(shade, 0.3, 1.4)[40:52, :, None]
    return image


_PAINTERS = {
    "plaster": (_plaster, 5), "wallpaper": (_wallpaper, 12), "tiles": (_tiles, 5), "brick": (_brick, 3),
    "planks": (_planks, 7), "carpet": (_carpet, 5), "rug": (_rug, 4), "fabric": (_fabric, 12), "door": (_door, 8),
    "cabinet": (_cabinet, 18), "books": (_books, 8), "goods": (_goods, 6), "picture": (_picture, 24),
    "window": (_window, 10), "curtain": (_curtain, 9), "appliance": (_appliance, 18), "ceiling": (_ceiling, 3),
    "shadow": (_soft_shadow, 1), "plant": (_plant, 6), "clothes": (_clothes, 5), "clock": (_clock, 2),
    "thing": (_thing, 25)}
