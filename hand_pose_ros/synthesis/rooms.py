"""Rooms in perspective behind the subject: walls, floor, furniture and things, as textured rectangles.

The room stands upright in the world, so its edges agree with gravity, with the person in it and with the lens. Axes of
a room: z up, the camera at the origin, walls along x and y.
"""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hand_pose_ros.synthesis import room_textures, sensor

_NEAR_M = 0.05
_STYLES = ("living", "kitchen", "office", "bare", "shop")
_STYLE_SHARES = (0.38, 0.18, 0.18, 0.18, 0.08)
_WALL_ITEMS = {
    "living": {"gap": 0.30, "picture": 0.18, "cabinet": 0.13, "books": 0.09, "window": 0.10, "door": 0.07, "sofa": 0.07,
               "tv": 0.05, "clothes": 0.03, "plant": 0.04},
    "kitchen": {"gap": 0.14, "kitchen": 0.34, "fridge": 0.12, "window": 0.10, "door": 0.08, "goods": 0.08,
                "picture": 0.08, "cabinet": 0.08},
    "office": {"gap": 0.26, "board": 0.14, "desk": 0.16, "cabinet": 0.16, "books": 0.08, "window": 0.10, "door": 0.07,
               "picture": 0.08},
    "bare": {"gap": 0.62, "door": 0.10, "picture": 0.10, "window": 0.10, "plant": 0.03, "clothes": 0.05},
    "shop": {"goods": 0.55, "fridge": 0.12, "books": 0.10, "gap": 0.13, "board": 0.10}}


@dataclass(frozen=True, eq=False)
class _Quad:
    """A textured rectangle: its top-left corner, the edges to the right and down (metres), and its looks."""

    corner: np.ndarray
    right: np.ndarray
    down: np.ndarray
    texture: list                               # pyramid of room_textures
    repeat: tuple = (1.0, 1.0)
    gain: np.ndarray | float = 1.0              # factor on the sRGB texture, scalar or (3,)
    shade: np.ndarray | None = None             # (h, w) uint8 light over the rectangle, 128 neutral
    glow: float = 0.0                           # linear light sent out where the texture is bright


def paint(rng: np.random.Generator, width: int, height: int, K: np.ndarray, R_world_camera: np.ndarray, clear_m: float,
          floor_m: float | None = None) -> np.ndarray:
    """Draw a room. Returns (height, width, 3) float32 linear light.

    K: (3, 3) of the picture. R_world_camera: (3, 3) camera to world (z up). clear_m: how far in front of the camera
    the subject stands: the wall there is farther. floor_m: height of the camera over the floor, drawn if not given.
    """
    style = str(rng.choice(_STYLES, p=_STYLE_SHARES))
    ahead = R_world_camera[:2, 2]
    heading = np.arctan2(ahead[1], ahead[0]) + (rng.normal(0, 0.3) if rng.random() < 0.6 else rng.uniform(-0.8, 0.8))
    c, s = np.cos(heading), np.sin(heading)
    to_room = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]]) @ R_world_camera     # room x: roughly ahead
    floor = -(rng.uniform(0.7, 1.75) if floor_m is None else floor_m)
    ceiling = floor + rng.uniform(2.35, 3.3)
    walls = np.array([clear_m * 1.05 + np.exp(rng.uniform(np.log(0.25), np.log(4.0))), rng.uniform(1.0, 4.0),
                      rng.uniform(0.8, 3.0), rng.uniform(1.0, 4.0)])              # ahead, left, behind, right
    lamp = np.array([rng.uniform(0.1, 0.9) * walls[0], rng.uniform(-0.8, 0.8) * walls[rng.choice([1, 3])],
                     ceiling - rng.uniform(0.1, 1.5)])
    builder = _Builder(rng, style, floor, ceiling, walls, lamp)
    return _draw(builder.build(), K, to_room.T, width, height)


