"""Renderer and labels: depth against skinning, visibility, mirroring, pictures that depend on seed and index only."""
import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import moderngl
import numpy as np
import pytest

from hand_pose_ros.errors import ConfigError
from hand_pose_ros.skeleton import hand_length
from hand_pose_ros.synthesis import (anthropometry, body, environment, labels, materials, poses, render, scene,
                                     shapes, shards)
from hand_pose_ros.synthesis import renderer as gl
from hand_pose_ros.synthesis.hand_model import HandModel
from hand_pose_ros.types import JointState

SIZE = 128


@pytest.fixture(scope="module")
def machine():
    return scene.make_renderer(SIZE, SIZE)


@pytest.fixture(scope="module")
def lighting():
    return environment.sample(np.random.default_rng(0), scene.sample_up(np.random.default_rng(1)))


@pytest.fixture(scope="module")
def flat_hand():
    """A flat right hand, palm to the camera, fingers up, half a metre away: (skin, PlacedHand, K)."""
    rng = np.random.default_rng(5)
    model = HandModel.load("makehuman")
    pose = model.rest(model.shape(None))
    arm = scene.sample_arm(rng, materials.sample_skin(rng)[0], pose, owner=scene.Owner("makehuman", model.shape(None)))
    arm = replace(arm, parts=())
    R = np.array([[-1.0, 0, 0], [0, -1, 0], [0, 0, 1]])            # z (back of the hand) points away from the camera
    skins, _, capsules, hand = scene.place(arm, R, np.array([0.0, 0.07, 0.5]), 0)
    return skins[0], hand, capsules, np.array([[260.0, 0, 63.5], [0, 260.0, 63.5], [0, 0, 1]])


def _lamp(lighting, direction, slot=0):
    """Light from one direction (3,) alone; only the lamp of slot 0 casts shadows."""
    colors = np.zeros((3, 3))
    colors[slot] = 1.0
    return replace(lighting, sh=np.zeros((9, 3)), reflection_gain=np.zeros(3), colors=colors,
                   directions=np.tile(np.asarray(direction) / np.linalg.norm(direction), (3, 1)))


