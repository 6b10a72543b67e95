"""Skin, nails, gloves and cloth: texture atlases made once per process and the colours drawn for each image.

The skin atlas is computed from where each texel sits on the hand at rest (Renderer.bake): creases at the finger joints
and across the palm, wrinkles over the knuckles, nails, pads, veins, hair and blotches, all procedural. Base colours
run along a curve of measured skin albedos from very pale to very dark; palms lose most of the melanin.
"""
from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates

from hand_pose_ros.skeleton import FINGERTIPS
from hand_pose_ros.synthesis.renderer import SkinLook, SkinTemplate
from hand_pose_ros.synthesis.rig import axis_angle
from hand_pose_ros.synthesis.sensor import to_linear

ATLAS = 512
SKIN_LAYERS = 12
PATTERNS = 46
HAIR = 28
"""Number of the pattern of hair: strands along v."""
PRINTS = tuple(range(29, 36))
"""Numbers of the patterns with one motif in the middle."""
SCREENS, TEXT, BUTTONS, WOOD, FRUIT = (40, 41), 42, 43, 44, 45
"""Numbers of the patterns of lit screens, printed pages, remote controls, wood and fruit skin."""
_PATTERN_SIZE = 128
_NOISE_CELLS = 128

_TONES = to_linear(np.array([[245, 219, 204], [236, 198, 176], [219, 172, 145], [197, 146, 114], [166, 115, 84],
                             [128, 84, 60], [92, 60, 45], [62, 42, 33], [40, 28, 24]], np.uint8))
_TONES *= np.linspace(0.76, 1.3, len(_TONES), dtype=np.float32)[:, None]
"""Linear albedos along the melanin axis 0..1: sRGB values read off the Monk scale's photographs, made redder and,
since photographs are exposed for faces, darker at the pale end and lighter at the dark one."""


