"""Lanes keep the order, bound what waits, and hand errors over to who waits for the results."""
from __future__ import annotations

import threading
import time

import pytest

from hand_pose_ros.evaluation.lanes import WAITING, Here, Lane


@pytest.mark.parametrize("lane", [Lane, Here])
def test_calls_are_made_in_order(lane):
    made = []
    with lane() as add:
        for number in range(200):
            add(made.append, number)
    assert made == list(range(200))


def test_a_lane_is_a_thread_and_the_caller_waits_when_it_is_full():
    gate, names = threading.Event(), []
    with Lane() as lane:
        def first():
            names.append(threading.current_thread().name)
            gate.wait(20)

        lane(first)
        started = threading.Thread(target=lambda: [lane(names.append, n) for n in range(WAITING + 5)])
        started.start()
        time.sleep(0.2)
        assert started.is_alive(), "more calls than the lane may hold must wait"
        gate.set()
        started.join(20)
    assert names[0] != threading.main_thread().name and names[1:] == list(range(WAITING + 5))


def test_an_error_ends_the_lane_and_is_raised_at_the_caller():
    made = []
    with pytest.raises(ZeroDivisionError):
        with Lane() as lane:
            lane(made.append, 1)
            lane(lambda: 1 // 0)
            lane(made.append, 2)
    assert made == [1]
    with pytest.raises(ZeroDivisionError):
        with Lane() as lane:
            for number in range(1000):
                lane((lambda: 1 // 0) if number == 3 else (lambda: time.sleep(0.001)))
            made.append("not reached")
    assert made == [1]


def test_an_error_of_the_caller_is_not_hidden_by_the_lane():
    with pytest.raises(KeyError):
        with Lane() as lane:
            lane(lambda: 1 // 0)
            raise KeyError("reading")