class _Builder:
    """Furnishes one room: collects its quads in painting order."""

    def __init__(self, rng, style, floor, ceiling, walls, lamp):
        self.rng, self.style, self.floor, self.ceiling, self.walls, self.lamp = rng, style, floor, ceiling, walls, lamp
        self.bank = room_textures.bank()
        self.flat: list[_Quad] = []             # on the walls
        self.boxes: list[tuple[float, list[_Quad]]] = []
        self.light = rng.uniform(0.25, 0.8)     # how uneven
        self.furniture = self._pick("cabinet"), self._gain(0.15)

    def _pick(self, name: str, index: int | None = None) -> list:
        choices = self.bank[name]
        return choices[int(self.rng.integers(len(choices)) if index is None else index)]

    def _gain(self, spread: float) -> np.ndarray:
        return np.exp(self.rng.normal(0, spread) + self.rng.normal(0, 0.04, 3))

    def build(self) -> list[_Quad]:
        """All quads, the farthest first."""
        rng = self.rng
        a, b, c, d = self.walls
        paper = self.style in ("living", "bare") and rng.random() < 0.55
        cover = self._pick("wallpaper" if paper else "plaster")
        color = room_textures.wall_color(rng) / 225.0
        scale = rng.uniform(0.4, 1.2)
        accent = rng.random() < 0.2
        corners = [(a, b), (-c, b), (-c, -d), (a, -d)]                              # left of ahead, then to the left
        shell = []
        for k in range(4):
            end, start = np.array(corners[k - 1]), np.array(corners[k])
            special = accent and k == 0
            texture = self._pick(str(rng.choice(["brick", "tiles", "wallpaper"]))) if special else cover
            tint = room_textures.wall_color(rng) / 225.0 if special and rng.random() < 0.5 else color
            shell.append(self._wall(start, end, texture, tint, scale))
            self._furnish(start, end)
        ground = self._pick(str(rng.choice(["planks", "planks", "carpet", "tiles", "rug"])))
        high = np.array([a, b, self.ceiling])
        low = np.array([a, b, self.floor])
        right, down = np.array([0.0, -(b + d), 0.0]), np.array([-(a + c), 0.0, 0.0])
        size = rng.uniform(0.8, 2.0)
        tiles = (b + d) / size, (a + c) / size
        shell.append(self._lit(_Quad(low, right, down, ground, tiles, self._gain(0.15)), 0.8))
        shell.append(self._lit(_Quad(high, right, down, self._pick("ceiling"), ((b + d) / 1.2, (a + c) / 1.2),
                                     rng.uniform(0.9, 1.05)), 0.95))
        for _ in range(int(rng.integers(0, 4))):                                   # lamps in the ceiling
            if rng.random() < 0.5:
                x, y = rng.uniform(0, a), rng.uniform(-d, b)
                w, h = rng.choice([(0.6, 0.6), (0.15, 1.2), (0.12, 0.12), (0.35, 0.35)])
                shell.append(_Quad(np.array([x + w, y + h, self.ceiling - 0.02]), np.array([0, -2 * h, 0.0]),
                                   np.array([-2 * w, 0, 0.0]), self.bank["ceiling"][0], gain=1.2, glow=3.0))
        if rng.random() < 0.5:
            self._middle(a, b, d)
        quads = shell + self.flat
        for _, parts in sorted(self.boxes, key=lambda item: -item[0]):
            quads += parts
        return quads

    def _wall(self, start, end, texture, tint, scale) -> _Quad:
        """start, end: (2,) its left and right ends, seen from inside."""
        corner = np.array([*start, self.ceiling])
        right, down = np.array([*(end - start), 0.0]), np.array([0.0, 0.0, self.floor - self.ceiling])
        repeat = np.linalg.norm(right) / scale, -down[2] / scale
        return self._lit(_Quad(corner, right, down, texture, repeat, tint), 1.0)

    def _lit(self, quad: _Quad, level: float) -> _Quad:
        """Light that falls off from the lamp and darkens towards corners."""
        n = 20
        s, t = np.meshgrid(np.linspace(0, 1, n), np.linspace(0, 1, n))
        p = quad.corner + s[..., None] * quad.right + t[..., None] * quad.down
        distance = ((p - self.lamp) ** 2).sum(-1)
        wide, high = np.linalg.norm(quad.right), np.linalg.norm(quad.down)
        edge = np.minimum(np.minimum(s, 1 - s) * wide, np.minimum(t, 1 - t) * high)
        light = (1 - self.light + self.light * 3.0 / (1.5 + distance)) * (1 - 0.22 * np.exp(-edge / 0.25)) * level
        shade = np.clip(128 * np.sqrt(light), 0, 255).astype(np.uint8)
        return _Quad(quad.corner, quad.right, quad.down, quad.texture, quad.repeat, quad.gain, shade)

    def _furnish(self, start, end) -> None:
        """Things along one wall from its left end to its right end."""
        rng = self.rng
        along = np.array([*(end - start), 0.0])
        length = np.linalg.norm(along)
        along = along / length
        out = np.array([along[1], -along[0], 0.0])                                 # into the room
        origin = np.array([*start, 0.0])
        if out @ origin > 0:
            out = -out
        items = _WALL_ITEMS[self.style]
        names, shares = list(items), np.array(list(items.values()))
        at = rng.uniform(0.0, 0.4)
        while at < length - 0.3:
            name = str(rng.choice(names, p=shares / shares.sum()))
            at += self._item(name, origin, along, out, at, length - at)

    def _flat_on(self, origin, along, out, at, low, width, height, texture, gain=1.0, glow=0.0, lift=0.01, shadow=True):
        """A thing of (width, height) on the wall, its lower edge ``low`` over the floor."""
        corner = origin + along * at + out * lift
        corner = np.array([corner[0], corner[1], self.floor + low + height])
        if shadow:
            blur = 0.06 * np.array([along, along])
            self.flat.append(_Quad(corner - blur[0] + [0, 0, 0.0] + np.array([0, 0, -0.03]), along * (width + 0.16),
                                   np.array([0, 0, -(height + 0.1)]), self.bank["shadow"][0], gain=0.0))
        self.flat.append(_Quad(corner, along * width, np.array([0, 0, -height]), texture, gain=gain, glow=glow))

    def _box_on(self, origin, along, out, at, low, size, front, side, gain, top=None):
        """A box (width, depth, height) against the wall. front: pyramid; side, top: pyramid of its other faces."""
        width, depth, height = size
        foot = origin + along * at
        foot = np.array([foot[0], foot[1], self.floor + low])
        up = np.array([0.0, 0.0, height])
        centre = foot + along * width / 2 + out * depth / 2 + up / 2
        level = 0.65 + 0.35 * self.rng.random()
        parts = []
        if low < 0.2:                                                              # its shadow on the floor
            parts.append(_Quad(foot - along * 0.1 + out * (depth + 0.25), along * (width + 0.2), -out * (depth + 0.3),
                               self.bank["shadow"][0], gain=0.0))
        parts.append(_Quad(foot - along * 0.12 + up * 0.97 + out * 0.012, along * (width + 0.3), -up * 1.0,
                           self.bank["shadow"][0], gain=0.0))
        for outward, corner, right, down, texture, factor in (
                (along, foot + along * width + up + out * depth, -out * depth, -up, side, 0.75 * level),
                (-along, foot + up, out * depth, -up, side, 0.8),
                (up, foot + up, along * width, out * depth, top or side, 1.05),
                (-up, foot + out * depth, along * width, -out * depth, side, 0.5),
                (out, foot + up + out * depth, along * width, -up, front, 0.95)):
            if outward @ corner < 0:                                               # it faces the camera
                parts.append(_Quad(corner, right, down, texture, gain=np.asarray(gain) * factor))
        self.boxes.append((float(np.linalg.norm(centre)), parts))
        return foot + up, centre

    def _things(self, origin, along, out, at, low, width, depth, count):
        rng = self.rng
        for _ in range(count):
            texture = self._pick("plant") if rng.random() < 0.12 else self._pick("thing")
            high = rng.uniform(0.08, 0.42)
            wide = high * rng.uniform(0.6, 1.1)
            corner = (origin + along * (at + rng.uniform(0, max(width - wide, 0.01)))
                      + out * rng.uniform(0.2, 0.9) * depth)
            corner = np.array([corner[0], corner[1], self.floor + low + high])
            quad = _Quad(corner, along * wide, np.array([0, 0, -high]), texture, gain=self._gain(0.2))
            self.boxes.append((float(np.linalg.norm(corner)) - 0.3, [quad]))

    def _item(self, name, origin, along, out, at, room) -> float:
        """Places one thing at ``at`` metres along the wall. Returns how much of the wall it takes."""
        rng = self.rng
        place = origin, along, out, at
        if name == "gap":
            return float(rng.uniform(0.2, 1.2))
        if name == "picture":
            width, height, total = rng.uniform(0.2, 0.9), rng.uniform(0.2, 0.8), 0.0
            if width > room:
                return width
            for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
                if total + width < room:
                    self._flat_on(origin, along, out, at + total, rng.uniform(1.15, 1.6), width, height,
                                  self._pick("picture"))
                    total += width + rng.uniform(0.08, 0.2)
            if rng.random() < 0.08:
                self._flat_on(origin, along, out, at, 2.0, 0.3, 0.3, self._pick("clock"))
            return total
        if name == "door":
            if room < 0.95:
                return room
            self._flat_on(*place, 0.0, 0.9, rng.uniform(1.98, 2.15), self._pick("door"), self._gain(0.1))
            return 1.0
        if name == "window":
            width = rng.uniform(0.7, 2.0)
            if width > room:
                return 0.5
            low, height = rng.uniform(0.6, 1.1), rng.uniform(1.0, 1.4)
            self._flat_on(*place, low, width, height, self._pick("window"), 1.0, float(rng.exponential(0.8)), 0.02)
            if rng.random() < 0.55:
                cloth, gain, hem = self._pick("curtain"), self._gain(0.15), rng.uniform(0.02, 0.9)
                for start in (at - 0.25, at + width - 0.15):
                    self._flat_on(origin, along, out, start, hem, 0.4, 2.3 - hem, cloth, gain, 0.0, 0.08)
            elif rng.random() < 0.6:
                self._flat_on(*place, 0.1, min(width, 1.2), 0.5, self.bank["appliance"][2 + 6 * int(rng.integers(3))],
                              1.0, 0.0, 0.09)
            return width + 0.3
        if name == "board":
            width = rng.uniform(0.8, 1.8)
            if width > room:
                return 0.4
            self._flat_on(*place, rng.uniform(0.85, 1.2), width, width * 0.62,
                          self.bank["appliance"][4 + 6 * int(rng.integers(3))])
            if rng.random() < 0.3:
                self._flat_on(*place, 2.1, 0.9, 0.32, self.bank["appliance"][5], 1.0, 0.0, 0.15)
            return width + 0.2
        if name in ("clothes", "plant"):
            high = rng.uniform(0.7, 1.3) if name == "clothes" else rng.uniform(0.5, 1.6)
            self._flat_on(*place, 0.75 if name == "clothes" else 0.0, high, high, self._pick(name), 1.0, 0.0, 0.15)
            return high
        texture, gain = self.furniture
        if name == "books" or name == "goods":
            width, height = rng.uniform(0.7, 1.6), rng.uniform(0.9, 2.3)
            if width > room:
                return room
            self._box_on(*place, 0.0, (width, 0.33, height), self._pick(name), self.bank["cabinet"][0], gain)
            return width + 0.05
        if name == "cabinet":
            width, height = rng.uniform(0.6, 2.2), float(rng.choice([0.75, 0.9, 1.3, 2.0, 2.3])) * rng.normal(1, 0.04)
            if width > room:
                return 0.5
            front = texture if rng.random() < 0.6 else self._pick("cabinet")
            self._box_on(*place, 0.0, (width, rng.uniform(0.4, 0.6), height), front, front[3:], gain)
            if height < 1.5:
                self._things(*place, height, width, 0.45, int(rng.integers(0, 6)))
            return width + 0.04
        if name == "fridge":
            if room < 0.7:
                return room
            gain = self._gain(0.08)
            front = self.bank["appliance"][6 * int(rng.integers(3))] if self.style != "shop" else self._pick("goods")
            self._box_on(*place, 0.0, (0.62, 0.62, rng.uniform(1.5, 2.0)), front, self.bank["ceiling"][0], gain)
            return 0.66
        if name == "kitchen":
            width = min(rng.uniform(0.8, 2.4), room)
            plain = self.bank["ceiling"][0]
            self._flat_on(*place, 0.88, width, 0.55, self._pick("tiles"), self._gain(0.2), shadow=False)
            self._box_on(*place, 0.0, (width, 0.6, 0.88), texture, texture[3:], gain, plain)
            if rng.random() < 0.8:
                self._box_on(*place, 1.4, (width * rng.uniform(0.6, 1.0), 0.34, 0.7), texture, texture[3:], gain)
            if width > 1.3 and rng.random() < 0.6:
                self._box_on(origin, along, out, at + 0.3, 0.1, (0.6, 0.62, 0.8),
                             self.bank["appliance"][1 + 6 * int(rng.integers(3))], plain, 1.0)
            self._things(*place, 0.88, width, 0.6, int(rng.integers(1, 9)))
            return width
        if name in ("desk", "tv"):
            width = rng.uniform(1.0, 1.8)
            if width > room:
                return 0.5
            low = 0.74 if name == "desk" else rng.uniform(0.4, 0.6)
            self._box_on(*place, 0.0 if name == "tv" else low - 0.05, (width, 0.55, low if name == "tv" else 0.05),
                         texture, texture[3:], gain)
            if name == "desk":
                self._box_on(*place, 0.0, (0.4, 0.5, low - 0.05), texture, texture[3:], gain)
            wide = rng.uniform(0.45, 1.0)
            self._box_on(origin, along, out, at + 0.1, low + 0.05, (wide, 0.2, wide * 0.58),
                         self.bank["appliance"][3 + 6 * int(rng.integers(3))], self.bank["appliance"][3][2:], 0.9)
            self._things(*place, low, width, 0.5, int(rng.integers(0, 5)))
            return width + 0.1
        width = rng.uniform(1.2, 2.3)                                              # sofa or bed
        if width > room:
            return 0.4
        cloth, gain = self._pick("fabric"), self._gain(0.2)
        self._box_on(*place, 0.0, (width, 0.3, rng.uniform(0.7, 1.0)), cloth, cloth, gain)
        self._box_on(origin, along, out, at, 0.08, (width, rng.uniform(0.8, 1.0), 0.36), cloth, cloth, gain * 0.95)
        for k in range(int(rng.integers(0, 4))):
            self._flat_on(origin, along, out, at + rng.uniform(0, width - 0.45), 0.42, 0.45, 0.4, self._pick("fabric"),
                          self._gain(0.2), 0.0, 0.36, False)
        return width + 0.15

    def _middle(self, ahead, left, right) -> None:
        """A table or some boxes standing free."""
        rng = self.rng
        texture, gain = self.furniture
        for _ in range(int(rng.integers(1, 3))):
            origin = np.array([rng.uniform(0.9, max(ahead, 1.2)), rng.uniform(-right, left - 0.4), 0.0])
            along, out = np.array([0.0, -1.0, 0.0]), np.array([-1.0, 0.0, 0.0])
            size = rng.uniform(0.4, 1.4), rng.uniform(0.4, 0.8)
            high = rng.uniform(0.35, 0.78)
            if origin[0] - size[1] < 0.7:
                continue
            self._box_on(origin, along, out, 0.0, high - 0.06, (*size, 0.06), texture[2:], texture[3:], gain,
                         self._pick("planks"))
            for x in (0.03, size[0] - 0.08):
                self._box_on(origin, along, out, x, 0.0, (0.05, 0.05, high - 0.06), texture[3:], texture[3:], gain)
            self._things(origin, along, out, 0.0, high, size[0], size[1], int(rng.integers(0, 6)))


