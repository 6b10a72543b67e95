"""Rooms behind the hands: they stand upright, whatever the camera does, and depend on the generator only."""
from types import SimpleNamespace

import numpy as np
import pytest

from hand_pose_ros.synthesis import labels, materials, rooms, scene, shapes

SIZE = 96
K = np.array([[90.0, 0, (SIZE - 1) / 2], [0, 90.0, (SIZE - 1) / 2], [0, 0, 1]])
LEVEL = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


def _paint(seed, R):
    return rooms.paint(np.random.default_rng(seed), SIZE, SIZE, K, R, 1.5)


@pytest.mark.parametrize("seed", range(8))
def test_rooms_are_pictures_that_depend_on_the_generator_only(seed):
    image = _paint(seed, LEVEL)
    assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.float32
    assert np.isfinite(image).all() and image.min() >= 0 and image.std() > 1e-3
    np.testing.assert_array_equal(image, _paint(seed, LEVEL))


def test_a_camera_on_its_head_sees_the_room_upside_down():
    for seed in range(6):
        upright = _paint(seed, LEVEL)
        turned = _paint(seed, LEVEL @ np.diag([-1.0, -1.0, 1.0]))[::-1, ::-1]
        assert np.median(np.abs(upright - turned)) < 0.01
        assert np.median(np.abs(upright - upright[::-1, ::-1])) > 0.02      # which tells the two apart


@pytest.mark.parametrize("seed", range(12))
def test_a_rectangle_covers_the_pixels_whose_rays_meet_it(seed):
    """Outside truth: rays, where the library projects, clips and warps. Some rectangles reach behind the camera."""
    rng = np.random.default_rng(seed)
    R = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    R *= np.sign(np.linalg.det(R))
    axes = np.linalg.qr(rng.normal(size=(3, 2)))[0].T
    corner = rng.uniform(0.3, 3.0) * R[2] + rng.normal(0, 0.5, 3) - axes.sum(0)
    right, down = axes * rng.uniform(0.5, 4.0, (2, 1))
    half = np.zeros((8, 8, 3), np.uint8)
    half[:, :4], half[:, 4:] = 255, 90                             # bright to the left, dark to the right
    image = rooms._draw([rooms._Quad(corner, right, down, [half])], K, R, SIZE, SIZE)[..., 0]
    pixels = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), axis=-1)
    rays = np.concatenate([pixels, np.ones((SIZE, SIZE, 1))], axis=-1) @ np.linalg.inv(K).T @ R
    s, t, z = np.moveaxis(rays @ np.linalg.inv(np.stack([right, down, corner])), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        s, t, depth = s / z, t / z, 1 / z                          # ray * depth = corner + s right + t down
    met = (depth > rooms._NEAR_M) & (s > 0) & (s < 1) & (t > 0) & (t < 1)
    assert ((image > 0) == met).mean() > 0.97                      # edges are drawn soft
    clear = met & (np.abs(s - 0.5) > 0.15)
    assert ((image[clear] > 0.5) == (s[clear] < 0.5)).mean() > 0.97 if clear.sum() > 20 else True


def test_inside_a_body_is_what_lies_between_its_nearest_skin_before_and_behind():
    rng = np.random.default_rng(5)
    person = scene._person(rng, materials.sample_skin(rng)[0], False).person
    points = person.trunk.mean(0) + rng.normal(0, 0.3, (300, 3))
    expected = []
    for point in points:
        near = person.trunk[(np.abs(person.trunk[:, :2] - point[:2]) < 0.025).all(1), 2]
        expected.append(bool(len(near) > 0 and near.min() - 0.03 < point[2] < near.max() + 0.03))
    assert 15 < sum(expected) < 280
    np.testing.assert_array_equal(person.holds(points), expected)
    alone = [bool(person.holds(point[None])[0]) for point in points]
    assert alone == expected


def test_people_before_the_camera_stand_on_their_feet():
    rng = np.random.default_rng(0)
    for _ in range(50):
        R_world_camera = scene.sample_up(rng)
        ray = np.array([rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), 1.0])
        R = scene._before_person(rng, R_world_camera, ray)
        assert np.linalg.det(R) == pytest.approx(1.0)
        assert (R_world_camera @ R)[2, 1] > 0.94                    # the body's y axis points up in the world


def test_hands_of_people_are_not_inside_their_bodies():
    inside = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        look = materials.sample_skin(rng)[0]
        someone = scene._person(rng, look, False, showing=seed % 2 == 0)
        person = someone.person
        for side in range(2):
            arm, R, t = scene._arm_of(rng, look, someone, side)
            inside.append(person.holds(arm.joints @ R.T + t).any())
        chest = person.trunk.mean(0)
        assert person.holds(chest[None]).all() and not person.holds(chest[None] + [0, 0, 0.6]).any()
    assert np.mean(inside) < 0.1


