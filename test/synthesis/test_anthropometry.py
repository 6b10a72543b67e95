"""People's hands against the published surveys."""
import numpy as np
import pytest

from hand_pose_ros.skeleton import bone_lengths
from hand_pose_ros.synthesis import anthropometry
from hand_pose_ros.synthesis.hand_model import HandModel

# Buryanov & Kotiuk, Int. J. Morphol. 28(3), 2010, Table 2: X-ray lengths of proximal, middle and distal phalanx plus
# soft tissue over the fingertip, millimetres, index to little finger.
XRAY_MM = np.array([[39.78, 22.38, 15.82 + 3.84], [44.63, 26.33, 17.40 + 3.95],
                    [41.37, 25.65, 17.30 + 3.95], [32.74, 18.11, 15.96 + 3.73]])


@pytest.fixture(scope="module")
def people():
    rng = np.random.default_rng(0)
    return [anthropometry.sample(rng) for _ in range(4000)]


@pytest.mark.parametrize("male,mean,spread", [(True, 193.0, 10.0), (False, 181.1, 10.1)])
def test_adult_hand_lengths_match_the_survey(people, male, mean, spread):
    lengths = np.array([person.hand_length_m * 1000 for person in people
                        if person.age_years >= 15 and (person.male > 0.5) == male])
    assert lengths.mean() == pytest.approx(mean, abs=0.8)
    assert lengths.std() == pytest.approx(spread, abs=0.6)


def test_children_have_smaller_hands(people):
    small = [person.hand_length_m for person in people if person.age_years < 8]
    older = [person.hand_length_m for person in people if 12 < person.age_years < 15]
    grown = [person.hand_length_m for person in people if person.age_years >= 15]
    assert 0.11 < np.mean(small) < 0.145 < np.mean(older) < np.mean(grown)
    assert 0.07 < np.mean([person.age_years < 15 for person in people]) < 0.13


def test_nobody_is_out_of_this_world(people):
    lengths = np.array([person.hand_length_m for person in people])
    assert 0.095 < lengths.min() and lengths.max() < 0.225
    for person in people[:200]:
        assert person.origins.sum() == pytest.approx(1.0)
        assert 0.0 <= person.male <= 1.0 and 0.0 <= person.muscle <= 1.0 and 0.0 <= person.weight <= 1.0
        assert (np.abs(person.finger_length - 1) < 0.1).all() and (np.abs(person.finger_thickness - 1) < 0.16).all()


def test_proportions_vary_as_in_the_survey(people):
    breadth = np.array([person.breadth for person in people])
    fingers = np.array([person.finger_length for person in people])
    assert breadth.std() == pytest.approx(0.049, abs=0.006)
    assert fingers.std() == pytest.approx(0.031, abs=0.003)


@pytest.mark.parametrize("name", ["makehuman", "webxr"])
def test_mean_finger_segments_lie_near_xray_lengths(name):
    """Labels follow MANO, whose knuckles lie further out than bones' heads: shares agree to a tenth of the finger."""
    shape = HandModel.load(name).shape()
    lengths = bone_lengths(shape.skeleton.joints).reshape(5, 4)[1:, 1:] * 1000
    ours = lengths.sum(axis=1)
    theirs = XRAY_MM.sum(axis=1)
    np.testing.assert_allclose(ours / theirs, 1.0, atol=0.13)
    np.testing.assert_allclose(lengths / ours[:, None], XRAY_MM / theirs[:, None], atol=0.10)


@pytest.mark.parametrize("name", ["makehuman", "webxr"])
def test_palm_is_as_wide_as_people_s(name):
    model = HandModel.load(name)
    shape = model.shape()
    hand = model.pose(shape, model.rest(shape))
    faces = hand.faces[(hand.part_ids[hand.faces] != 3).all(axis=1)]                        # without the thumb
    height = 0.8 * hand.joints[9, 1]                                                        # across the metacarpals
    starts = hand.vertices[faces.ravel()]
    ends = hand.vertices[np.roll(faces, -1, axis=1).ravel()]
    cut = (starts[:, 1] - height) * (ends[:, 1] - height) < 0.0
    share = (height - starts[cut, 1]) / (ends[cut, 1] - starts[cut, 1])
    breadth = np.ptp(starts[cut, 0] + share * (ends[cut, 0] - starts[cut, 0]))
    assert 0.415 < breadth / shape.hand_length_m < 0.465                    # survey: 0.432 women, 0.457 men


@pytest.mark.parametrize("name", ["makehuman", "webxr"])
def test_longer_fingers_and_broader_palms_reach_the_mesh(name):
    from dataclasses import replace

    from hand_pose_ros.synthesis import reshape

    model = HandModel.load(name)
    shape = model.shape()
    person = replace(anthropometry.MEAN, finger_length=np.array([1.0, 1.1, 1.0, 1.0, 1.0]), breadth=1.08)
    _, joints = reshape.proportions(shape.vertices, model.mesh.weights, shape.skeleton, person)
    before, after = bone_lengths(shape.skeleton.joints), bone_lengths(joints)
    np.testing.assert_allclose(after[5:8] / before[5:8], 1.1, atol=1e-9)
    np.testing.assert_allclose(after[9:12] / before[9:12], 1.0, atol=1e-9)
    was, now = (np.ptp(j[[5, 17], 0]) for j in (shape.skeleton.joints, joints))
    assert now / was == pytest.approx(1.08, abs=1e-6)
