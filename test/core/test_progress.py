"""How far a command is: lines in a log, a bar on a terminal."""
from __future__ import annotations

import io

import pytest

from hand_pose_ros import progress


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_is_told_how_far_it_is_now_and_then_and_at_the_end_once(clock, capsys):
    told = progress.Progress(100)
    for clock[0], done in ((1.0, 1), (59.0, 40), (61.0, 50), (62.0, 55), (100.0, 100), (101.0, 100)):
        told(done)
    assert capsys.readouterr().out.splitlines() == ["50/100  0.8/s  1.0 min left", "100/100  1.0/s  0.0 min left"]


def test_an_end_that_nobody_knows_is_not_guessed(clock):
    stream = io.StringIO()
    told = progress.Progress(0, stream)
    for clock[0], done in ((1.0, 1), (61.0, 61), (62.0, 62)):
        told(done)
    assert stream.getvalue().splitlines() == ["61/?  1.0/s"]


def test_a_bar_is_written_over_and_what_follows_begins_a_line(clock):
    stream = io.StringIO()
    stream.isatty = lambda: True
    told = progress.Progress(10, stream)
    told.close()
    assert stream.getvalue() == ""
    clock[0] = 1.0
    told(5)
    assert stream.getvalue().startswith("\r[###############...............] 5/10  5.0/s")
    assert "\n" not in stream.getvalue()
    told.close()
    told.close()
    assert stream.getvalue().count("\n") == 1 and stream.getvalue().endswith("\n")
    told(10)
    told.close()
    assert stream.getvalue().count("\n") == 2
