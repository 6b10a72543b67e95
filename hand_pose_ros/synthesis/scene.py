"""Draws scenes: what the hand does, wears and holds, from where it is seen, in which light and before what.

Everything about one hand is built in its hand frame (rig.py) as a right hand and then placed in the camera frame; a
left hand is placed with a reflection, so that its sleeve, watch and object are mirrored with it.
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache

import cv2
import numpy as np

from hand_pose_ros.errors import ConfigError
from hand_pose_ros.skeleton import BONES, FINGERS
from hand_pose_ros.synthesis import (backgrounds, body, environment, lens, materials, objects, poses, rig, sensor,
                                     shapes, touch)
from hand_pose_ros.synthesis.hand_model import HandModel, HandShape
from hand_pose_ros.synthesis.renderer import Renderer, Skin, SkinTemplate, Solid, View

MODELS = {"makehuman": 0.8, "webxr": 0.2}
"""Hand meshes in use and how often each is drawn."""
OWNER_IN_PICTURE = 0.42
"""Share of crops that show the person whose hand it is."""
SHOWN_PALM = 0.75
"""Share of hands held up to the camera that show their palm; the others show their back."""
MODES = {"showing": 0.36, "people": 0.25, "arms": 0.26, "none": 0.13}
"""What whole frames show and how often: people who show a gesture, other people, lone arms, no hands."""
AT_HEAD = 0.3
"""Share of people who hold a hand to the head, as for a call, in thought or to the mouth: skin before skin."""
DISTORTED = 0.35
"""Share of frames from a camera with lens distortion. Crops have none: the robot's own crops are undistorted too."""
COARSE, COARSE_BLUR_PX = 0.67, 1.5
"""Pictures whose camera has fewer real pixels than this share of the stored ones a side, or more defocus than this, are
drawn without supersampling: they are averaged afterwards."""
BOX_SHARE = (0.45, 0.6)
"""Longer side of the joints' box in a crop over the crop's side."""
FOREARM_BALL = 0.23, 0.32
"""A ball that holds a forearm, its hand and what that holds: metres of its middle from the elbow, and of its radius."""
ELBOW_END_M = 0.03
"""Beyond the elbow the mesh of an arm, which goes on bent, is drawn in to a round end: what lies as far beyond as this,
and more, to its tip."""
MAX_STRETCH = 1.3
"""How much longer than wide a square of skin may be in the atlas, whose texels are not to be wasted."""
LENS_WIDENS = 0.1
"""A distorted lens may show this share of the picture's side more than the pinhole that it is made from."""
HOLDING = 0.24
"""Share of hands that are given something to hold (a few of them find nothing that fits)."""


@dataclass(frozen=True, eq=False)
class Arm:
    """One right hand with forearm and all that moves with it, in the hand frame, metres."""

    model: str
    vertices: np.ndarray                        # (V, 3)
    normals: np.ndarray                         # (V, 3)
    joints: np.ndarray                          # (21, 3)
    elbow: np.ndarray                           # (3,)
    hand_length_m: float
    look: materials.SkinLook
    parts: tuple                                # solids as (mesh, colour, pattern, gloss)
    attributes: dict


@dataclass(frozen=True, eq=False)
class Owner:
    """The mesh and shape that both hands of one person share."""

    model: str
    shape: HandShape


@dataclass(frozen=True, eq=False)
class PlacedHand:
    """A labelled hand in the camera frame."""

    joints_m: np.ndarray                        # (21, 3)
    is_right: bool
    hand_length_m: float
    attributes: dict


@dataclass(frozen=True, eq=False)
class Scene:
    """One picture to be: geometry and light, what is behind, and the camera's settings."""

    view: View
    background: np.ndarray                      # (H, W, 3) float32 linear
    settings: dict                              # sensor.develop
    hands: tuple[PlacedHand, ...]
    attributes: dict = field(default_factory=dict)
    lens: lens.Lens | None = None                    # bends the view and the background; None: they are the picture
    is_crop: bool = False                       # one hand, labelled whatever hides it
    others: tuple[PlacedHand, ...] = ()         # hands that are not labelled, but may be seen


@lru_cache(maxsize=None)
def template(name: str) -> SkinTemplate:
    """The renderer's view of a hand model: its UV charts packed into one atlas, those of the hand largest."""
    model = HandModel.load(name)
    mesh, vertices = model.mesh, model.shape(None).vertices
    chart = _charts(mesh.faces, len(mesh.uv))
    sizes = _chart_sizes(mesh, vertices, chart)
    of_hand = np.isin(np.arange(len(sizes)), chart[mesh.part_ids >= 3])
    uv = np.empty((len(mesh.uv), 2))
    for row, low, high in ((of_hand, (0.01, 0.29), (0.99, 0.99)), (~of_hand, (0.01, 0.01), (0.99, 0.27))):
        _lay_out(uv, mesh.uv, chart, sizes, row, np.array(low), np.array(high))
    return SkinTemplate(mesh.faces, uv, mesh.part_ids)


