"""The fit of the rule for new hands against a world whose rule is known."""
import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from hand_pose_ros import models, pipeline
from hand_pose_ros.errors import DataError
from hand_pose_ros.training import new_hand_rule


def test_the_rule_that_made_the_answers_is_found_again():
    rng = np.random.default_rng(5)
    weights, needed = np.array([1.4, 0.3, 0.8]), 1.7
    features = rng.normal(0.0, 2.0, (40000, 3))
    truth = (rng.random(40000) < 1.0 / (1.0 + np.exp(needed - features @ weights))).astype(float)
    found, threshold = new_hand_rule.fit(features, truth)
    np.testing.assert_allclose([*found, threshold], [*weights, needed], atol=0.08)


def test_evidence_that_separates_perfectly_still_gives_a_finite_rule():
    features = np.array([[-1.0, 0, 0], [1.0, 0, 0]] * 20)
    weights, needed = new_hand_rule.fit(features, (features[:, 0] > 0).astype(float))
    assert np.isfinite(weights).all() and weights[0] > 0 and abs(needed) < 1e-6


@pytest.mark.parametrize("truth", [0.0, 1.0])
def test_candidates_of_one_kind_are_refused(truth):
    with pytest.raises(DataError, match="both kinds"):
        new_hand_rule.fit(np.zeros((5, 3)), np.full(5, truth))


def test_a_folder_without_frames_is_named(tmp_path):
    with pytest.raises(DataError, match="frames"):
        new_hand_rule.candidates(None, str(tmp_path), 10, None)


def test_what_the_present_weights_need_is_written_into_the_card_if_that_is_asked_for(tmp_path, monkeypatch):
    own = shutil.copytree(models.path("pose_light"), tmp_path / "own")
    card = json.loads((own / "card.json").read_text())
    card.pop("evidence_needed", None)
    (own / "card.json").write_text(json.dumps(card))
    rng = np.random.default_rng(1)
    truth = (np.arange(8000) < 4000).astype(float)
    features = rng.normal(0.0, 1.0, (8000, 3)) + truth[:, None]
    monkeypatch.setattr(new_hand_rule.pipeline, "load", lambda config: SimpleNamespace(evidence_needed=1.0))
    monkeypatch.setattr(new_hand_rule, "candidates", lambda *_: (features, truth))
    monkeypatch.setattr(new_hand_rule, "served_pose_model", lambda model, runtime: str(own) if model == "auto" else "")
    for words in ([], ["--write"]):
        monkeypatch.setattr(sys, "argv", ["new_hand_rule", "shards", *words])
        assert new_hand_rule.main() == 0
        assert ("evidence_needed" in models.card(str(own))) == bool(words)
    needed = models.card(str(own))["evidence_needed"]
    passing = features[truth == 0] @ np.array(pipeline.EVIDENCE_WEIGHTS) > needed
    assert abs(passing.mean() - new_hand_rule.OTHERS_TAKEN) < 0.002
