"""The closed loop's report: known delays and errors are found again, in numbers and in the picture."""
from __future__ import annotations

import numpy as np
import pytest

from hand_pose_ros.ros.teleop_record import LAG, PHASE_COLOURS, SEEN_LAG, Record, following, late_s, plot, summary

BEGUN_S = 1_700_000_000.0


def share(t):
    return 0.5 + 0.4 * np.sin(2.0 * t) * np.cos(0.7 * t)


def record(lag_s=0.12, off=0.1):
    """Ten seconds: idle for one, then steered for seven, then lost. Hands are seen `off` too open; the gripper lags."""
    images, ticks = BEGUN_S + np.arange(0, 10, 1 / 30), BEGUN_S + np.arange(0, 10, 1 / 100)
    made = Record(ended_s=BEGUN_S + 11)
    made.truth = [(t, share(t - BEGUN_S)) for t in images]
    made.hands = [(t, share(t - BEGUN_S) + off, t + 0.03) for t in images]
    made.commands = [(t, 0.08 * share(t - BEGUN_S - lag_s + 0.02)) for t in images]
    made.opening = [(t, 0.08 * share(t - BEGUN_S - lag_s)) for t in ticks]
    made.states = [(BEGUN_S - 5, "idle: clutch open"), (BEGUN_S + 1, "follow"), (BEGUN_S + 8, "hold: holding: no hand"),
                   (BEGUN_S + 8.5, "idle: operator lost")]
    return made


def test_known_delays_and_errors_come_out():
    numbers = summary(record(), "pipeline", "some/where/x.mcap")
    assert numbers["recording"] == "x.mcap"
    assert numbers[LAG] == pytest.approx(120, abs=6) and numbers[SEEN_LAG] == pytest.approx(120, abs=6)
    assert numbers["seen hand -> command, by correlation [ms]"] == pytest.approx(100, abs=6)
    assert numbers["aperture seen - true, same image, mean [mm of 80]"] == pytest.approx(8.0, abs=1e-6)
    assert numbers["gripper - true hand, delay taken out, mean [mm of 80]"] < 0.5
    assert numbers["gripper - seen hand, delay taken out, mean [mm of 80]"] == pytest.approx(8.0, abs=0.5)
    assert numbers["gripper - true hand, delay included, mean [mm of 80]"] > 2.0
    assert numbers["time in follow [%]"] == pytest.approx(70, abs=1)
    assert numbers["time in hold [%]"] == pytest.approx(5, abs=1)
    assert following(record()) == [pytest.approx((BEGUN_S + 1, BEGUN_S + 8))]
    assert late_s(record()) == pytest.approx(0.03)


def test_a_delay_beyond_what_is_searched_is_unknown_and_slow_motion_searches_further():
    assert np.isnan(summary(record(lag_s=1.2), "pipeline", "x.mcap")[LAG])
    assert summary(record(lag_s=1.2), "pipeline", "x.mcap", speed=0.25)[LAG] == pytest.approx(1200, abs=6)


def test_without_steering_the_numbers_are_unknown_and_the_picture_says_so():
    for made in (Record(), Record(hands=record().hands, states=[(BEGUN_S, "idle")], ended_s=BEGUN_S + 11)):
        numbers = summary(made, "pipeline", "x.mp4")
        assert np.isnan(numbers[SEEN_LAG])
        assert LAG not in numbers or np.isnan(numbers[LAG])
        assert plot(made, numbers).ndim == 3


def test_the_picture_shows_phases_and_curves():
    made = record()
    image = plot(made, summary(made, "pipeline", "x.mcap"))
    colours = {tuple(colour) for colour in np.unique(image.reshape(-1, 3), axis=0)}
    expected = {PHASE_COLOURS["follow"], PHASE_COLOURS["idle"], PHASE_COLOURS["hold"], (30, 130, 30), (60, 60, 230)}
    assert expected <= colours