def _lay_out(uv: np.ndarray, source: np.ndarray, chart: np.ndarray, sizes: np.ndarray, row: np.ndarray,
             low: np.ndarray, high: np.ndarray) -> None:
    """Write into ``uv`` (V, 2) where the charts of one row go: side by side between the corners ``low`` and ``high``
    (2,), at one scale, but for MAX_STRETCH. sizes: (C, 2) metres, 0 of what is no surface. row: (C,) which charts."""
    shown = np.flatnonzero(row & (sizes.min(1) > 0))
    room = high - low - [0.01 * (len(shown) - 1), 0.0]
    scale = room / [sizes[shown, 0].sum(), sizes[shown, 1].max()]
    scale = np.minimum(scale, MAX_STRETCH * scale.min())
    uv[row[chart]] = low                                            # what has no area is not seen
    corner = low
    for number in shown:
        inside = chart == number
        start, end = source[inside].min(0), source[inside].max(0)
        uv[inside] = corner + (source[inside] - start) / (end - start) * sizes[number] * scale
        corner = corner + [sizes[number, 0] * scale[0] + 0.01, 0.0]


def _chart_sizes(mesh, vertices: np.ndarray, chart: np.ndarray) -> np.ndarray:
    """Width and height (C, 2) in metres of UV charts on the skin (S, 3); 0 of charts without area."""
    corners, source = vertices[mesh.skin_faces], mesh.uv[mesh.faces].astype(np.float64)
    across, edges = (np.stack([p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]], axis=-1) for p in (source, corners))
    flat = np.abs(np.linalg.det(across)) > 1e-12
    slopes = np.linalg.norm(edges[flat] @ np.linalg.inv(across[flat]), axis=1)         # metres along u and v
    of_face = chart[mesh.faces[flat, 0]]
    sizes = np.zeros((chart.max() + 1, 2))
    for number in np.unique(of_face):
        sizes[number] = np.median(slopes[of_face == number], axis=0) * np.ptp(mesh.uv[chart == number], axis=0)
    return sizes


def _charts(faces: np.ndarray, count: int) -> np.ndarray:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    edges = np.vstack([faces[:, [0, 1]], faces[:, [1, 2]]])
    return connected_components(coo_matrix((np.ones(len(edges)), edges.T), shape=(count, count)), directed=False)[1]


def make_renderer(width: int, height: int, supersample: int = 2) -> Renderer:
    """A renderer with every texture these scenes use. Raises ConfigError without EGL, DataError without assets."""
    renderer = Renderer(width, height, {name: template(name) for name in MODELS}, environment.reflections(),
                        materials.patterns(), supersample)
    for name in MODELS:
        model = HandModel.load(name)
        shape = model.shape(None)
        rest = model.pose(shape, model.rest(shape))
        renderer.set_atlas(name, *materials.atlas(renderer, name, template(name), rest.vertices, rest.normals,
                                                  shape.skeleton.joints, shape.skeleton.axes))
    return renderer


def sample_crop(rng: np.random.Generator, size: int, kinds: tuple[str, ...] | None = None,
                shown: bool = False) -> Scene:
    """Draw a scene with one hand near the centre of a size x size image, its joints' box BOX_SHARE of it.

    kinds: only poses of these kinds or names (poses.sample_named), without owner or another hand, nothing held.
    shown: the hand is held up to the camera (``sample_shown``), or beside its owner's face.
    """
    look, melanin = materials.sample_skin(rng)
    attributes = {"melanin": round(melanin, 3)}
    R_world_camera, floor = sample_up(rng), None
    if kinds is None and rng.random() < OWNER_IN_PICTURE:
        skins, solids, capsules, hand, others, distance, floor = _owned_hand(rng, look, R_world_camera, shown)
        is_right = hand.is_right
        attributes["person"] = True
    else:
        skins, solids, capsules, hand, distance = _lone_hand(rng, look, kinds, shown)
        others = ()
        is_right = hand.is_right
        if kinds is None and rng.random() < 0.12 and (extra := _other_hand(rng, look, hand, capsules)):
            skins, solids, capsules = skins + extra[0], solids + extra[1], np.vstack([capsules, extra[2]])
            others, attributes["other_hand"] = (extra[3],), True
    attributes["distance_m"] = round(distance, 3)
    hands = [hand]
    joints = hand.joints_m
    flat = joints[:, :2] / joints[:, 2:]
    extent = float(np.ptp(flat, axis=0).max())
    side = rng.uniform(*BOX_SHARE) * size
    f = side / extent
    middle = 0.5 * (flat.min(0) + flat.max(0))
    principal = 0.5 * (size - 1) - f * middle + rng.normal(0.0, 0.02 * size, 2)
    K = np.array([[f, 0.0, principal[0]], [0.0, f, principal[1]], [0.0, 0.0, 1.0]])

    if rng.random() < 0.12:
        solids = solids + _occluders(rng, joints, distance)
        attributes["occluder"] = True

    lighting = environment.sample(rng, R_world_camera)
    background, kind = backgrounds.sample(rng, size, size, K, lighting, distance + 0.3, floor)
    attributes["background"] = kind
    background = background * np.float32(0.6 * lighting.sh[0].mean() + 0.4)
    settings = sensor.sample(rng, side)
    return Scene(View(K, lighting, skins, solids, capsules, _coarse(settings)), background,
                 settings, tuple(hands), attributes, is_crop=True, others=others)


def _coarse(settings: dict) -> bool:
    return settings["resolution"] < COARSE or settings["defocus_px"] > COARSE_BLUR_PX