def test_hands_held_to_the_head_are_near_it_and_not_in_it(monkeypatch):
    def distances():
        for seed in range(24):
            rng = np.random.default_rng(seed)
            look = materials.sample_skin(rng)[0]
            someone = scene._person(rng, look, False, showing=seed % 2 == 0)
            arm, R, t = scene._arm_of(rng, look, someone, someone.chosen)
            joints = arm.joints @ R.T + t
            yield np.linalg.norm(joints - someone.person.face, axis=-1).min(), someone.person.holds(joints).any()

    monkeypatch.setattr(scene, "AT_HEAD", 1.0)
    away, inside = np.array(list(distances())).T
    assert np.mean(away < 0.2) > 0.6 and np.median(away) > 0.12 and inside.mean() < 0.1
    monkeypatch.setattr(scene, "AT_HEAD", 0.0)
    assert np.median([away for away, _ in distances()]) > 0.25


def test_hands_that_are_shown_are_not_held_to_a_head(monkeypatch):
    monkeypatch.setattr(scene, "AT_HEAD", 1.0)
    people, draw = [], scene._person
    monkeypatch.setattr(scene, "_person", lambda *args, **options: people.append(draw(*args, **options)) or people[-1])
    for seed in range(12):
        scene.sample_crop(np.random.default_rng(seed), 64, shown=True)
    assert len(people) > 2 and all(someone.to_head is None and someone.showing for someone in people)


@pytest.mark.parametrize("kind", ["crops", "frames"])
def test_only_arms_that_no_picture_shows_are_left_out(kind, monkeypatch):
    """Each arm that would be left out is drawn all the same. Those that ran into their body are turned elsewhere, which
    nobody knows who leaves them out; of the others none may be seen."""
    judge, turned, pose_arm = scene._may_be_seen, [], scene._arm_of
    verdicts, people, left_out, drawn_anyway = {}, {}, 0, 0

    def asked(someone, side, *more):
        verdicts[id(someone), side] = judge(someone, side, *more)
        return True

    def posed(rng, look, someone, side, *beside):
        arm, R, t = pose_arm(rng, look, someone, side, *beside)
        along = R @ (-arm.elbow / np.linalg.norm(arm.elbow))
        people.setdefault(id(someone), someone)
        turned.append((list(people).index(id(someone)), side, verdicts.get((id(someone), side), True),
                       along @ someone.gestures[side][1] < 0.999))
        return arm, R, t

    monkeypatch.setattr(scene, "_may_be_seen", asked)
    monkeypatch.setattr(scene, "_arm_of", posed)
    for seed in range(160 if kind == "crops" else 100):
        verdicts.clear()
        turned.clear()
        people.clear()
        rng = np.random.default_rng(seed)
        drawn = scene.sample_crop(rng, 64) if kind == "crops" else scene.sample_frame(rng, 64, 48)
        if len(turned) != len(drawn.view.skins):
            continue                                                    # lone arms
        height = 64 if kind == "crops" else 48
        as_drawn = turned if kind == "crops" else sorted(turned)
        for skin, (_, _, judged, elsewhere) in zip(drawn.view.skins, as_drawn):
            if not judged and not elsewhere:
                u, v, z = drawn.view.K @ skin.vertices.T
                left_out += 1
                drawn_anyway += bool(((z > 0) & (u > 0) & (u < 64 * z) & (v > 0) & (v < height * z)).any())
    assert left_out > (10 if kind == "crops" else 1) and drawn_anyway == 0


def test_a_portrait_without_hands_shows_no_elbow(monkeypatch):
    """A bare elbow looks like a fist: where one is in view its forearm is, too, with its hand."""
    monkeypatch.setattr(scene, "MODES", {"none": 1.0})
    add, placed, elbows, shown = scene._add_person, scene._placed_solids, [], []

    def checked(rng, look, stage, hands, mode):
        def beyond(at):
            px = at[:, :2] / at[:, 2:] * np.diag(stage.K)[:2] + stage.K[:2, 2]
            return np.where(at[:, 2] > 0, np.maximum(-px, px - (stage.width, stage.height)).max(1), np.inf)

        (skins, *more), origin = add(rng, look, stage, hands, mode)
        at = elbows.pop()
        shown.append(any((beyond(hand.joints_m) < 0).any() for hand in hands))
        assert len(skins) >= (beyond(at) < 0.04 * stage.K[0, 0] / at[:, 2]).sum()       # the elbow's radius
        return (skins, *more), origin

    monkeypatch.setattr(scene, "_placed_solids", lambda person, R, t: elbows.append(person.elbows @ R.T + t)
                        or placed(person, R, t))
    monkeypatch.setattr(scene, "_add_person", checked)
    for seed in range(240):
        scene.sample_frame(np.random.default_rng(seed), 320, 240)
    assert len(shown) > 100 and np.mean(shown) < 0.1


