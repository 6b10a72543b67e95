"""What scenes are made of, before anything is drawn: hands beside hands, people and their hands."""
import numpy as np

from hand_pose_ros.synthesis import body, scene, touch


def cut_m(capsules):
    """How deep the deepest of a view's hands cuts into another, metres; 0 if none does."""
    hands = capsules.reshape(-1, 21, 7)
    depth = [0.0]
    for number, one in enumerate(hands):
        for two in hands[:number]:
            a, b = one[:, None], two[None]
            gap = touch.segment_distance(a[..., :3], a[..., 3:6], b[..., :3], b[..., 3:6])
            depth.append((a[..., 6] + b[..., 6] - gap).max())
    return max(depth)


def test_a_hand_beside_another_does_not_cut_it():
    """Distances of joints alone let fingers cross between them: 18 of 100 second hands in crops cut the first."""
    shown = 0
    for index in range(120):
        drawn = scene.sample_crop(np.random.default_rng([7, index]), 64)
        if drawn.attributes.get("other_hand"):
            shown += 1
            assert cut_m(drawn.view.capsules) == 0
    assert shown > 4


def test_a_hand_that_finds_no_room_is_not_drawn(monkeypatch):
    hand = scene.sample_crop(np.random.default_rng(0), 64).hands[0]
    rng, look = np.random.default_rng(0), scene.materials.sample_skin(np.random.default_rng(0))[0]
    everywhere = np.array([[*hand.joints_m[0], *hand.joints_m[9], 2.0]])
    assert scene._other_hand(rng, look, hand, everywhere) is None
    monkeypatch.setattr(scene, "_other_hand", lambda *_: None)
    for index in range(30):
        drawn = scene.sample_crop(np.random.default_rng([7, index]), 64)
        assert "other_hand" not in drawn.attributes


def test_arms_that_reach_into_a_frame_do_not_cut_each_other(monkeypatch):
    monkeypatch.setattr(scene, "MODES", {"arms": 1.0})
    monkeypatch.setattr(scene, "_on_ray", lambda K, px, depth: np.array([0.0, 0.0, depth]))    # all to the middle
    several = 0
    for index in range(60):
        drawn = scene.sample_frame(np.random.default_rng([4, index]), 64, 48)
        several += len(drawn.hands) > 1
        assert cut_m(drawn.view.capsules) == 0
    assert several > 5


def test_the_hands_of_a_person_do_not_cut_each_other(monkeypatch):
    """Both forearms begin before the belly, where they meet in half of the frames."""
    gesture, asked = body.sample_gesture, []

    def crossing(rng, side, *given, **named):
        asked.append(side)
        if len(asked) > 2:
            return gesture(rng, side, *given, **named)
        out = np.array([-1.0 if side == 0 else 1.0, 1.0, 1.0])
        vectors = [0.3, -0.9, 0.3], [-1.0, rng.normal(0.1, 0.2), rng.uniform(0.4, 1.0)], rng.normal(0, 1, 3)
        return tuple(out * vector / np.linalg.norm(vector) for vector in vectors)

    monkeypatch.setattr(scene, "MODES", {"people": 1.0})
    monkeypatch.setattr(scene, "AT_HEAD", 0.0)
    monkeypatch.setattr(body, "sample_gesture", crossing)
    cuts = []
    for index in range(40):
        asked.clear()
        drawn = scene.sample_frame(np.random.default_rng([4, index]), 64, 48)
        if len(drawn.attributes["skins"]) == 1 and len(drawn.hands) == 2:
            cuts.append(cut_m(drawn.view.capsules))
    assert len(cuts) > 15 and max(cuts) == 0


def test_hands_are_those_of_the_body_that_they_belong_to(monkeypatch):
    """No child's hands on an adult, and body and hands of one sex and age: there are no bodies of children."""
    shown, figure = [], body.figure
    monkeypatch.setattr(body, "figure", lambda variant, legs: shown.append(variant) or figure(variant, legs))
    ages = []
    for index in range(120):
        rng = np.random.default_rng([6, index])
        owner = scene._person(rng, scene.materials.sample_skin(rng)[0], legs=False, may_reach=False).owner.shape.person
        assert figure(shown[-1], False).male == (owner.male > 0.5)
        assert (body.AGES[shown[-1] % 3] == "old") == (owner.age_years >= 60)
        ages.append(owner.age_years)
    assert min(ages) >= 15 and max(ages) > 60 and len(set(shown)) > 12