def _lone_hand(rng, look, kinds, shown):
    """A hand with its forearm, seen from anywhere unless shown."""
    arm = sample_arm(rng, look, kinds=kinds)
    R_camera_hand = sample_shown(rng) if shown else sample_view(rng)
    distance = float(np.exp(rng.uniform(np.log(0.28), np.log(0.9)) if rng.random() < 0.6
                            else rng.uniform(np.log(0.9), np.log(4.0))))
    ray = np.array([rng.uniform(-0.55, 0.55), rng.uniform(-0.4, 0.4), 1.0])
    flip = np.diag([1.0 if rng.random() < 0.5 else -1.0, 1.0, 1.0])
    R = _turn_to(ray) @ R_camera_hand @ flip
    t = distance * ray / np.linalg.norm(ray) - R @ (0.5 * (arm.joints.min(0) + arm.joints.max(0)))
    return *place(arm, R, t, 0), distance


def _owned_hand(rng, look, R_world_camera, shown):
    """A gesturing hand with the person it belongs to, seen from somewhere before that person."""
    someone = _person(rng, look, legs=False, showing=shown or rng.random() < 0.6, may_reach=not shown)
    distance = float(np.exp(rng.uniform(np.log(0.4), np.log(3.5))))
    ray = np.array([rng.uniform(-0.5, 0.5), rng.uniform(-0.4, 0.4), 1.0])
    R_camera_body = _before_person(rng, R_world_camera, ray)
    arm, R, t = _arm_of(rng, look, someone, someone.chosen)
    origin = distance * ray / np.linalg.norm(ray) - R_camera_body @ (R @ arm.joints.mean(0) + t)
    skins, solids, capsules, hand = place(arm, R_camera_body @ R, R_camera_body @ t + origin, 0)
    solids, others = _placed_solids(someone.person, R_camera_body, origin) + solids, ()
    flat = hand.joints_m[:, :2] / hand.joints_m[:, 2:]
    widest = (0.5 / BOX_SHARE[0] + 0.1) * np.ptp(flat, axis=0).max()                # from the middle to the border
    middle = 0.5 * (flat.min(0) + flat.max(0))
    side = 1 - someone.chosen
    if _may_be_seen(someone, side, R_camera_body, origin, middle - widest, middle + widest):
        arm, R, t = _arm_of(rng, look, someone, side, (arm, R, t))
        placed = place(arm, R_camera_body @ R, R_camera_body @ t + origin, -1)
        skins, solids, capsules = skins + placed[0], solids + placed[1], np.vstack([capsules, placed[2]])
        others = (placed[3],)
    return skins, solids, capsules, hand, others, distance, _floor_below(R_world_camera, origin)