def _draw(quads: list[_Quad], K, R_camera_room, width, height) -> np.ndarray:
    """Paint quads in order over each other. Returns (height, width, 3) float32 linear light."""
    image = np.zeros((height, width, 3), np.uint8)
    glow = np.zeros((height, width), np.float32)
    camera = K @ R_camera_room
    corners = np.array([[q.corner, q.corner + q.right, q.corner + q.right + q.down, q.corner + q.down] for q in quads])
    homogeneous = corners @ camera.T                                                # (Q, 4, 3)
    x, y, w = np.moveaxis(homogeneous, -1, 0)
    planes = np.stack([w - _NEAR_M, x + w, (width + 1) * w - x, y + w, (height + 1) * w - y], axis=-1)
    seen = ~(planes < 0).all(axis=1).any(axis=1)
    whole = (planes[..., 0] > 0).all(axis=1) & (np.abs(homogeneous[..., :2]).max(axis=(1, 2)) < 3e4 * w.min(axis=1))
    for k in np.flatnonzero(seen):
        polygon = homogeneous[k] if whole[k] else _clip(homogeneous[k], width, height)
        if len(polygon) >= 3:
            _draw_quad(image, glow, quads[k], camera, polygon[:, :2] / polygon[:, 2:])
    linear = sensor.to_linear(image)
    if glow.any():
        glow = glow + 0.25 * cv2.GaussianBlur(glow, (0, 0), 0.03 * width)
        linear *= 1.0 + glow[..., None]
    return linear


