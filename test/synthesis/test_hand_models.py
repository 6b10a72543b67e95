"""The meshes of the virtual hands: closed, the right way out, labels exact on and in the skin, left as mirror image."""
import numpy as np
import pytest

from hand_pose_ros.errors import ConfigError
from hand_pose_ros.skeleton import FINGERTIPS, hand_length
from hand_pose_ros.synthesis import poses, rig
from hand_pose_ros.synthesis.hand_model import HandModel, mirror, vertex_normals

NAMES = ["makehuman", "webxr"]


@pytest.fixture(scope="module", params=NAMES)
def model(request):
    return HandModel.load(request.param)


def _people(model, count, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        shape = model.shape(rng)
        pose = poses.sample(rng, shape)
        yield shape, pose, model.pose(shape, pose)


def _surface_distance(point, hand):
    """Shortest distance from a point to a triangle mesh, by dense sampling of the triangles near it."""
    reach = np.linalg.norm(hand.vertices - point, axis=1)
    near = hand.faces[(reach[hand.faces] < reach.min() + 0.008).any(axis=1)]
    steps = np.array([(i, j, 12 - i - j) for i in range(13) for j in range(13 - i)]) / 12
    samples = np.einsum("sk,fkd->fsd", steps, hand.vertices[near]).reshape(-1, 3)
    return np.linalg.norm(samples - point, axis=1).min()


def _winding(point, vertices, faces):
    """Generalised winding number: 1 inside a closed outward mesh, 0 outside (Jacobson et al., SIGGRAPH 2013, eq. 6)."""
    a, b, c = (vertices[faces[:, corner]] - point for corner in range(3))
    la, lb, lc = (np.linalg.norm(side, axis=1) for side in (a, b, c))
    top = np.einsum("fi,fi->f", a, np.cross(b, c))
    bottom = la * lb * lc + (a * b).sum(1) * lc + (b * c).sum(1) * la + (c * a).sum(1) * lb
    return np.arctan2(top, bottom).sum() / (2 * np.pi)


def test_mesh_is_closed_and_outward(model):
    mesh, shape = model.mesh, model.shape()
    edges = np.concatenate([mesh.skin_faces[:, [0, 1]], mesh.skin_faces[:, [1, 2]], mesh.skin_faces[:, [2, 0]]])
    assert {tuple(edge) for edge in edges.tolist()} == {tuple(edge) for edge in edges[:, ::-1].tolist()}
    a, b, c = (shape.vertices[mesh.skin_faces[:, corner]] for corner in range(3))
    assert np.einsum("fi,fi->f", a, np.cross(b, c)).sum() / 6 > 5e-4  # cubic metres: more than half a litre


def test_mesh_tables_fit_each_other(model):
    mesh = model.mesh
    np.testing.assert_array_equal(mesh.weld[mesh.faces], mesh.skin_faces)
    np.testing.assert_allclose(mesh.weights.sum(axis=1), 1.0, atol=1e-12)
    assert mesh.weights.min() >= 0.0
    assert set(np.unique(mesh.part_ids)) == set(range(1, 8))
    assert len(mesh.uv) == len(mesh.weld) == len(mesh.part_ids)


def test_tips_lie_on_the_skin_in_every_pose(model):
    for _, _, hand in _people(model, 6):
        for tip in FINGERTIPS:
            assert _surface_distance(hand.joints[tip], hand) < 1.5e-3


def test_other_joints_lie_inside_in_every_pose(model):
    """But for MANO's saddle joint of the thumb, which stays where it is when the thumb swings far from it."""
    inner = [joint for joint in range(21) if joint not in FINGERTIPS]
    inside = np.array([[_winding(hand.joints[joint], hand.vertices, hand.faces) > 0.5 for joint in inner]
                       for _, _, hand in _people(model, 8, seed=1)])
    assert np.delete(inside, inner.index(1), axis=1).all() and inside.mean() > 0.99


def test_joints_lie_as_deep_as_bones_do(model):
    shape = model.shape()
    hand = model.pose(shape, model.rest(shape))
    for joint in (2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15, 17, 18, 19):
        assert 0.0045 < _surface_distance(hand.joints[joint], hand) < 0.0145


def test_tip_labels_go_where_the_skin_round_them_goes():
    model = HandModel.load("makehuman")
    shape = model.shape()
    rest = model.pose(shape, model.rest(shape))
    for _, pose, _ in _people(model, 5, seed=2):
        hand = model.pose(shape, pose)
        for tip in FINGERTIPS:
            near = np.argsort(np.linalg.norm(rest.vertices - rest.joints[tip], axis=1))[:4]
            before = np.linalg.norm(rest.vertices[near] - rest.joints[tip], axis=1)
            after = np.linalg.norm(hand.vertices[near] - hand.joints[tip], axis=1)
            np.testing.assert_allclose(after, before, atol=4e-4)


def test_parts_are_where_their_joints_are(model):
    shape = model.shape()
    hand = model.pose(shape, model.rest(shape))
    for finger, tip in enumerate(FINGERTIPS):
        nearest = np.argmin(np.linalg.norm(hand.vertices - hand.joints[tip], axis=1))
        assert hand.part_ids[nearest] == 3 + finger
    assert hand.part_ids[np.argmin(hand.vertices[:, 1])] == 1


def test_left_hand_is_the_mirror_image(model):
    shape, pose, right = next(_people(model, 1, seed=3))
    left = mirror(right)
    flip = np.array([-1.0, 1.0, 1.0])
    assert right.is_right and not left.is_right
    np.testing.assert_array_equal(left.joints, right.joints * flip)
    np.testing.assert_array_equal(left.vertices, right.vertices * flip)
    again = vertex_normals(left.vertices, left.faces)
    inside = np.bincount(model.mesh.weld)[model.mesh.weld] == 1             # seams have their own normals
    np.testing.assert_allclose(again[inside], left.normals[inside], atol=1e-9)
    twice = mirror(left)
    np.testing.assert_array_equal(twice.vertices, right.vertices)
    np.testing.assert_array_equal(twice.faces, right.faces)


def test_normals_point_outwards_and_agree_across_seams(model):
    shape = model.shape()
    hand = model.pose(shape, model.rest(shape))
    np.testing.assert_allclose(np.linalg.norm(hand.normals, axis=1), 1.0, atol=1e-9)
    for row in np.random.default_rng(0).choice(len(hand.vertices), 25, replace=False):
        assert _winding(hand.vertices[row] - 4e-4 * hand.normals[row], hand.vertices, hand.faces) > 0.5
        assert _winding(hand.vertices[row] + 4e-4 * hand.normals[row], hand.vertices, hand.faces) < 0.5
    order = np.argsort(model.mesh.weld, kind="stable")
    same = np.flatnonzero(np.diff(model.mesh.weld[order]) == 0)
    np.testing.assert_array_equal(hand.normals[order[same]], hand.normals[order[same + 1]])


def test_hand_length_is_the_persons_in_every_pose(model):
    for shape, _, hand in _people(model, 8, seed=4):
        assert shape.hand_length_m == pytest.approx(shape.person.hand_length_m, abs=1e-9)
        assert hand.hand_length_m == pytest.approx(shape.person.hand_length_m, abs=1e-9)
        assert hand_length(shape.skeleton.joints) == pytest.approx(shape.person.hand_length_m, abs=1e-9)


def test_people_differ(model):
    shapes = [shape for shape, _, _ in _people(model, 12, seed=5)]
    joints = np.stack([shape.skeleton.joints / shape.hand_length_m for shape in shapes])
    spread = joints[:, [4, 8, 16, 20]].std(axis=0).max(axis=1)              # the middle finger is the yardstick
    assert (spread > 0.006).all() and (spread < 0.06).all()
    assert len({round(shape.hand_length_m, 6) for shape in shapes}) == 12


def test_the_same_seed_makes_the_same_hand(model):
    one, two = (next(_people(model, 1, seed=9))[2] for _ in range(2))
    np.testing.assert_array_equal(one.vertices, two.vertices)


def test_unknown_model_lists_the_choices():
    with pytest.raises(ConfigError, match="makehuman, webxr"):
        HandModel.load("mano")


def test_a_shape_does_not_depend_on_the_shapes_drawn_before_it():
    """Targets are read when first needed; what a process has read must not change the last digit of a shape."""
    from hand_pose_ros.synthesis import makehuman_hand

    first, second = (makehuman_hand.load.__wrapped__() for _ in range(2))
    for seed in range(6):
        second.shape(np.random.default_rng(seed))
    one, two = (model.shape(np.random.default_rng(77)) for model in (first, second))
    np.testing.assert_array_equal(one.vertices, two.vertices)
    np.testing.assert_array_equal(one.skeleton.joints, two.skeleton.joints)