def sample_frame(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Draw a whole camera picture with no, one or several hands: people, bare arms from outside, or neither.

    Six of ten people stand before the camera and show a gesture to it, as users of a gesture interface do.
    """
    hfov = np.radians(rng.uniform(42, 88))
    f = 0.5 * width / np.tan(0.5 * hfov)
    K = np.array([[f, 0.0, 0.5 * (width - 1) + rng.normal(0, 0.01 * width)],
                  [0.0, f * rng.normal(1, 0.003), 0.5 * (height - 1) + rng.normal(0, 0.01 * height)], [0.0, 0.0, 1.0]])
    mode = str(rng.choice(list(MODES), p=list(MODES.values())))
    R_world_camera = sample_up(rng, 0.35 if mode == "showing" else 1.0)
    lighting = environment.sample(rng, R_world_camera)
    skins, solids, capsules, hands = (), (), np.zeros((0, 7)), []
    attributes = {"mode": mode}
    look, melanin = materials.sample_skin(rng)
    attributes["skins"] = [round(melanin, 3)] if mode == "arms" else []
    stage = _Stage(K, width, height, R_world_camera)
    clear, floor = 1.0, None
    if mode in ("people", "showing"):
        for _ in range(1 + int(rng.random() < 0.18)):
            look, melanin = materials.sample_skin(rng)
            attributes["skins"].append(round(melanin, 3))
            drawn, origin = _add_person(rng, look, stage, hands, mode)
            skins, solids, capsules = skins + drawn[0], solids + drawn[1], np.vstack([capsules, drawn[2]])
            clear, floor = max(clear, origin[2] + 0.35), _floor_below(R_world_camera, origin)
    elif mode == "arms":
        for _ in range(int(rng.choice([1, 2, 3], p=[0.5, 0.38, 0.12]))):
            R, t, arm = _free_arm(rng, look, K, width, height)
            placed = place(arm, R, t, len(hands))
            if _overlap(placed[2], capsules) <= 0:
                skins, solids, capsules = skins + placed[0], solids + placed[1], np.vstack([capsules, placed[2]])
                hands.append(placed[3])
    else:
        if rng.random() < 0.6:                                      # a person whose hands are not in the picture
            (skins, solids, capsules), origin = _add_person(rng, look, stage, hands, mode)
            clear, floor = max(clear, origin[2] + 0.35), _floor_below(R_world_camera, origin)
        for _ in range(int(rng.integers(0, 5))):                    # skin-coloured things
            centre = _on_ray(K, rng.uniform(0, 1, 2) * (width, height), rng.uniform(0.4, 3.0))
            thing = free_object(rng, centre, float(rng.uniform(0.01, 0.08)))
            solids += (replace(thing, color=materials.tone(rng.random()) * np.exp(rng.normal(0, 0.15, 3)), pattern=0),)
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.45, 0.3, 0.15, 0.1]))):                  # clutter and occluders
        centre = _on_ray(K, rng.uniform(0, 1, 2) * (width, height),
                         float(np.exp(rng.uniform(np.log(0.35), np.log(4.0)))))
        size = float(np.exp(rng.uniform(np.log(0.008), np.log(0.06)))) * min(centre[2], 1.5)
        solids += (free_object(rng, centre, size),)
    bent = lens.sample(rng, K, width, height) if rng.random() < DISTORTED else None
    K = K if bent is None else bent.K
    background, kind = backgrounds.sample(rng, width, height, K, lighting, clear, floor)
    attributes["background"] = kind
    background = background * np.float32(0.6 * lighting.sh[0].mean() + 0.4)
    sizes = [_box_side(K, hand.joints_m) for hand in hands] or [60.0]
    settings = sensor.sample_frame(rng, float(np.median(sizes)))
    return Scene(View(K, lighting, skins, solids, capsules, _coarse(settings)), background,
                 settings, tuple(hands), attributes, bent)


@dataclass(frozen=True, eq=False)
class _Someone:
    """A person whose forearms are still to be posed."""

    person: body.Person
    owner: Owner
    gestures: list                              # of both sides: unit (upper arm, forearm, palm), body frame
    chosen: int                                 # the side whose hand matters
    showing: bool                               # whether that hand makes a sign beside the face
    to_head: np.ndarray | None                  # (3,) where it is held to, from the face
    hanging: bool                               # whether both arms hang


def _person(rng, look, legs, showing=False, may_reach=True, hanging=False) -> _Someone:
    chosen = int(rng.integers(2))
    gestures = [body.sample_gesture(rng, side, showing and side == chosen, showing, hanging) for side in range(2)]
    to_head = None
    if may_reach and not hanging and rng.random() < AT_HEAD:
        upper, to_head = body.sample_reach(rng, chosen)
        gestures[chosen] = upper, *gestures[chosen][1:]
    owner = sample_owner(rng, grown=True)
    person = body.sample(rng, look, np.stack([g[0] for g in gestures]), owner.shape.person, legs)
    return _Someone(person, owner, gestures, chosen, showing, to_head, hanging)


def _arm_of(rng, look, someone: _Someone, side: int,
            beside: tuple | None = None) -> tuple[Arm, np.ndarray, np.ndarray]:
    """One forearm and hand of a person, R and t into the body frame. beside: the same of the other side, if drawn."""
    person, mine = someone.person, side == someone.chosen
    sign = ("count", "sign") if someone.showing and mine and rng.random() < 0.85 else None
    arm = sample_arm(rng, look, person=person, owner=someone.owner, kinds=sign)
    _, fore, palm = someone.gestures[side]
    held_to_head = someone.to_head is not None and mine
    taken = _capsules(*beside) if beside else np.zeros((0, 7))
    for attempt in range(24):                                      # until the hand is not in the body nor in the other
        if held_to_head and attempt < 16:
            fore, palm = _to_head(rng, person, someone.to_head * (1 + 0.05 * attempt), side)
        R = body.arm_rotation(arm.elbow, fore, palm, side)
        t = person.elbows[side] - R @ arm.elbow
        if (_overlap(_capsules(arm, R, t), taken) <= 0
                and not person.holds(np.vstack([arm.joints, 0.4 * arm.elbow]) @ R.T + t).any()):
            break
        _, fore, palm = body.sample_gesture(rng, side, someone.showing and mine, hanging=someone.hanging)
    return arm, R, t


def _may_be_seen(someone: _Someone, side: int, R, t, low: np.ndarray, high: np.ndarray) -> bool:
    """Whether a forearm with its hand may reach into a picture: if not, nobody needs to pose it.

    R, t: from the body frame to the camera's. low, high: (2,) ends of the picture as x / z and y / z.
    """
    if someone.to_head is not None and side == someone.chosen:
        return True
    centre = R @ (someone.person.elbows[side] + FOREARM_BALL[0] * someone.gestures[side][1]) + t
    beyond = np.concatenate([low * centre[2] - centre[:2], centre[:2] - high * centre[2]])
    return bool((beyond <= FOREARM_BALL[1] * np.sqrt(1 + np.concatenate([low, high]) ** 2)).all()
                and centre[2] > -FOREARM_BALL[1])


def _to_head(rng, person: body.Person, at: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit (forearm, palm) for a hand held to the head, its palm more often than not to it. at: from the face (3,)."""
    at = at + rng.normal(0.0, 0.03, 3)
    fore = _unit(person.face + at - person.elbows[side])
    return fore, _unit(-at / np.linalg.norm(at) + rng.normal(0.0, 0.5 if rng.random() < 0.7 else 2.0, 3))


def _before_person(rng, R_world_camera: np.ndarray, ray: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) from the body frame to the camera for somebody who stands upright and mostly faces the camera.

    ray: (3,) from the camera to the person.
    """
    away = R_world_camera @ ray
    turn = rng.normal(0, 0.5) if rng.random() < 0.85 else rng.uniform(-np.pi, np.pi)
    yaw = np.arctan2(-away[1], -away[0]) + turn
    forward, up = np.array([np.cos(yaw), np.sin(yaw), 0.0]), np.array([0.0, 0.0, 1.0])
    upright = np.stack([np.cross(up, forward), up, forward], axis=1)
    return R_world_camera.T @ upright @ rig.axis_angle(_unit(rng.normal(0, 1, 3)), rng.normal(0, 0.07))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _floor_below(R_world_camera: np.ndarray, origin: np.ndarray) -> float:
    """Height of the camera over the floor on which a person stands whose body's middle is at ``origin`` (3,)."""
    return float(np.clip(body.MIDDLE_HEIGHT_M - (R_world_camera @ origin)[2], 0.3, 2.4))


def _placed_solids(person, R, t) -> tuple:
    return tuple(Solid(v @ R.T + t, n @ R.T, uv, faces, color, pattern, gloss)
                 for (v, n, uv, faces), color, pattern, gloss in person.solids)


@dataclass(frozen=True, eq=False)
class _Stage:
    """The camera of a frame in the making."""

    K: np.ndarray
    width: int
    height: int
    R_world_camera: np.ndarray


def _add_person(rng, look, stage, hands, mode):
    """Put a person into a frame; its hands join ``hands``. Returns ((skins, solids, capsules), body's middle (3,))."""
    K, size, arms = stage.K, (stage.width, stage.height), {}
    side_px = float(np.exp(rng.uniform(np.log(16), np.log(max(0.45 * size[1], 17.0)))))
    distance = np.clip(K[0, 0] * 0.15 / side_px, 0.35, 6.0)
    where = rng.uniform(0.08, 0.92, 2) * size
    if mode == "showing":                                           # head and shoulders to the whole person
        shown_m = float(np.exp(rng.uniform(np.log(0.6), np.log(2.1))))
        distance = K[1, 1] * shown_m / size[1]
        someone = _person(rng, look, shown_m > 1.1, True)
        anchor = np.array([0.0, 0.95 + rng.uniform(-0.08, 0.3) - 0.5 * shown_m, 0.0])
        where = np.array([rng.uniform(0.22, 0.78), rng.uniform(0.45, 0.55)]) * size
    elif mode == "none":                                            # a portrait, cut off above the hands
        someone = _person(rng, look, False, hanging=True)
        anchor = np.array([0.0, 0.66, 0.05])
        distance = K[1, 1] * rng.uniform(0.42, 0.55) / size[1]
        where = np.array([rng.uniform(0.3, 0.7), rng.uniform(0.5, 0.65)]) * size
    else:
        someone = _person(rng, look, legs=side_px < 60)
        arms[someone.chosen] = arm, R, t = _arm_of(rng, look, someone, someone.chosen)
        anchor = R @ arm.joints.mean(0) + t
    ray = _on_ray(K, where, distance)
    R_camera_body = _before_person(rng, stage.R_world_camera, ray)
    origin = ray - R_camera_body @ anchor
    skins, solids, capsules = (), _placed_solids(someone.person, R_camera_body, origin), np.zeros((0, 7))
    low = (-LENS_WIDENS * np.array(size) - K[:2, 2]) / [K[0, 0], K[1, 1]]
    high = ((1 + LENS_WIDENS) * np.array(size) - K[:2, 2]) / [K[0, 0], K[1, 1]]
    for side in range(2):                                           # an elbow without a forearm would look like a fist
        if side not in arms:
            if not _may_be_seen(someone, side, R_camera_body, origin, low, high):
                continue
            arms[side] = _arm_of(rng, look, someone, side, arms.get(1 - side))
        arm, R, t = arms[side]
        placed = place(arm, R_camera_body @ R, R_camera_body @ t + origin, len(hands))
        skins, solids, capsules = skins + placed[0], solids + placed[1], np.vstack([capsules, placed[2]])
        hands.append(placed[3])
    return (skins, solids, capsules), origin


def _free_arm(rng, look, K, width, height):
    arm = sample_arm(rng, look)
    flip = np.diag([1.0 if rng.random() < 0.5 else -1.0, 1.0, 1.0])
    R = sample_view(rng) @ flip
    side_px = float(np.exp(rng.uniform(np.log(20), np.log(0.95 * height))))
    where = rng.uniform(0.05, 0.95, 2) * (width, height)
    ray = _on_ray(K, where, 1.0)
    R = _turn_to(ray) @ R
    centred = (arm.joints - arm.joints.mean(0)) @ R.T
    distance = K[0, 0] * np.ptp(centred[:, :2], axis=0).max() / side_px
    distance = max(distance, 0.12 - centred[:, 2].min())
    return R, ray / np.linalg.norm(ray) * distance - R @ arm.joints.mean(0), arm


def _on_ray(K: np.ndarray, px: np.ndarray, depth: float) -> np.ndarray:
    return np.array([(px[0] - K[0, 2]) / K[0, 0], (px[1] - K[1, 2]) / K[1, 1], 1.0]) * depth


def _overlap(one: np.ndarray, two: np.ndarray) -> float:
    """How deep capsules (N, 7), as in View, cut into others (M, 7), metres; negative: how far they are apart."""
    one, two = one[:, None], two[None]
    gap = touch.segment_distance(one[..., :3], one[..., 3:6], two[..., :3], two[..., 3:6])
    return float((one[..., 6] + two[..., 6] - gap).max(initial=-np.inf))


def _box_side(K: np.ndarray, joints: np.ndarray) -> float:
    if joints[:, 2].min() <= 0.02:
        return 200.0
    return float(np.ptp(joints[:, :2] / joints[:, 2:] * K[[0, 1], [0, 1]], axis=0).max())


def sample_owner(rng: np.random.Generator, grown: bool = False) -> Owner:
    """Draw whose hands they are. grown: somebody of 15 or more."""
    name = str(rng.choice(list(MODELS), p=list(MODELS.values())))
    return Owner(name, HandModel.load(name).shape(rng, grown))


def sample_arm(rng: np.random.Generator, look: materials.SkinLook, pose: np.ndarray | None = None,
               person: body.Person | None = None, owner: Owner | None = None,
               kinds: tuple[str, ...] | None = None) -> Arm:
    """Draw a person's posed hand with its clothes and things, in the hand frame.

    pose: (25,), drawn if not given. person: whose shirt the sleeve belongs to; the arm then ends at the elbow.
    owner: whose hand it is, drawn if not given. kinds: only poses of these kinds or names, and nothing held.
    """
    name, shape = (owner := owner or sample_owner(rng)).model, owner.shape
    model = HandModel.load(name)
    attributes, parts, holding = {"model": name}, [], False
    if pose is None:
        holding = kinds is None and rng.random() < HOLDING
        pose, attributes["pose"] = poses.sample_named(rng, shape, ("grasp",) if holding else kinds)
    hand = model.pose(shape, pose)
    if holding and (held := objects.hold(rng, hand, shape.person.finger_thickness)):
        parts += held[0]
        attributes["holding"] = held[1]
    elbow = _elbow(shape.skeleton, pose)
    if rng.random() < 0.05:
        look = materials.sample_glove(rng, look)
        attributes["glove"] = True
    forearm = hand.vertices[hand.part_ids == 1]
    axis = elbow / np.linalg.norm(elbow)
    reach = float(np.linalg.norm(elbow))
    if person is not None:
        hand = replace(hand, vertices=_ended(hand.vertices, axis, reach))
        if person.long_sleeves:
            start = float(np.clip(rng.normal(0.02, 0.02), -0.01, 0.1))
            parts.append(_sleeve(rng, forearm, axis, reach, start, person.cloth, 1.03))
            attributes["sleeve_m"] = round(start, 3)
    elif rng.random() < 0.62:
        start = float(np.clip(rng.normal(0.01, 0.03) if rng.random() < 0.6 else rng.uniform(0.04, 0.2), -0.02, 0.22))
        parts.append(_sleeve(rng, forearm, axis, reach, start))
        attributes["sleeve_m"] = round(start, 3)
    if "sleeve_m" not in attributes and rng.random() < 0.3:
        parts += _wristband(rng, forearm, axis)
        attributes["wristband"] = True
    if rng.random() < 0.12 and not look.glove:
        parts.append(_ring(rng, model, hand))
        attributes["ring"] = True
    return Arm(name, hand.vertices, hand.normals, hand.joints, elbow, hand.hand_length_m, look,
               tuple(p for p in parts if p), attributes)


def _ended(vertices: np.ndarray, axis: np.ndarray, reach: float) -> np.ndarray:
    """Arm vertices (V, 3) with a round end at ``reach`` metres along the unit vector ``axis``, no wider than the arm is
    before it and 2 cm long, so that an elbow hides it."""
    along = (vertices @ axis)[:, None]
    across = vertices - along * axis
    radius = np.linalg.norm(across, axis=1, keepdims=True)
    before = radius[(along <= reach) & (along > reach - ELBOW_END_M)]
    limit = np.median(before) if len(before) else 0.04
    share = np.clip((along - reach) / ELBOW_END_M, 0.0, 1.0)
    narrowed = np.where(along > reach, np.minimum(1.0, limit / np.maximum(radius, 1e-6)) * np.sqrt(1 - share ** 2), 1.0)
    return (np.minimum(along, reach) + 0.02 * share) * axis + narrowed * across


def place(arm: Arm, R: np.ndarray, t: np.ndarray, hand: int) -> tuple:
    """Put an arm into the camera frame: x_camera = R x_hand + t, where R may hold a reflection (left hand).

    hand: index among the labelled hands, -1 for none. Returns (skins, solids, capsules (n, 7), PlacedHand).
    """
    is_right = bool(np.linalg.det(R) > 0)
    joints = arm.joints @ R.T + t
    skin = Skin(arm.model, arm.vertices @ R.T + t, arm.normals @ R.T, arm.look, hand, not is_right)
    read = np.array([1.0 if is_right else -1.0, 1.0])               # letters are not mirrored with the arm
    solids = tuple(Solid(v @ R.T + t, n @ R.T, uv * read, faces, color, pattern, gloss)
                   for (v, n, uv, faces), color, pattern, gloss in arm.parts)
    return (skin,), solids, _capsules(arm, R, t), PlacedHand(joints, is_right, arm.hand_length_m, arm.attributes)


def _capsules(arm: Arm, R: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Those of an arm that is placed with R and t, (21, 7) as in View: its bones, then the forearm."""
    joints, elbow = arm.joints @ R.T + t, arm.elbow @ R.T + t
    wrist = joints[0] + 0.15 * (elbow - joints[0])
    bones = [[*joints[a], *joints[b], r] for (a, b), r in zip(BONES, objects.BONE_RADIUS_M)]
    return np.array([*bones, [*wrist, *elbow, 0.024]])


def sample_view(rng: np.random.Generator) -> np.ndarray:
    """Draw the rotation (3, 3) from a right hand's frame to a camera that looks at it.

    Palms and backs are seen more often than edges and tips, fingers point up more often than down; nothing is excluded.
    """
    while True:
        u = rng.random()
        if u < 0.34:
            towards = np.array([0.0, 0.0, -1.0]) + rng.normal(0.0, 0.35, 3)
        elif u < 0.56:
            towards = np.array([0.0, 0.0, 1.0]) + rng.normal(0.0, 0.4, 3)
        elif u < 0.70:
            towards = np.array([-1.0 if rng.random() < 0.65 else 1.0, 0.0, 0.0]) + rng.normal(0.0, 0.4, 3)
        else:
            towards = rng.normal(0.0, 1.0, 3)
        towards /= np.linalg.norm(towards)
        if towards[1] > -0.75 or rng.random() < 0.15:                # rarely from right behind the elbow
            break
    u = rng.random()
    roll = (rng.normal(0, 0.5) if u < 0.5 else
            rng.choice([-1, 1]) * rng.normal(1.4, 0.5) if u < 0.7 else rng.uniform(-np.pi, np.pi))
    return _looking(towards, roll)


def sample_shown(rng: np.random.Generator) -> np.ndarray:
    """``sample_view`` of a hand that somebody holds up to the camera: palm, less often back, before it, fingers up."""
    towards = np.array([0.0, 0.0, -1.0 if rng.random() < SHOWN_PALM else 1.0]) + rng.normal(0.0, 0.25, 3)
    return _looking(towards / np.linalg.norm(towards), rng.normal(0.0, 0.35))


def _looking(towards: np.ndarray, roll: float) -> np.ndarray:
    """Rotation (3, 3) from the hand's frame to a camera that sees it from ``towards`` (unit (3,)), turned by roll."""
    up = np.array([0.0, 1.0, 0.0]) - towards[1] * towards
    if np.linalg.norm(up) < 0.3:
        up = np.array([0.0, 0.0, 1.0]) - towards[2] * towards
    up /= np.linalg.norm(up)
    right = np.cross(up, towards)
    right, up = np.cos(roll) * right + np.sin(roll) * up, np.cos(roll) * up - np.sin(roll) * right
    return np.stack([right, -up, -towards])


def sample_up(rng: np.random.Generator, spread: float = 1.0) -> np.ndarray:
    """Draw how a camera is held: rotation (3, 3) camera to world (z up), heading along +y.

    spread: factor on how far it looks up or down and on its roll.
    """
    pitch, roll = spread * rng.normal(-0.15, 0.35), spread * rng.normal(0.0, 0.12)
    level = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
    return level @ rig.axis_angle(np.array([1.0, 0, 0]), pitch) @ rig.axis_angle(np.array([0, 0, 1.0]), roll)


def _turn_to(ray: np.ndarray) -> np.ndarray:
    """The smallest rotation that takes the optical axis to ``ray`` (3,)."""
    ray = ray / np.linalg.norm(ray)
    axis = np.cross([0.0, 0.0, 1.0], ray)
    sine = np.linalg.norm(axis)
    return np.eye(3) if sine < 1e-9 else rig.axis_angle(axis / sine, np.arctan2(sine, ray[2]))


def _elbow(skeleton, pose: np.ndarray) -> np.ndarray:
    motion = rig.motions(skeleton, pose)[rig.BONE["forearm"]]
    return motion[:, :3] @ skeleton.elbow + motion[:, 3]


def _sleeve(rng, forearm, axis, reach, start, cloth=None, end=1.35):
    x, y = shapes.frame(axis)
    heights = np.concatenate([[start], np.linspace(start + 0.004, reach * end, 14)])
    margin = rng.uniform(0.003, 0.012) + rng.uniform(0, 0.02) * rng.random()
    centres, rx, ry = [], [], []
    for h in heights:
        ellipse = shapes.girth(forearm, axis * h, axis, x, y, 0.018)
        if ellipse is None:
            if not centres:
                return None
            ellipse = (axis * h, rx[-1] - margin, ry[-1] - margin)
        centres.append(ellipse[0])
        rx.append(ellipse[1] + margin)
        ry.append(ellipse[2] + margin)
    centres, rx, ry = np.array(centres), np.maximum(rx, 0.02), np.maximum(ry, 0.02)
    sides = 28
    waves = cv2.resize(rng.normal(0, 1, (7, 5)).astype(np.float32),
                       (sides, len(heights)), interpolation=cv2.INTER_CUBIC)
    folds = np.sin(np.linspace(0, rng.uniform(4, 26), len(heights)))[:, None] * rng.uniform(0, 0.05)
    ripple = 1.0 + rng.uniform(0.01, 0.06) * waves + folds * (0.5 + waves)
    ripple = np.maximum(ripple, 0.93)
    ripple[:, -1] = ripple[:, 0]
    if rng.random() < 0.4:
        ripple[:2] *= 1.05                                          # cuff
    mesh = shapes.tube(centres, rx, ry, x, y, sides, ripple)
    return mesh, *(cloth or (materials.sample_cloth(rng), _pattern(rng, 0.55), float(rng.uniform(0.0, 0.25))))


def _wristband(rng, forearm, axis):
    x, y = shapes.frame(axis)
    at = rng.uniform(0.015, 0.05)
    width = float(np.exp(rng.uniform(np.log(0.004), np.log(0.024))))
    ellipse = shapes.girth(forearm, axis * at, axis, x, y, 0.012)
    if ellipse is None:
        return []
    centre, rx, ry = ellipse
    rx, ry = rx + 0.0015, ry + 0.0015
    n = 5
    offsets = np.linspace(-0.5, 0.5, n)
    bulge = 0.002 * (1 - (2 * offsets) ** 2)
    color = materials.sample_cloth(rng)
    gloss = float(rng.uniform(0.1, 0.95))
    ring = shapes.tube(centre + offsets[:, None] * width * axis, rx + bulge, ry + bulge, x, y, 24)
    band = ring, color, _pattern(rng, 0.2), gloss
    if rng.random() < 0.5:
        return [band]
    up = np.array([0.0, 0.0, 1.0]) - axis[2] * axis
    up /= np.linalg.norm(up)
    depth = 0.5 * (rx + ry) * 0.95
    radius = rng.uniform(0.011, 0.018)
    face = shapes.revolve(centre + up * depth * 0.85, centre + up * (depth + 0.003),
                          [radius, radius, radius * 0.9], sides=18)
    return [band, (face, materials.sample_cloth(rng), 0, 0.9)]


def _ring(rng, model, hand):
    finger = int(rng.choice([0, 1, 2, 3, 4], p=[0.08, 0.17, 0.25, 0.4, 0.1]))
    first = 2 if finger == 0 else 1 + 4 * finger
    start, end = hand.joints[first], hand.joints[first + 1]
    axis = (end - start) / np.linalg.norm(end - start)
    x, y = shapes.frame(axis)
    centre = start + rng.uniform(0.55, 0.8) * (end - start)
    # Not what lies near: a curled finger's other bones do, too, and differently from pose to pose.
    carried = model.mesh.weights[model.mesh.weld, rig.BONE[f"{FINGERS[finger]}_mcp"]] > 0.5
    ellipse = shapes.girth(hand.vertices[carried], centre, axis, x, y, 0.006)
    if ellipse is None:
        return None
    centre, rx, ry = ellipse
    width = rng.uniform(0.002, 0.006)
    offsets = np.linspace(-0.5, 0.5, 3)
    metal = np.array([[0.9, 0.7, 0.35], [0.85, 0.85, 0.85], [0.9, 0.6, 0.5], [0.1, 0.1, 0.1]])[int(rng.integers(4))]
    mesh = shapes.tube(centre + offsets[:, None] * width * axis,
                       np.full(3, rx + 0.0008), np.full(3, ry + 0.0008), x, y, 16)
    return mesh, metal * 0.7, 0, 0.95


def _pattern(rng, chance: float) -> int:
    return int(rng.integers(1, materials.PATTERNS)) if rng.random() < chance else 0


def _other_hand(rng, look, hand: PlacedHand, capsules: np.ndarray) -> tuple | None:
    """A hand of the other side, placed near ``hand``; None where it finds no room beside that one's capsules."""
    arm = sample_arm(rng, look)
    flip = np.diag([-1.0 if hand.is_right else 1.0, 1.0, 1.0])
    centre = 0.5 * (hand.joints_m.min(0) + hand.joints_m.max(0))
    for _ in range(20):
        R = sample_view(rng) @ flip
        direction = rng.normal(0, 1, 3) * [1.0, 1.0, 0.7]
        direction /= np.linalg.norm(direction)
        t = centre + direction * rng.uniform(0.05, 0.22) - R @ arm.joints.mean(0)
        if _overlap(_capsules(arm, R, t), capsules) <= 0:
            return place(arm, R, t, -1)
    return None


def _occluders(rng, joints: np.ndarray, distance: float) -> tuple:
    out = []
    for _ in range(1 + int(rng.random() < 0.25)):
        target = joints[int(rng.integers(21))] + rng.normal(0, 0.02, 3)
        ray = target / np.linalg.norm(target)
        depth = joints[:, 2].min() - rng.uniform(0.02, 0.12)
        if depth < 0.12:
            continue
        size = float(np.exp(rng.uniform(np.log(0.006), np.log(0.035)))) * min(depth / max(joints[0, 2], 0.1), 1.0)
        out.append(free_object(rng, ray * depth / ray[2], size))
    return tuple(out)


def free_object(rng: np.random.Generator, centre: np.ndarray, size: float) -> Solid:
    """Draw something of about ``size`` metres radius at ``centre`` (3,)."""
    axis = rng.normal(0, 1, 3)
    axis /= np.linalg.norm(axis)
    x, y = shapes.frame(axis)
    kind = rng.random()
    if kind < 0.45:
        length = min(size * rng.uniform(1.0, 12.0), 0.22)
        profile = size * (rng.uniform(0.5, 1.1, 5) if rng.random() < 0.4 else np.ones(3))
        mesh = shapes.revolve(centre - axis * length / 2, centre + axis * length / 2, profile)
    elif kind < 0.8:
        mesh = shapes.box(centre, np.stack([x, y, axis], axis=1), 2 * size * rng.uniform(0.2, 2.0, 3))
    else:
        mesh = shapes.ball(centre, size * rng.uniform(0.5, 1.3, 3), np.stack([x, y, axis], axis=1))
    return Solid(*mesh[:2], mesh[2], mesh[3], materials.sample_cloth(rng),
                 _pattern(rng, 0.5), float(rng.uniform(0, 1.0)))


def check_size(width: int, height: int) -> None:
    """Raises ConfigError if the renderer cannot make images of this size."""
    if not (32 <= width <= 4096 and 32 <= height <= 4096):
        raise ConfigError(f"image size {width}x{height} cannot be rendered: choose 32 to 4096 pixels per side")
