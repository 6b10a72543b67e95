"""Settings: each checked, offered to the command line and listed in the README's table."""
import argparse

import pytest

from hand_pose_ros import config as configs
from hand_pose_ros.config import SETTINGS, Config, check_value
from hand_pose_ros.errors import ConfigError
from hand_pose_ros.skeleton import ADULT_HAND_LENGTH_M


def test_defaults_pass_their_own_checks_and_have_help():
    for setting in SETTINGS:
        assert check_value(setting, setting.default) == setting.default
        assert setting.help.endswith(".") and (setting.low is None) == (setting.high is None)
    assert len({s.name for s in SETTINGS}) == len(SETTINGS)
    assert Config.from_dict({}) == Config()
    assert Config().hand_length_m == ADULT_HAND_LENGTH_M


@pytest.mark.parametrize("values, says", [
    ({"runtime": "gpu"}, "runtime is 'gpu'; it must be one of auto, tensorrt, cuda, onnxruntime, "
     "onnxruntime-int8, onnxruntime-cuda, cpu"),
    ({"max_hands": 0}, "max_hands is 0; it must be 1 to 6"),
    ({"max_hands": 1.5}, "max_hands is 1.5; it must be 1 to 6"),
    ({"max_hands": True}, "max_hands is True"),
    ({"detection_threshold": float("nan")}, "detection_threshold is nan; it must be 0.01 to 1"),
    ({"detection_threshold": "high"}, "detection_threshold is 'high'"),
    ({"use_depth": 1}, "use_depth is 1; it must be true or false"),
    ({"hand_length_m": 186}, "hand_length_m is 186.0; it must be 0.08 to 0.3 m"),
    ({"max_hand": 2}, "there is no setting 'max_hand'; choices: detector_model, "),
    ({"pose_model": "../secret"}, "pose_model is '../secret'; give the name of a folder below models/"),
    ({"pose_model": ""}, "pose_model is ''"),
    ({"pose_model": "runs/pose"}, "pose_model is 'runs/pose'; give the name of a folder below models/, or a path to a "
     "model's folder that begins with /, ./, ~/"),
    ({"detector_model": ".hidden"}, "detector_model is '.hidden'"),
    ({"detector_model": "a\\b"}, "detector_model is 'a\\b'"),
])
def test_bad_values_are_named_with_what_is_allowed(values, says):
    with pytest.raises(ConfigError) as error:
        Config.from_dict(values)
    assert says in str(error.value)


@pytest.mark.parametrize("path", ["/somewhere/pose", "./pose", "~/runs/pose"])
def test_a_model_may_be_given_by_its_path(path):
    assert Config.from_dict({"pose_model": path}).pose_model == path


def test_whole_numbers_do_for_numbers():
    assert Config.from_dict({"assumed_hfov_deg": 70, "max_hands": 2.0}) == Config(assumed_hfov_deg=70.0, max_hands=2)


def test_command_line():
    parser = argparse.ArgumentParser()
    configs.add_arguments(parser)
    args = parser.parse_args(["--max-hands", "4", "--no-use-depth", "--runtime", "cpu", "--track-timeout-s", "1"])
    assert configs.from_arguments(args) == Config(max_hands=4, use_depth=False, runtime="cpu", track_timeout_s=1.0)
    some = argparse.ArgumentParser()
    configs.add_arguments(some, ["runtime"])
    assert configs.from_arguments(some.parse_args([])) == Config()
    assert "--max-hands" not in some.format_help() and "%" not in parser.format_help().replace("%%", "")
    with pytest.raises(SystemExit):
        parser.parse_args(["--runtime", "gpu"])
    with pytest.raises(ConfigError, match="max_hands is 9"):
        configs.from_arguments(parser.parse_args(["--max-hands", "9"]))


def test_table_has_a_row_for_each_setting():
    rows = configs.markdown_table().strip().split("\n")
    assert len(rows) == 2 + len(SETTINGS)
    assert all(row.count("|") == 6 for row in rows)
    assert any("`max_hands` | `2` | 1 to 6 | yes" in row for row in rows)