def _clip(polygon: np.ndarray, width: int, height: int) -> np.ndarray:
    """Cut a polygon of homogeneous image points (n, 3) to the picture and the space before the camera."""
    margin = 64.0
    for plane, limit in (((0, 0, 1.0), _NEAR_M), ((1.0, 0, margin), 0.0), ((-1.0, 0, width + margin), 0.0),
                         ((0, 1.0, margin), 0.0), ((0, -1.0, height + margin), 0.0)):
        value = polygon @ np.array(plane) - limit
        out = []
        for i in range(len(polygon)):
            a, b = value[i - 1], value[i]
            if (a > 0) != (b > 0):
                out.append(polygon[i - 1] + (polygon[i] - polygon[i - 1]) * (a / (a - b)))
            if b > 0:
                out.append(polygon[i])
        if len(out) < 3:
            return np.zeros((0, 3))
        polygon = np.array(out)
    return polygon


def _draw_quad(image, glow, quad: _Quad, camera, polygon) -> None:
    height, width = image.shape[:2]
    low = np.maximum(np.floor(polygon.min(0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(polygon.max(0)).astype(int) + 2, (width, height))
    if (high - low < 1).any():
        return
    matrix = camera @ np.stack([quad.right, quad.down, quad.corner], axis=1)
    if abs(np.linalg.det(matrix)) < 1e-9:
        return
    size = int(high[0] - low[0]), int(high[1] - low[1])
    mask = np.zeros((size[1], size[0]), np.uint8)
    cv2.fillConvexPoly(mask, np.round((polygon - low) * 16).astype(np.int32), 255, cv2.LINE_AA, 4)
    inverse = np.linalg.inv(matrix) @ np.array([[1.0, 0, low[0]], [0, 1.0, low[1]], [0, 0, 1.0]])
    rows, columns = quad.texture[0].shape[:2]
    px, py = polygon.T
    area = 0.5 * abs(px @ np.roll(py, -1) - py @ np.roll(px, -1)) + 1.0
    share = np.linalg.inv(matrix) @ np.vstack([polygon.T, np.ones(len(polygon))])
    st = share[:2] / share[2]
    covered = 0.5 * abs(st[0] @ np.roll(st[1], -1) - st[1] @ np.roll(st[0], -1))
    texels = covered * rows * columns * quad.repeat[0] * quad.repeat[1]
    level = int(np.clip(np.floor(0.5 * np.log2(max(texels / area, 1e-6)) + 0.3), 0, len(quad.texture) - 1))
    texture = quad.texture[level]
    rows, columns = texture.shape[:2]
    tiled = quad.repeat != (1.0, 1.0)
    to_texture = np.diag([columns * quad.repeat[0], rows * quad.repeat[1], 1.0]) @ inverse
    patch = cv2.warpPerspective(texture, to_texture, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                                borderMode=cv2.BORDER_WRAP if tiled else cv2.BORDER_REPLICATE)
    if patch.shape[2] == 4:
        mask = cv2.multiply(mask, patch[..., 3], scale=1 / 255)
        patch = np.ascontiguousarray(patch[..., :3])
    gain = np.broadcast_to(np.asarray(quad.gain, np.float64), 3)
    if quad.shade is not None:
        side = quad.shade.shape[0]
        light = cv2.warpPerspective(quad.shade, np.diag([side - 1.0, side - 1.0, 1.0]) @ inverse, size,
                                    flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE)
        patch = cv2.multiply(patch, cv2.merge([light] * 3), scale=1 / 128)
    if (gain != 1.0).any():
        patch = cv2.multiply(patch, (*gain.tolist(), 0.0))
    region = image[low[1]:high[1], low[0]:high[0]]
    cv2.copyTo(patch, (mask == 255).astype(np.uint8), region)      # cv2.compare refuses a mask of one pixel
    mixed = (mask > 0) & (mask < 255)                              # edges, and what shines through
    weight = mask[mixed][:, None].astype(np.uint16)
    region[mixed] = (patch[mixed] * weight + region[mixed] * (255 - weight) + 127) // 255
    if quad.glow or glow.any():
        share = mask.astype(np.float32) / 255
        sent = quad.glow * np.clip((patch.mean(-1, dtype=np.float32) - 150) / 100, 0, 1) if quad.glow else 0.0
        part = glow[low[1]:high[1], low[0]:high[0]]
        part[:] = part * (1 - share) + sent * share