def _ray_depth(vertices, faces, ray):
    """Nearest depth at which a ray (unit z) from the camera meets a mesh, in double precision; inf if none."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    e1, e2 = b - a, c - a
    p = np.cross(ray, e2)
    det = (e1 * p).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        u = (-a * p).sum(1) / det
        q = np.cross(-a, e1)
        v = q @ ray / det
        t = (e2 * q).sum(1) / det
    hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0) & (np.abs(det) > 1e-16)
    return t[hit].min() if hit.any() else np.inf


def test_depth_and_parts_agree_with_rays_through_the_double_precision_mesh(machine, lighting, flat_hand):
    skin, _, capsules, K = flat_hand
    raster = machine.render(gl.View(K, lighting, (skin,), (), capsules))
    faces = scene.template("makehuman").faces
    rows, columns = np.nonzero(raster.depth > 0)
    pick = np.random.default_rng(0).choice(len(rows), 250, replace=False)
    errors = []
    for row, column in zip(rows[pick], columns[pick]):
        ray = np.array([(column - K[0, 2]) / K[0, 0], (row - K[1, 2]) / K[1, 1], 1.0])
        errors.append(abs(_ray_depth(skin.vertices, faces, ray) - raster.depth[row, column]))
    errors = np.array(errors)
    assert np.median(errors) < 1e-5
    assert np.quantile(errors, 0.98) < 1e-4                        # silhouettes may round to the other side


def test_a_square_covers_exactly_its_pixels(machine, lighting):
    mesh = shapes.box(np.array([0.0, 0.0, 1.05]), np.eye(3), np.array([0.2, 0.1, 0.1]))
    solid = gl.Solid(*mesh[:3], mesh[3], np.ones(3), 0, 0.0)
    K = np.array([[100.0, 0, 63.0], [0, 100.0, 40.0], [0, 0, 1]])
    raster = machine.render(gl.View(K, lighting, (), (solid,)))
    rows, columns = np.nonzero(raster.ids)
    assert set(raster.ids[rows, columns]) == {gl.SOLID_ID}
    assert (columns.min(), columns.max()) in {(53, 73), (53, 72), (54, 73)}       # 63 +- 10 px
    assert (rows.min(), rows.max()) in {(35, 45), (35, 44), (36, 45)}             # 40 +- 5 px
    assert raster.depth[40, 63] == pytest.approx(1.0, abs=1e-5)


def test_joints_of_an_open_palm_are_visible_and_a_board_hides_them(machine, lighting, flat_hand):
    skin, hand, capsules, K = flat_hand
    px = labels.project(K, hand.joints_m)
    raster = machine.render(gl.View(K, lighting, (skin,), (), capsules))
    state = labels.joint_states(raster, hand.joints_m, px, 0, hand.hand_length_m)
    assert (state == JointState.VISIBLE).all()
    board = shapes.box(np.array([0.0, 0.0, 0.3]), np.eye(3), np.array([0.4, 0.4, 0.005]))
    solid = gl.Solid(*board[:3], board[3], np.ones(3), 0, 0.0)
    hidden = machine.render(gl.View(K, lighting, (skin,), (solid,), capsules))
    state = labels.joint_states(hidden, hand.joints_m, px, 0, hand.hand_length_m)
    assert (state == JointState.OBJECT_OCCLUDED).all()
    far = px + [500.0, 0.0]
    assert (labels.joint_states(raster, hand.joints_m, far, 0, hand.hand_length_m) == JointState.OUTSIDE_IMAGE).all()


def test_another_hand_in_front_is_an_object_and_the_own_finger_is_not(machine, lighting, flat_hand):
    skin, hand, capsules, K = flat_hand
    nearer = replace(skin, vertices=skin.vertices - [0, 0, 0.08], hand=1)
    raster = machine.render(gl.View(K, lighting, (skin, nearer), (), capsules))
    px = labels.project(K, hand.joints_m)
    state = labels.joint_states(raster, hand.joints_m, px, 0, hand.hand_length_m)
    assert (state == JointState.OBJECT_OCCLUDED).sum() >= 15
    same = machine.render(gl.View(K, lighting, (skin, replace(nearer, hand=0)), (), capsules))
    state = labels.joint_states(same, hand.joints_m, px, 0, hand.hand_length_m)
    assert (state == JointState.SELF_OCCLUDED).sum() >= 15


def test_a_left_hand_is_the_mirror_image(machine, lighting, flat_hand):
    skin, _, capsules, K = flat_hand
    K = K.copy()
    K[0, 2] = (SIZE - 1) / 2
    flip = np.array([-1.0, 1.0, 1.0])
    left = replace(skin, vertices=skin.vertices * flip, normals=skin.normals * flip, flipped=not skin.flipped)
    even = np.zeros((9, 3))
    even[0] = 1.0                                                  # light that is its own mirror image: as much from
    lit = replace(_lamp(lighting, (0.0, -0.4, -1.0)), sh=even)     # everywhere, and a lamp above the middle
    one, two = (machine.render(gl.View(K, lit, (which,))) for which in (skin, left))
    same = one.ids == two.ids[:, ::-1]
    assert same.mean() > 0.995
    assert one.alpha.mean() == pytest.approx(two.alpha.mean(), rel=0.01)
    inside = cv2.erode((same & (one.ids > 0)).astype(np.uint8), np.ones((5, 5))) > 0
    difference = np.abs(one.color - two.color[:, ::-1])[inside]
    assert difference.mean() < 0.01 * one.color[inside].mean()
    assert one.color[inside].std(axis=0).mean() > 10 * difference.mean()           # nails, creases and palm show


def test_more_light_makes_a_brighter_picture_and_a_shadow_a_darker_one(machine, lighting, flat_hand):
    skin, _, capsules, K = flat_hand
    lamp = replace(lighting, directions=np.tile([0.0, 0.0, -1.0], (3, 1)),
                   colors=np.array([[2.0] * 3, [0] * 3, [0] * 3]))
    dark = replace(lamp, colors=np.zeros((3, 3)))
    nearer_than_near_plane = np.array([0.0, 0.0, 0.02])
    board = shapes.box(nearer_than_near_plane, np.eye(3), np.array([1.0, 1.0, 0.005]))
    solid = gl.Solid(*board[:3], board[3], np.ones(3), 0, 0.0)
    lit = machine.render(gl.View(K, lamp, (skin,))).color.sum()
    unlit = machine.render(gl.View(K, dark, (skin,))).color.sum()
    shaded = machine.render(gl.View(K, lamp, (skin,), (solid,))).color.sum()
    assert lit > 1.3 * unlit
    assert unlit * 0.9 < shaded < 0.75 * lit


@pytest.mark.parametrize("direction", [(0.05, -0.1, -1.0), (-0.4, -0.3, -1.0), (0.2, -0.6, -1.0)])
@pytest.mark.parametrize("wide", [False, True])
def test_a_flat_hand_does_not_shade_itself(machine, lighting, flat_hand, direction, wide):
    """With a wall behind the hand, as wide as a person, and aside of what is seen, one as wide again."""
    skin, _, _, K = flat_hand
    walls = [shapes.box(np.array([x, 0.0, 0.9]), np.eye(3), np.array([0.8, 0.8, 0.02])) for x in (0.0, 1.2)]
    solids = tuple(gl.Solid(*mesh[:3], mesh[3], np.ones(3), 0, 0.0) for mesh in walls) if wide else ()
    shaded, open_ = (machine.render(gl.View(K, _lamp(lighting, direction, slot), (skin,), solids)) for slot in (0, 1))
    hand = (open_.ids > 0) & (open_.ids < gl.SOLID_ID)
    assert shaded.color[hand].sum() > 0.95 * open_.color[hand].sum()


def test_what_is_between_lamp_and_hand_shades_it_and_nothing_else_does(machine, lighting, flat_hand):
    skin, hand, _, K = flat_hand
    towards = np.array([-0.5, -0.2, -1.0]) / np.linalg.norm([-0.5, -0.2, -1.0])
    palm = 0.5 * (hand.joints_m[0] + hand.joints_m[9])
    mesh = shapes.ball(palm + 0.12 * towards, 0.02)
    ball = gl.Solid(*mesh[:3], mesh[3], np.ones(3), 0, 0.0)
    lit, shaded = (machine.render(gl.View(K, _lamp(lighting, towards), (skin,), solids)).color.sum(-1)
                   for solids in ((), (ball,)))
    seen = machine.render(gl.View(K, lighting, (skin,), (ball,))).ids < gl.SOLID_ID
    (column, row), kept = labels.project(K, palm).round().astype(int), shaded / np.maximum(lit, 1e-6)
    assert seen[row, column] and kept[row - 2:row + 3, column - 2:column + 3].max() < 0.2
    tips = labels.project(K, hand.joints_m[[8, 12, 16, 20]]).round().astype(int)
    assert all(kept[v + 3, u] > 0.99 for u, v in tips)


def test_without_supersampling_labels_are_the_same_and_colours_nearly(machine, lighting, flat_hand):
    skin, _, capsules, K = flat_hand
    fine, coarse = (machine.render(gl.View(K, lighting, (skin,), (), capsules, coarse)) for coarse in (False, True))
    same = fine.ids == coarse.ids
    assert same.mean() > 0.999                                     # a silhouette may round to the other side
    np.testing.assert_allclose(fine.depth[same], coarse.depth[same], atol=1e-5)
    assert np.abs(fine.alpha - coarse.alpha).mean() < 0.02
    inside = fine.alpha + coarse.alpha == 2
    assert coarse.color[inside].mean() == pytest.approx(fine.color[inside].mean(), rel=0.01)
    mixed = (fine.alpha > 0) & (fine.alpha < 1)                     # only a supersampled edge is soft
    assert mixed.any() and set(np.unique(coarse.alpha)) <= {0.0, 1.0}


def test_what_is_left_out_as_beyond_the_picture_is_not_in_it(machine, lighting, flat_hand, monkeypatch):
    skin, _, capsules, K = flat_hand
    rng, solids = np.random.default_rng(0), []
    for centre in rng.uniform((-0.6, -0.6, -0.3), (0.6, 0.6, 1.2), (60, 3)):
        mesh = shapes.box(centre, np.eye(3), rng.uniform(0.01, 0.5, 3)) if rng.random() < 0.5 else shapes.ball(
            centre, rng.uniform(0.01, 0.2))
        solids.append(gl.Solid(*mesh[:3], mesh[3], rng.uniform(0.1, 0.9, 3), 0, 0.3))
    aside = replace(skin, vertices=skin.vertices + [2.0, 0.0, 0.0])
    shown = []
    for chosen in (solids[:15], solids[15:30], solids):
        view = gl.View(K, lighting, (skin, aside), tuple(chosen), capsules)
        points = np.concatenate([mesh.vertices for mesh in (*view.skins, *view.solids)])
        shadows = gl._shadow_matrix(lighting.directions[0], points, points)
        with monkeypatch.context() as patch:                       # a shadow map that does not depend on what is seen
            patch.setattr(gl, "_shadow_matrix", lambda *_: shadows)
            drawn = machine.render(view)
            patch.setattr(gl.Renderer, "_beyond", lambda self, K, points: np.zeros(len(points), np.uint8))
            whole = machine.render(view)
        shown.append((drawn.ids == gl.SOLID_ID).mean())
        np.testing.assert_array_equal(drawn.ids, whole.ids)
        np.testing.assert_array_equal(drawn.color, whole.color)
    assert max(shown) > 0.1


def test_pixels_are_a_tent_over_their_samples_and_labels_the_sample_at_their_middle(machine, lighting, flat_hand):
    skin, _, capsules, K = flat_hand
    raster = machine.render(gl.View(K, lighting, (skin,), (), capsules))
    _, color, depth_id = machine._target(2)
    with machine.ctx:
        samples, middle = color.read(), depth_id.read()
    samples = np.frombuffer(samples, np.float16).reshape(2 * SIZE, 2 * SIZE, 4).astype(np.float32)
    tent = np.array([0.25, 0.5, 0.25])
    expected = cv2.sepFilter2D(samples, -1, tent, tent, borderType=cv2.BORDER_REPLICATE)[::2, ::2]
    np.testing.assert_allclose(raster.color, expected[..., :3], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(raster.alpha, expected[..., 3], atol=1e-6)
    middle = np.frombuffer(middle, np.float32).reshape(2 * SIZE, 2 * SIZE, 2)[::2, ::2]
    np.testing.assert_array_equal(raster.depth, middle[..., 0])
    np.testing.assert_array_equal(raster.ids, middle[..., 1])


@pytest.mark.parametrize("name", ["makehuman", "webxr"])
def test_skin_textures_are_drawn_out_nowhere(name):
    """Texels of the atlas on the hand at rest: how much longer than wide, and how much larger on a part than on others.
    Those of one forearm were 26 times as long, and of one palm 5 times."""
    model, template = HandModel.load(name), scene.template(name)
    shape = model.shape(None)
    corners = model.pose(shape, model.rest(shape)).vertices[template.faces]
    edges, texels = (np.stack([p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]], axis=-1)
                     for p in (corners, template.uv[template.faces] * materials.ATLAS))
    flat = np.abs(np.linalg.det(texels)) > 1e-9
    area = np.linalg.norm(np.cross(edges[..., 0], edges[..., 1]), axis=1)
    assert area[flat].sum() > 0.9 * area.sum()                     # ends of arms have no texture of their own
    size_m = np.linalg.svd(edges[flat] @ np.linalg.inv(texels[flat]), compute_uv=False)
    part = template.part[template.faces[flat, 0]]
    for number in range(1, 8):
        here = np.repeat(np.flatnonzero(part == number), np.ceil(area[flat][part == number] * 1e7).astype(int))
        longer, wide = size_m[here, 0] / size_m[here, 1], size_m[here, 1]
        assert np.median(longer) < 1.6 and np.quantile(longer, 0.9) < 2.0
        assert np.median(wide) < (0.003 if number == 1 else 0.0011)
    assert template.uv.min() >= 0 and template.uv.max() <= 1


@pytest.mark.parametrize("name", ["makehuman", "webxr"])
def test_skin_does_not_change_where_two_charts_meet(machine, name):
    """Tone on both sides of the seams, of vertices that are one on the skin and two in the atlas."""
    weld, template = HandModel.load(name).mesh.weld, scene.template(name)
    textures = machine._atlases[name][0]
    with machine.ctx:
        data = np.frombuffer(textures.read(), np.uint8).reshape(textures.layers, materials.ATLAS, materials.ATLAS, 4)
    column, row = np.round(template.uv * materials.ATLAS - 0.5).astype(int).clip(0, materials.ATLAS - 1).T
    smooth = np.stack([cv2.blur(layer[..., 0].astype(np.float32), (3, 3)) for layer in data])
    tone = smooth[:, row, column]
    used = np.unique(template.faces)
    used = used[np.argsort(weld[used], kind="stable")]
    twice = weld[used[1:]] == weld[used[:-1]]
    one, two = used[1:][twice], used[:-1][twice]
    other = np.random.default_rng(0).permutation(len(one))
    across, anywhere = (np.abs(tone[:, one] - tone[:, pair]).mean() for pair in (two, two[other]))
    assert len(one) > 20 and across < 0.5 * anywhere


@pytest.fixture(scope="module")
def crops(machine):
    return [render.picture("crops", machine, 3, index) for index in range(10)]


def test_a_picture_depends_on_seed_and_index_alone(machine, crops):
    again = render.picture("crops", machine, 3, 7)
    assert np.array_equal(again[0], crops[7][0]) and again[1] == crops[7][1]
    assert not np.array_equal(render.picture("crops", machine, 4, 7)[0], again[0])


def test_renderers_that_take_turns_draw_what_each_draws_alone(machine, crops):
    other = scene.make_renderer(96, 72)
    alone = [render.picture("frames", other, 3, index) for index in range(2)]
    for index in range(2):
        for again, before in ((render.picture("crops", machine, 3, index), crops[index]),
                              (render.picture("frames", other, 3, index), alone[index])):
            assert again[1] == before[1]
            for picture, expected in zip(again[::2], before[::2]):         # image and mask
                np.testing.assert_array_equal(picture, expected)
    other.release()
    np.testing.assert_array_equal(render.picture("crops", machine, 3, 2)[0], crops[2][0])


def test_a_stream_gives_the_same_pictures_without_shards(machine):
    pictures = render.stream("crops", 1, 3, 4, renderer=machine)
    for index in (3, 7):
        image, meta, _, _ = next(pictures)
        assert meta["index"] == index
        np.testing.assert_array_equal(image, render.picture("crops", machine, 1, index)[0])
    with pytest.raises(ConfigError, match="crops"):
        next(render.stream("films"))


def test_a_stream_that_ends_gives_back_the_renderer_that_it_made(monkeypatch):
    made, make = [], scene.make_renderer
    monkeypatch.setattr(scene, "make_renderer", lambda *size: made.append(make(*size)) or made[-1])
    pictures = render.stream("crops", width=64)
    next(pictures)
    pictures.close()
    assert len(made) == 1 and isinstance(made[0].ctx.mglo, moderngl.InvalidObject)
    made[0].release()                                              # a second time does nothing


def test_renderers_that_are_released_leave_no_memory_behind(lighting):
    def resident_mb():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    view = gl.View(np.array([[60.0, 0, 32], [0, 60.0, 32], [0, 0, 1]]), lighting)

    def use():
        renderer = gl.Renderer(1024, 1024, {}, environment.reflections(), materials.patterns())
        renderer.render(view)
        renderer.release()

    use()
    before = resident_mb()
    for _ in range(4):
        use()
    assert resident_mb() - before < 200                            # one of this size holds 110


def test_crops_of_chosen_poses_show_these_alone(machine):
    metas = [render.picture("crops", machine, 3, index, ("asl_k", "count"))[1] for index in range(8)]
    chosen = {"asl_k", *(name for name, made in poses.ANCHORS.items() if made.kind == "count")}
    for meta in metas:
        assert meta["hands"][0]["pose"] in chosen and "holding" not in meta["hands"][0]
        assert "person" not in meta and "other_hand" not in meta
        assert meta["poses"] == ["asl_k", "count"]
    assert len({meta["hands"][0]["pose"] for meta in metas}) > 2


def test_hands_that_are_shown_face_the_camera_with_their_fingers_up(machine):
    """By the labels of lone hands: the palm's normal and the direction from wrist to middle knuckle in the picture.
    Three of four show the palm."""
    facing, upright = [], []
    for index in range(40):
        _, meta, _, _ = render.picture("crops", machine, 3, index, shown=True)
        assert meta["shown"] is True
        if "person" not in meta:
            joints = np.array(meta["hands"][0]["joints_m"])
            normal = np.cross(joints[9] - joints[0], joints[5] - joints[17])
            towards = joints.mean(0) / np.linalg.norm(joints.mean(0))
            side = 1.0 if meta["hands"][0]["is_right"] else -1.0
            facing.append(side * (normal @ towards) / np.linalg.norm(normal))
            flat = joints[[0, 9], :2] / joints[[0, 9], 2:]
            upright.append(flat[1, 1] < flat[0, 1])
    assert np.mean(np.abs(facing) > 0.7) > 0.8 and np.mean(upright) > 0.9
    assert 0.6 < np.mean(np.array(facing) > 0) < 0.95


@pytest.mark.parametrize("kind, chosen, said", [("crops", ("moose",), "unknown pose 'moose'"),
                                                ("frames", ("fist",), "for crops only, not for frames")])
def test_poses_that_cannot_be_chosen_are_refused(kind, chosen, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        render.write(kind, tmp_path / "shards", 4, poses=chosen)
    assert not (tmp_path / "shards").exists()


def test_a_folder_of_hands_with_other_joints_is_not_added_to(tmp_path, monkeypatch):
    render.write("crops", tmp_path, 1, width=64)
    assert render.write("crops", tmp_path, 1, width=64) == 0
    monkeypatch.setattr(shards, "HANDS_VERSION", shards.HANDS_VERSION + 1)
    with pytest.raises(ConfigError, match="hands_version .* instead of .*give another --out"):
        render.write("crops", tmp_path, 1, width=64)


def test_a_shard_under_another_ones_name_is_not_taken_for_it(tmp_path):
    render.write("crops", tmp_path, 1, width=64, start=shards.PER_SHARD)
    (tmp_path / shards.name("crops", shards.PER_SHARD)).rename(tmp_path / shards.name("crops", 0))
    with pytest.raises(ConfigError, match=f"index {shards.PER_SHARD} instead of 0"):
        render.write("crops", tmp_path, 1, width=64)


def test_shards_of_shown_hands_are_not_taken_for_others(tmp_path):
    render.write("crops", tmp_path, 1, width=64, shown=True)
    with pytest.raises(ConfigError, match="shown True instead of None"):
        render.write("crops", tmp_path, 1, width=64)
    with pytest.raises(ConfigError, match="shown hands can be chosen for crops only, not for frames"):
        render.write("frames", tmp_path / "frames", 1, shown=True)


def test_crop_labels_are_consistent(crops):
    for image, meta, mask, depth in crops:
        json.dumps(meta)
        hand = meta["hands"][0]
        joints, px, K = np.array(hand["joints_m"]), np.array(hand["joints_px"]), np.array(meta["K"])
        assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8
        homogeneous = joints @ K.T
        assert np.allclose(homogeneous[:, :2] / homogeneous[:, 2:], px, atol=0.02)
        side = np.ptp(px, axis=0).max() / SIZE
        assert 0.44 < side < 0.61
        assert np.allclose(px.mean(0), SIZE / 2, atol=0.3 * SIZE)
        assert hand_length(joints) == pytest.approx(hand["hand_length_m"], rel=0.01)
        assert set(np.unique(mask)) <= set(range(9))
        assert (depth[(mask > 0)] > 0).all()


def test_the_side_label_is_the_side_one_sees():
    """Outside truth: fingers curl towards the palm, and that tells a right hand from a left one."""
    curled = 0
    for index in range(30):
        hand = scene.sample_crop(np.random.default_rng([9, index]), SIZE).hands[0]
        joints = hand.joints_m
        wrist, index, little = joints[0], joints[5], joints[17]
        palm_normal = np.cross(index - wrist, little - wrist)      # of a right hand: out of the palm
        bend = (joints[[8, 12, 16]] - joints[[5, 9, 13]]).mean(0)  # fingers bend towards the palm, if they bend
        along = joints[9] - wrist
        sideways = bend - along * (bend @ along) / (along @ along)
        reach = np.linalg.norm(joints[[8, 12, 16]] - wrist, axis=1).mean() / hand_length(joints)
        if reach > 0.65 or np.linalg.norm(sideways) < 0.015:       # too straight to tell
            continue
        curled += 1
        assert (sideways @ palm_normal > 0) == hand.is_right
    assert curled >= 4


def test_parts_of_a_frame_are_those_of_the_hand_asked_for(machine, tmp_path):
    """A scene's first hand may be left out of the labels, as one that nobody sees: the others keep their numbers."""
    path, checked, shifted = tmp_path / shards.name("frames", 0), [], 0
    with shards.ShardWriter(path) as writer:
        for index in range(40):
            writer.add(index, *render.picture("frames", machine, 1, index)[:3])
    for record in shards.read(path):
        for number, label in enumerate(record["meta"]["hands"]):
            sample = shards.decode(record, number)
            column, row = np.round(sample.joints_px[sample.state == JointState.VISIBLE]).astype(int).T
            near = cv2.dilate((sample.parts > 0).astype(np.uint8), np.ones((3, 3)))     # joints round to whole pixels
            checked.append(near[row, column].mean())
            shifted += label["mask_base"] != 16 * (number + 1)
    assert len(checked) > 15 and shifted > 0 and min(checked) > 0.9