def test_prints_on_solids_can_be_read_from_outside():
    """u goes right where v goes down, on right arms and on left ones."""
    def mirrored(vertices, normals, uv, faces):
        (a, b, c), (p, q, r) = (np.moveaxis(array[faces], 1, 0) for array in (vertices, uv))
        (ux, uy), (vx, vy) = (q - p).T, (r - p).T
        turn, inward = ux * vy - uy * vx, (np.cross(b - a, c - a) * normals[faces].mean(1)).sum(-1)
        known = (np.abs(turn) > 1e-9) & (np.abs(inward) > 1e-12)
        return (np.sign(turn) * np.sign(inward))[known] > 0

    rng = np.random.default_rng(0)
    x, y = shapes.frame(np.array([0.0, 0.6, 0.8]))
    centres = np.linspace(0, 0.1, 5)[:, None] * [0.0, 0.6, 0.8]
    for mesh in (shapes.tube(centres, np.full(5, 0.04), np.full(5, 0.03), x, y),
                 shapes.box(np.zeros(3), np.stack([x, y, [0.0, 0.6, 0.8]], 1), np.array([0.1, 0.2, 0.3])),
                 shapes.ball(np.zeros(3), 0.1)):
        told = mirrored(*mesh)
        assert len(told) >= 10 and not told.any()
    sleeves = 0
    for seed in range(12):
        arm = scene.sample_arm(np.random.default_rng(seed), materials.sample_skin(rng)[0])
        for R in (np.eye(3), np.diag([-1.0, 1.0, 1.0])):
            for solid in scene.place(arm, R, np.array([0.0, 0.0, 1.0]), 0)[1]:
                if solid.pattern and np.ptp(solid.uv[:, 1]) > 1.0:
                    told = mirrored(solid.vertices, solid.normals, solid.uv, solid.faces)
                    sleeves += len(told) > 0
                    assert told.mean() < 0.1                                            # but for folds
    assert sleeves >= 4


def test_a_box_shows_no_more_than_three_of_its_faces_and_none_from_inside():
    rng = np.random.default_rng(0)
    builder = rooms._Builder(rng, "office", -1.4, 1.3, (3.0, 2.0, 2.0, 2.0), np.array([0.0, 0.0, 1.2]))
    for _ in range(50):
        angle = rng.uniform(0, 2 * np.pi)
        along, out = np.array([np.cos(angle), np.sin(angle), 0.0]), np.array([np.sin(angle), -np.cos(angle), 0.0])
        size, low = rng.uniform(0.2, 1.5, 3), rng.uniform(0.3, 1.5)
        builder.boxes.clear()
        _, centre = builder._box_on(-2.5 * out, along, out, rng.uniform(-1, 1), low, size, [0], [1], 1.0, [2])
        faces = builder.boxes[0][1][1:]                                 # after its shadow on the wall
        assert 1 <= len(faces) <= 3
        for face in faces:
            middle = face.corner + 0.5 * (face.right + face.down)
            assert (middle - centre) @ middle < 0                       # looks back at the camera, from outside


def test_an_arm_ends_round_at_its_elbow():
    rng = np.random.default_rng(0)
    look = materials.sample_skin(rng)[0]
    for _ in range(12):
        someone = scene._person(rng, look, False)
        arm, _, _ = scene._arm_of(rng, look, someone, 0)
        axis, reach = arm.elbow / np.linalg.norm(arm.elbow), np.linalg.norm(arm.elbow)
        along = arm.vertices @ axis
        radius = np.linalg.norm(arm.vertices - along[:, None] * axis, axis=1)
        assert along.max() < reach + 0.021
        before = radius[(along <= reach) & (along > reach - 0.03)].max()
        assert radius[along > reach].max() <= before and radius[along > reach + 0.0199].max(initial=0.0) < 0.006


def test_hands_that_a_crop_shows_beside_its_own_are_boxed():
    """Else a detector would be taught that they are none."""
    kinds = set()
    for seed in range(120):
        drawn = scene.sample_crop(np.random.default_rng(seed), 64)
        raster = SimpleNamespace(depth=np.zeros((64, 64)), ids=np.zeros((64, 64), int))
        found, boxes = labels.hand_records(drawn, raster)
        assert len(found) == 1
        seen = []
        for hand in drawn.others:
            px = hand.joints_m[:, :2] / hand.joints_m[:, 2:] @ drawn.view.K[:2, :2].T + drawn.view.K[:2, 2]
            if hand.joints_m[:, 2].min() > 0.02 and ((px > 0) & (px < 63)).all(-1).any():
                seen.append([*px.min(0), *px.max(0)])
                kinds.add("person" if "person" in drawn.attributes else "other hand")
        assert len(boxes) >= len(seen) and all(np.abs(np.subtract(boxes, box)).max(-1).min() < 0.02 for box in seen)
        assert "other_hand" not in drawn.attributes or drawn.others
    assert kinds == {"person", "other hand"}


def test_a_wall_of_which_one_pixel_shows_is_drawn():
    image, glow = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.float32)
    texture = [np.full((4, 4, 3), 200, np.uint8)]
    quad = rooms._Quad(np.array([-0.5, -0.5, 2.0]), np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), texture)
    corner = np.array([[-1.9, -1.9], [-1.1, -1.9], [-1.1, -1.1], [-1.9, -1.1]])        # its margin reaches pixel (0, 0)
    rooms._draw_quad(image, glow, quad, np.array([[8.0, 0, 4], [0, 8, 4], [0, 0, 1]]), corner)
    assert not image[1:].any() and not image[:, 1:].any()