def noise(rng: np.random.Generator, size: int, exponent: float, channels: int = 1) -> np.ndarray:
    """Tileable random field, amplitude spectrum 1 / f^exponent, zero mean, unit deviation. (size, size, channels)."""
    f = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    f[0, 0] = np.inf
    spectrum = (rng.standard_normal((channels, size, size // 2 + 1)) + 1j * rng.standard_normal(
        (channels, size, size // 2 + 1))) / f ** exponent
    field = np.fft.irfft2(spectrum, s=(size, size), axes=(1, 2))
    field /= field.std(axis=(1, 2), keepdims=True)
    return np.moveaxis(field, 0, -1).astype(np.float32)


@lru_cache(maxsize=None)
def _solid_noise(exponent: float) -> np.ndarray:
    """Tileable random field (n, n, n) whose plane sections have the amplitude spectrum 1 / f^exponent."""
    n, rng = _NOISE_CELLS, np.random.default_rng(round(1000 * exponent))
    f, half = np.fft.fftfreq(n), np.fft.rfftfreq(n)
    f = np.sqrt(f[:, None, None] ** 2 + f[:, None] ** 2 + half ** 2)
    f[0, 0, 0] = np.inf
    white = np.fft.rfftn(rng.standard_normal((n, n, n), dtype=np.float32))
    return np.fft.irfftn(white / f ** (exponent + 0.5), s=(n, n, n), axes=(0, 1, 2)).astype(np.float32)


def _skin_noise(rng: np.random.Generator, points: np.ndarray, exponent: float, cell_m: float) -> np.ndarray:
    """Random field at points (N, 3) metres of the skin, zero mean, unit deviation: (N,). It knows nothing of charts, so
    it has no seams and is nowhere drawn out. cell_m: what it is not finer than."""
    axis = rng.normal(0, 1, 3)
    turn = axis_angle(axis / np.linalg.norm(axis), rng.uniform(0, np.pi))
    cells = (points / cell_m) @ turn.T + rng.uniform(0, _NOISE_CELLS, 3)
    field = map_coordinates(_solid_noise(exponent), cells.T, order=1, mode="grid-wrap")
    return (field - field.mean()) / field.std()


def tone(melanin: float) -> np.ndarray:
    """Linear albedo (3,) of skin for a melanin value in 0 (very pale) .. 1 (very dark)."""
    x = np.clip(melanin, 0.0, 1.0) * (len(_TONES) - 1)
    i = min(int(x), len(_TONES) - 2)
    return (1 - (x - i)) * _TONES[i] + (x - i) * _TONES[i + 1]


def sample_skin(rng: np.random.Generator) -> tuple[SkinLook, float]:
    """Draw one person's skin. Returns (look, melanin)."""
    melanin = float(np.clip(rng.beta(1.35, 1.7) * 1.02, 0.0, 1.0))
    hue = np.exp(rng.normal(0.0, 0.06) * np.array([0.5, -0.6, -0.9])
                 + rng.normal(0.0, 0.05) * np.array([0.2, 0.3, -1.2])
                 + rng.normal(0.0, 0.08))
    back = tone(melanin) * hue
    palm_melanin = melanin * rng.uniform(0.4, 0.75) if melanin > 0.35 else melanin * rng.uniform(0.35, 0.8)
    flush = rng.uniform(0.2, 1.0)
    palm = tone(palm_melanin) * hue * np.array([1.0, 1.0 - 0.18 * flush, 1.0 - 0.13 * flush])
    palm *= 1.0 + melanin * np.array([-0.06, 0.08, 0.3])           # little melanin over blood: pink, not orange
    blood = np.array([0.97, 0.70, 0.68]) + melanin * np.array([-0.03, 0.08, 0.06])
    knuckle = (np.array([0.94, 0.70, 0.66]) - melanin * np.array([0.34, 0.18, 0.16])) ** rng.uniform(0.6, 1.4)
    nail = (0.65 * palm + 0.35 * back) * (np.array([1.2, 1.02, 1.02]) - 0.25 * melanin)
    if rng.random() < 0.12:                      # varnish
        nail = to_linear(rng.integers(0, 256, 3).astype(np.uint8)) * 0.8 + 0.02
    return SkinLook(
        layer=int(rng.integers(SKIN_LAYERS)), back=back, palm=palm, blood=blood, knuckle=knuckle, nail=nail,
        crease=np.array([0.62, 0.46, 0.40]) ** rng.uniform(0.4, 1.4),
        scatter=np.array([0.32, 0.14, 0.09]) * rng.uniform(0.6, 1.3) * (1 - 0.5 * melanin),
        gloss=float(np.clip(rng.normal(0.3, 0.13) + 0.12 * melanin, 0.03, 0.7)),
        bump_m=float(rng.uniform(0.0006, 0.0018)), detail=float(rng.uniform(0.5, 1.0))), melanin


def sample_glove(rng: np.random.Generator, look: SkinLook) -> SkinLook:
    """Turn a skin into a glove of latex, cloth or leather."""
    popular = np.array([[70, 110, 190], [235, 235, 235], [25, 25, 28],
                        [120, 80, 50], [200, 60, 40], [60, 140, 80]], np.uint8)
    color = to_linear(popular[rng.integers(len(popular))]) * np.exp(rng.normal(0, 0.15, 3))
    plain = np.ones(3)
    return SkinLook(look.layer, np.minimum(color, 0.9), color, plain, plain, color, look.crease, np.full(3, 0.08),
                    float(rng.uniform(0.05, 0.65)), look.bump_m, 1.0, True)


def sample_cloth(rng: np.random.Generator) -> np.ndarray:
    """Linear albedo (3,) of cloth, plastic or paint: greys and dark colours are as common as bright ones."""
    kind = rng.random()
    if kind < 0.42:
        grey = rng.uniform(0.0, 1.0) ** 1.5
        color = np.full(3, 0.02 + 0.78 * grey) * np.exp(rng.normal(0, 0.04, 3))
    else:
        saturation, value = np.clip(rng.normal(105, 60), 0, 255), np.clip(rng.normal(125, 60), 20, 250)
        hsv = np.array([[[rng.integers(180), saturation, value]]], np.uint8)
        color = to_linear(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0])
    return np.clip(color, 0.01, 0.85)


@lru_cache(maxsize=1)
def patterns() -> np.ndarray:
    """(PATTERNS, B, B, 3) uint8 tileable factors for solids; 127 leaves the colour as it is. Number 0 is plain."""
    rng = np.random.default_rng(7)
    b = _PATTERN_SIZE
    x, y = np.meshgrid(np.arange(b), np.arange(b))
    out = np.full((PATTERNS, b, b, 3), 127, np.float32)
    for k in range(1, PATTERNS):
        tile = np.ones((b, b, 3), np.float32)
        family = k % 9
        if k == HAIR:
            strands = cv2.resize(noise(rng, b, 0.15)[:6, :, 0], (b, b), interpolation=cv2.INTER_CUBIC)
            tile = (1 + 0.4 * strands / strands.std())[..., None] * np.array([1.0, 0.98, 0.95])
        elif k in PRINTS:
            tile = _print(rng, b)
        elif k in SCREENS or k in (TEXT, BUTTONS):
            tile = _face(rng, b, "screen" if k in SCREENS else "text" if k == TEXT else "buttons")
        elif k == WOOD:
            grain = cv2.resize(noise(rng, b, 0.7)[:12, :, 0].T, (b, b), interpolation=cv2.INTER_CUBIC)
            tile = (1 + 0.2 * grain / grain.std())[..., None] * np.array([1.0, 0.97, 0.9])
        elif k == FRUIT:
            tile = 1 + 0.12 * noise(rng, b, 1.4) * np.array([1.0, -0.6, -0.3]) + 0.06 * noise(rng, b, 0.2)
        elif family == 0:
            tile += 0.25 * noise(rng, b, 1.0)
        elif family == 1:                        # stripes
            n = int(rng.integers(2, 10))
            tile = np.where(((x * n // b) % 2 == 0)[..., None], rng.uniform(0.3, 1.5, 3), rng.uniform(0.3, 1.5, 3))
        elif family == 2:                        # checks
            n = int(rng.integers(2, 8))
            line = 0.5 + 0.5 * ((x * 2 * n // b) % 2)
            tile = (line * (0.5 + 0.5 * ((y * 2 * n // b) % 2)))[..., None] * rng.uniform(0.7, 2.0, 3)
        elif family == 3:                        # knit
            stitch = np.sin(2 * np.pi * 16 * x / b) * np.sin(2 * np.pi * 16 * (y + np.abs(x % 8 - 4)) / b)
            tile = (1 + 0.25 * stitch)[..., None] + 0.08 * noise(rng, b, 0.3)
        elif family == 4:                        # denim, wood: drawn-out grain
            grain = cv2.resize(noise(rng, b, 0.2)[::8, :, 0], (b, b), interpolation=cv2.INTER_CUBIC)
            tile = tile + (0.2 * grain / grain.std())[..., None] * np.array([1.0, 1.0, 0.9])
        elif family == 5:                        # dots
            n = int(rng.integers(3, 9))
            d = np.hypot((x * n % b) - b / 2, (y * n % b) - b / 2) < b * 0.28
            tile = np.where(d[..., None], rng.uniform(0.3, 2.0, 3), 1.0)
        elif family == 6:                        # printed label
            page = np.full((b, b, 3), 1.3, np.float32)
            for _ in range(7):
                color = tuple(float(c) for c in rng.uniform(0.0, 1.9, 3))
                corner = (int(rng.integers(-20, b)), int(rng.integers(b)))
                if rng.random() < 0.6:
                    text = "".join(chr(int(c)) for c in rng.integers(65, 91, int(rng.integers(2, 8))))
                    cv2.putText(page, text, corner, int(rng.integers(8)), float(rng.uniform(0.4, 1.6)), color,
                                int(rng.integers(1, 4)), cv2.LINE_AA)
                else:
                    far = (corner[0] + int(rng.integers(5, 70)), corner[1] + int(rng.integers(5, 40)))
                    cv2.rectangle(page, corner, far, color, -1)
            tile = page
        elif family == 7:                        # blotches, camouflage, flowers
            field = noise(rng, b, 1.3, 2)
            colors = rng.uniform(0.2, 1.8, (4, 3))
            tile = colors[(field[..., 0] > 0) * 2 + (field[..., 1] > 0.3)]
        else:
            tile = tile + 0.15 * noise(rng, b, 0.6, 3)
        out[k] = tile * 127
    return np.clip(out, 0, 255).astype(np.uint8)


def _print(rng: np.random.Generator, b: int) -> np.ndarray:
    """A motif or words in the middle of a neutral tile (b, b, 3)."""
    page = np.ones((b, b, 3), np.float32)
    ink = [tuple(float(c) for c in rng.choice([0.15, 1.9, rng.uniform(0, 2)]) * rng.uniform(0.6, 1.0, 3))
           for _ in range(3)]
    if rng.random() < 0.6:
        for _ in range(int(rng.integers(2, 9))):
            centre = tuple(int(v) for v in rng.normal(b / 2, b / 12, 2))
            axes = tuple(int(v) for v in rng.uniform(3, b / 6, 2))
            cv2.ellipse(page, centre, axes, float(rng.uniform(0, 180)), 0, 360, ink[int(rng.integers(3))], -1,
                        cv2.LINE_AA)
    for line in range(int(rng.integers(1, 4))):
        text = "".join(chr(int(c)) for c in rng.integers(65, 91, int(rng.integers(3, 8))))
        font, scale = int(rng.integers(8)), float(rng.uniform(0.5, 1.0))
        (wide, _), _ = cv2.getTextSize(text, font, scale, 2)
        cv2.putText(page, text, (b // 2 - wide // 2, b // 2 + int(line * 26 - 20)), font, scale, ink[line], 2,
                    cv2.LINE_AA)
    return page


def _face(rng: np.random.Generator, b: int, kind: str) -> np.ndarray:
    """What one face of a phone, page or remote control shows, (b, b, 3) of factors; v runs down a long face."""
    ground = {"screen": rng.choice([0.2, 1.9]), "text": 1.0, "buttons": 1.0}[kind]
    page = np.full((b, b, 3), ground, np.float32)
    if kind == "screen":
        for row in range(8, b - 8, 20):
            if rng.random() < 0.75:
                color = tuple(float(c) for c in rng.uniform(0.2, 1.9, 3))
                left, right = int(rng.integers(6, 20)), int(rng.integers(40, b - 6))
                cv2.rectangle(page, (left, row), (right, row + 14), color, -1)
    elif kind == "text":
        for row in range(10, b - 8, 7):
            cv2.line(page, (10, row), (int(rng.integers(60, b - 10)), row), (0.25, 0.25, 0.28), 1)
    else:
        for row in range(8, b - 8, 14):
            for column in (24, 56, 88):
                color = tuple(float(c) for c in rng.choice([0.3, 1.9, 1.5]) * rng.uniform(0.7, 1.0, 3))
                cv2.rectangle(page, (column, row), (column + 16, row + 8), color, -1)
    return page


def _smooth(low: float, high: float, x: np.ndarray) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def _line(distance: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-(distance / width) ** 2)


def atlas(renderer, name: str, template: SkinTemplate, vertices: np.ndarray, normals: np.ndarray, joints: np.ndarray,
          axes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bake the skin atlas of one hand mesh.

    vertices, normals (V, 3), joints (21, 3), axes (5, 3) flexion axes: the rest pose in the hand frame (y to the
    fingers, z out of the back), metres. Returns textures (SKIN_LAYERS, A, A, 4) and masks (1, A, A, 4), both uint8, as
    Renderer.set_atlas takes them.
    """
    rng = np.random.default_rng(11)
    where = renderer.bake(name, np.hstack([vertices, template.part[:, None]]), ATLAS)
    facing = renderer.bake(name, np.hstack([normals, np.zeros((len(normals), 1))]), ATLAS)[..., :3]
    filled = np.isfinite(where[..., 0])
    # Every texel outside the charts takes the nearest one inside, so that mipmaps do not mix in the gaps.
    nearest = tuple(distance_transform_edt(~filled, return_distances=False, return_indices=True))
    p, part = np.nan_to_num(where[..., :3]), np.round(np.nan_to_num(where[..., 3]))
    facing = np.nan_to_num(facing)
    up = facing[..., 2]
    palm_region, forearm = part == 2, part == 1
    palm = _smooth(-0.1, 0.5, -up) * (palm_region | (part == 3))   # the thumb's part begins in the ball of the palm
    nail = np.zeros_like(up)
    blood = np.zeros_like(up)
    crease = np.zeros_like(up)
    wrinkle = np.zeros_like(up)
    tip_of_nail = np.zeros_like(up)
    moon = np.zeros_like(up)
    dome = np.zeros_like(up)
    middle_length = np.linalg.norm(joints[12] - joints[9])
    for ray, tip in enumerate(FINGERTIPS):
        mine = (part == 3 + ray) | palm_region
        chain = joints[tip - 3:tip + 1]
        axis = axes[ray]
        for k in range(3):
            start, end = chain[k], chain[k + 1]
            along = end - start
            length = np.linalg.norm(along)
            along = along / length
            dorsal = np.cross(axis, along)
            dorsal /= np.linalg.norm(dorsal)
            local = p - start
            t = local @ along                                      # metres from the near joint
            side = local @ np.cross(along, dorsal)
            height = facing @ dorsal
            near = mine & (np.abs(side) < 0.016) & (np.abs(local @ dorsal) < 0.03)
            on_finger = near & (part == 3 + ray)
            inside = on_finger & (t > -0.3 * length) & (t < 1.4 * length)
            own = _smooth(-0.2, 0.5, -height)
            palm = np.where(inside, np.maximum(palm, own) if k == 0 else own, palm)
            if k > 0 or ray == 0:
                for offset, weight in ((-0.0012, 0.8), (0.0016, 0.6)) if k else ((0.001, 0.7),):
                    wobble = 0.0006 * np.sin(side * 700 + offset * 5000)
                    crease = np.maximum(crease, weight * near * _smooth(0.15, 0.6, -height)
                                        * _line(t - offset + wobble, 0.0007))
                for i in range(-2, 3):                             # wrinkles over the back of the joint
                    weight = (1.0 - 0.25 * abs(i)) * (1.0 if k == 1 or ray == 0 else 0.7)
                    bow = 12 * side * side * np.sign(i)
                    wrinkle = np.maximum(wrinkle, weight * near * _smooth(0.35, 0.75, height) * (np.abs(side) < 0.008)
                                         * _line(t - i * 0.0024 + bow, 0.0009))
                blood = np.maximum(blood, 0.6 * near * _smooth(0.3, 0.8, height) * _line(t, 0.008))
            else:                                                  # knuckle and the finger's root
                root = 0.42 * length
                crease = np.maximum(crease, 0.7 * on_finger * _smooth(0.15, 0.6, -height) * _line(t - root, 0.0008))
                blood = np.maximum(blood, 0.5 * near * _smooth(0.3, 0.8, height) * _line(t, 0.011))
                away = np.sqrt(((p - start - 0.01 * dorsal) ** 2).sum(-1))
                dome = np.maximum(dome, near * _smooth(0.2, 0.7, height) * _line(away, 0.008))
                for i in (-1, 0, 1):                               # faint folds across the knuckle
                    wrinkle = np.maximum(wrinkle, 0.4 * near * _smooth(0.5, 0.85, height) * (np.abs(side) < 0.007)
                                         * _line(t - i * 0.003 + 14 * side * side * (i or 0.3), 0.0009))
            if k == 2:
                radius = 0.0088 if ray == 0 else 0.0070 - 0.0008 * (ray == 4)
                radius *= middle_length / 0.1
                centre, half = 0.73 * length, 0.27 * length
                oval = ((t - centre) / half) ** 4 + (side / radius) ** 4
                plate = on_finger * _smooth(0.12, 0.35, height) * _smooth(1.15, 0.85, oval)
                nail = np.maximum(nail, plate)
                blood = np.maximum(blood, 0.6 * on_finger * _smooth(0.2, 0.8, -height) * _smooth(0.2, 0.7, t / length))
                rim = on_finger * _smooth(0.1, 0.3, height) * np.exp(-((oval - 1.1) / 0.25) ** 2)
                wrinkle = np.maximum(wrinkle, rim)
                tip_of_nail = np.maximum(tip_of_nail, plate * _smooth(0.55, 0.75, (t - centre) / half))
                moon = np.maximum(moon, plate * _smooth(-0.5, -0.75, (t - centre) / half)
                                  * _smooth(0.8, 0.4, np.abs(side) / radius))
    # The three lines of the palm, as curves between anatomical landmarks.
    wrist, index, middle, ring, little = joints[0], joints[5], joints[9], joints[13], joints[17]
    thumb = joints[1]
    lines = (
        (index + 0.15 * (wrist - index), 0.45 * index + 0.2 * little + 0.35 * wrist, 0.35 * middle + 0.65 * wrist),
        (index + 0.18 * (wrist - index), 0.4 * middle + 0.3 * ring + 0.3 * wrist, 0.55 * little + 0.45 * wrist),
        (0.55 * index + 0.5 * middle - 0.05 * wrist, 0.8 * ring + 0.2 * wrist, 0.82 * little + 0.18 * wrist),
        (thumb + 0.1 * (wrist - thumb), 0.5 * thumb + 0.5 * wrist, wrist + 0.3 * (little - wrist)),
    )
    facing_palm = palm_region * _smooth(0.1, 0.5, -up)
    for a, b, c in lines:
        s = np.linspace(0, 1, 40)[:, None]
        curve = ((1 - s) ** 2 * a + 2 * s * (1 - s) * b + s ** 2 * c)[:, :2]
        distance = np.ones(up.shape)
        distance[palm_region] = np.sqrt(((p[palm_region][:, None, :2] - curve) ** 2).sum(-1)).min(-1)
        crease = np.maximum(crease, 0.65 * facing_palm * _line(distance, 0.0009))
    at_wrist = p - joints[0]
    for offset in (-0.004, -0.010):
        crease = np.maximum(crease, 0.45 * (np.abs(at_wrist[..., 1] - offset) < 0.01) * _smooth(0.2, 0.6, -up)
                            * (palm_region | forearm)
                            * _line(at_wrist[..., 1] - offset + 0.001 * np.sin(p[..., 0] * 300), 0.0009))
    for centre, spread, strength in (
            (0.5 * thumb + 0.5 * joints[2], 0.016, 0.5), (0.7 * little + 0.3 * wrist, 0.016, 0.4),
            (0.35 * little + 0.65 * wrist, 0.018, 0.4), (0.9 * middle + 0.1 * wrist, 0.02, 0.4)):
        blood = np.maximum(blood, strength * facing_palm * np.exp(-((p - centre) ** 2).sum(-1) / (2 * spread ** 2)))
    palm *= _smooth(-0.016, 0.004, at_wrist[..., 1])               # it ends at the folds of the wrist
    inner = 0.3 * _smooth(0.2, 0.8, -up) * _smooth(-0.09, 0.0, at_wrist[..., 1])
    palm = np.where(forearm, inner, np.maximum(palm, inner * palm_region))                 # no ring where they meet
    palm = cv2.GaussianBlur(palm.astype(np.float32), (0, 0), 4.0)
    blood = cv2.GaussianBlur(blood.astype(np.float32), (0, 0), 1.5)
    masks = np.stack([palm, nail, blood, np.clip(crease + wrinkle, 0, 1)], axis=-1)
    masks = masks.astype(np.float32)[nearest]

    textures = np.zeros((SKIN_LAYERS, ATLAS, ATLAS, 4), np.float32)
    back = _smooth(0.1, 0.6, up) * (palm_region | forearm)
    skin = p[filled].astype(np.float32)
    texels_m = np.clip(np.linalg.norm(np.diff(p, axis=0, append=p[-1:]), axis=-1), 0.0005, 0.004)

    def field(exponent, cell_m):
        out = np.zeros(up.shape, np.float32)
        out[filled] = _skin_noise(rng, skin, exponent, cell_m)
        return out

    for layer in range(SKIN_LAYERS):
        blotch = field(1.1, 0.0024) * rng.uniform(0.05, 0.13)
        red = np.maximum(field(1.2, 0.0024), -0.6) * rng.uniform(0.02, 0.055)               # less looks green
        fine = field(0.25, 0.0008)
        red *= 1 + 0.4 * palm                                      # palms are mottled
        shade = 1 + blotch + fine * rng.uniform(0.01, 0.05)
        color = np.stack([shade + red, shade - 0.8 * red, shade - 0.8 * red], axis=-1)
        bump = (0.4 + (0.018 + 0.014 * (1 - palm)) * fine + 0.03 * field(0.9, 0.0016) - 0.22 * crease
                - 0.3 * wrinkle + 0.1 * nail + rng.uniform(0.15, 0.5) * dome)
        ridge = np.exp(-(field(1.5, 0.003) / 0.13) ** 2) * back
        vein = rng.uniform(0.0, 1.0) ** 1.4
        color -= (ridge * vein)[..., None] * np.array([0.16, 0.07, 0.02])
        bump += 0.25 * vein * cv2.GaussianBlur(ridge.astype(np.float32), (0, 0), 2)
        for ray in range(1, 5):                                    # tendons of the back
            a, b = joints[0], joints[1 + 4 * ray]
            s = np.clip(((p - a) @ (b - a)) / ((b - a) @ (b - a)), 0.25, 0.95)
            d = np.linalg.norm((p - a - s[..., None] * (b - a))[..., :2], axis=-1)
            tendon = rng.uniform(0.2, 1.0) * palm_region * _smooth(0.2, 0.7, up) * _line(d, 0.0028)
            bump += 0.4 * tendon
            color *= (1 + 0.07 * tendon)[..., None]
        if layer % 3 == 1:                                         # freckles and spots
            spots = np.zeros((ATLAS, ATLAS), np.float32)
            for x, y, r in zip(rng.integers(0, ATLAS, 500), rng.integers(0, ATLAS, 500), rng.exponential(0.8, 500)):
                cv2.circle(spots, (int(x), int(y)), int(1 + r), float(rng.uniform(0.1, 0.5)), -1, cv2.LINE_AA)
            color -= (spots * (1 - palm))[..., None] * np.array([0.25, 0.3, 0.33])
        if layer % 3 == 2:                                         # hair on the back of hand and forearm
            hair = np.zeros((ATLAS, ATLAS), np.float32)
            for _ in range(2500):
                x, y = rng.uniform(0, ATLAS, 2)
                angle = rng.normal(0.8, 0.5)
                texel_m = texels_m[int(y), int(x)]
                reach = rng.uniform(0.0025, 0.009) / texel_m
                end = (int(x + np.cos(angle) * reach), int(y + np.sin(angle) * reach))
                strength = rng.uniform(0.2, 0.7) * np.clip(0.001 / texel_m, 0.4, 1.0)       # wider than a hair
                cv2.line(hair, (int(x), int(y)), end, float(strength), 1, cv2.LINE_AA)
            allowed = np.clip(_smooth(-0.3, 0.5, up) * (forearm + 0.6 * palm_region), 0, 1)
            color *= (1 - 0.75 * hair * allowed)[..., None]
        edge = rng.uniform(0.0, 0.6)                               # how far nails are grown
        on_nail = 1 + edge * tip_of_nail + 0.12 * moon + 0.3 * (shade - 1)
        color += nail[..., None] * (on_nail[..., None] - color)
        textures[layer, ..., :3] = np.clip(color, 0.2, 1.9) * 0.5
        textures[layer, ..., 3] = bump
    textures = (np.clip(textures, 0, 1) * 255 + 0.5).astype(np.uint8)[:, nearest[0], nearest[1]]
    return (textures, (np.clip(masks, 0, 1)[None] * 255 + 0.5).astype(np.uint8))