def test_frames_have_hands_people_and_negatives(machine):
    metas = [render.picture("frames", machine, 1, index)[1] for index in range(7)]
    assert {meta["mode"] for meta in metas} >= {"people", "arms"}
    for meta in metas:
        for hand in meta["hands"]:
            state = np.array(hand["state"])
            assert (state == JointState.VISIBLE).sum() >= 4
        if meta["mode"] == "none":
            assert not meta["hands"]


def test_impossible_sizes_are_named():
    with pytest.raises(ConfigError, match="7x7"):
        scene.check_size(7, 7)


def test_no_egl_says_what_to_install(monkeypatch):
    def refuse(**_):
        raise RuntimeError("eglInitialize failed")

    monkeypatch.setattr(moderngl, "create_context", refuse)
    with pytest.raises(ConfigError, match="libegl1"):
        gl.open_context()


def test_ranks_of_a_machine_take_a_gpu_each_or_share_the_first(monkeypatch):
    asked = []

    def devices(*, device_index=None, **_):
        asked.append(device_index)
        if device_index is not None and device_index >= 2:
            raise RuntimeError(f"requested device index {device_index}, but found 2 devices")
        return f"device {device_index}"

    monkeypatch.setattr(moderngl, "create_context", devices)
    monkeypatch.delenv(gl.DEVICE_INDEX, raising=False)
    found = []
    for rank in ("0", "1", "5"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        found.append(gl.open_context())
    assert found == ["device None", "device 1", "device None"] and asked == [None, 1, 5, None]
    monkeypatch.setenv(gl.DEVICE_INDEX, "0")
    assert gl.open_context() == "device None"


def test_faces_have_the_hue_of_the_hands():
    """Highlights in the skin images made chalk of fair faces: half of their vertices had lost red to a limit."""
    grey = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        look, _ = materials.sample_skin(rng)
        upper_arms = np.array([[0.3, -0.95, 0.0], [-0.3, -0.95, 0.0]])
        person = body.sample(rng, replace(look, glove=False), upper_arms, anthropometry.sample(rng, grown=True))
        (vertices, *_), colors, *_ = person.solids[0]
        head = colors[vertices[:, 1] > np.median(vertices[:, 1])]
        grey.append(np.mean(head[:, 0] / head[:, 2] < 0.75 * look.back[0] / look.back[2]))
    assert np.max(grey) < 0.06 and np.mean(grey) < 0.03
