"""What the node knows about its own health, as diagnostic_msgs and as log lines: each problem with its remedy.

A problem is reported from the moment it is seen until it is cleared, or until HOLD_S after it was last seen, and then
once more as solved. It is logged when it appears and when its words change, but the same words, whatever numbers they
hold, no more often than every LOG_AGAIN_S, so that a broken camera does not fill the log.
"""
from __future__ import annotations

import re
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Callable

import numpy as np

OK, WARN, ERROR = 0, 1, 2
HOLD_S = 5.0
LOG_AGAIN_S = 10.0
WINDOW_S = 10.0
PERCENTILES = (50, 95, 99)
LATE_S = 0.5
"""A timer that comes later than this tells of a process that gets too little processor time to receive images."""


@dataclass
class Problem:
    """One thing that is wrong, and what to do about it."""

    level: int
    text: str
    last_seen_s: float
    standing: bool                                  # stays until cleared
    count: int = 1


@dataclass(frozen=True)
class Status:
    """One diagnostic_msgs/DiagnosticStatus, free of messages."""

    name: str
    level: int
    summary: str
    values: dict[str, str] = field(default_factory=dict)


class Punctuality:
    """How late the callbacks of one timer come: an executor without processor time is late with everything, so that
    silence on a topic is then no news of its publisher."""

    def __init__(self, period_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._period_s, self._clock = period_s, clock
        self._last_s = clock()
        self._late: deque[tuple[float, float]] = deque()                       # time, seconds late

    def tick(self) -> None:
        """The timer's callback runs now."""
        now = self._clock()
        self._late.append((now, now - self._last_s - self._period_s))
        self._last_s = now

    def restart(self) -> None:
        """The executor was kept from its timers on purpose, by loading networks: that does not count."""
        self._late.clear()
        self._last_s = self._clock()

    def worst_s(self) -> float:
        """Seconds by which the latest call of the last WINDOW_S was late; 0 if all were in time."""
        while self._late and self._clock() - self._late[0][0] > WINDOW_S:
            self._late.popleft()
        return max((late_s for _, late_s in self._late), default=0.0)

    @property
    def starved(self) -> bool:
        """Whether a call of the last WINDOW_S was more than LATE_S late."""
        return self.worst_s() > LATE_S


class Monitor:
    """Counts and times of one node. Callbacks and the worker thread write, the diagnostics timer reads."""

    def __init__(self, log: Callable[[int, str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._lock = threading.Lock()
        self._problems: dict[str, Problem] = {}
        self._facts: dict[str, str] = {}
        self._started_s = clock()
        self._last_received_s = self._started_s
        self._received: deque[float] = deque()
        self._published: deque[tuple[float, dict[str, float]]] = deque()      # time, stage durations [ms]
        self._dropped: deque[tuple[float, int]] = deque()
        self._totals = {"received": 0, "published": 0, "dropped": 0}
        self._solved: set[str] = set()
        self._logged_s: dict[tuple[str, int, str], float] = {}
        self._unanswered_s: float | None = None         # since when images come and no result
        self._standstill = ""

    def standstill(self, text: str) -> None:
        """Why nothing runs, for the summary; "" while it does."""
        with self._lock:
            self._standstill, self._unanswered_s = text, None

    def received(self) -> None:
        """An image has arrived."""
        with self._lock:
            now = self._clock()
            if self._unanswered_s is None or now - self._last_received_s > LATE_S:
                self._unanswered_s = now                # the last one before a pause may have had no answer
            self._totals["received"] += 1
            self._last_received_s = now
            self._received.append(now)

    def published(self, durations_ms: dict[str, float], dropped: int) -> None:
        """A result has been published. durations_ms: stage name -> ms ("age" is from the image's stamp); NaN
        unknown."""
        with self._lock:
            now, self._unanswered_s = self._clock(), None
            self._totals["published"] += 1
            self._totals["dropped"] += dropped
            self._published.append((now, durations_ms))
            self._dropped.append((now, dropped))

    def silence_s(self) -> float:
        """Seconds since the last image, or since the start if there was none."""
        with self._lock:
            return self._clock() - self._last_received_s

    def unanswered_s(self) -> float:
        """Seconds for which images have come without any result."""
        with self._lock:
            return 0.0 if self._unanswered_s is None else self._clock() - self._unanswered_s

    def problem(self, key: str, text: str, level: int = WARN, standing: bool = False) -> None:
        """Something is wrong: key names the kind, text says what and what to do."""
        with self._lock:
            now, known, words = self._clock(), self._problems.get(key), re.sub(r"\d+", "#", text)
            count = known.count + 1 if known else 1
            self._problems[key] = Problem(level, text, now, standing, count)
            if known and (known.level, re.sub(r"\d+", "#", known.text)) == (level, words):
                return
            self._logged_s = {said: s for said, s in self._logged_s.items() if now - s < LOG_AGAIN_S}
            if (key, level, words) in self._logged_s:
                return
            self._logged_s[key, level, words] = now
        self._log(level, text)

    def clear(self, key: str) -> None:
        """A standing problem is over."""
        with self._lock:
            if self._problems.pop(key, None) is not None:
                self._solved.add(key)

    def state(self, key: str, text: str, level: int = WARN) -> None:
        """A standing problem for as long as there is a text that says what and what to do; over with ""."""
        if text:
            self.problem(key, text, level, standing=True)
        else:
            self.clear(key)

    def has(self, key: str) -> bool:
        with self._lock:
            return key in self._problems

    def fact(self, name: str, value: Any) -> None:
        """Something to show with the diagnostics: runtime, image topic, ..."""
        with self._lock:
            self._facts[name] = str(value)

    def report(self) -> list[Status]:
        """Everything as statuses: problems (one each), those solved since the last report (a status that only goes
        missing turns stale in diagnostic_aggregator), then the rates and times of the last WINDOW_S."""
        with self._lock:
            now = self._clock()
            self._forget(now)
            problems = [Status(key, problem.level, problem.text, {"times seen": str(problem.count)})
                        for key, problem in sorted(self._problems.items())]
            solved = [Status(key, OK, "solved") for key in sorted(self._solved - self._problems.keys())]
            self._solved.clear()
            return [*problems, *solved, self._summary(now)]

    def _forget(self, now: float) -> None:
        for key in [key for key, problem in self._problems.items()
                    if not problem.standing and now - problem.last_seen_s > HOLD_S]:
            del self._problems[key]
            self._solved.add(key)
        while self._received and now - self._received[0] > WINDOW_S:
            self._received.popleft()
        for times in (self._published, self._dropped):
            while times and now - times[0][0] > WINDOW_S:
                times.popleft()

    def _summary(self, now: float) -> Status:
        span = max(min(WINDOW_S, now - self._started_s), 1e-3)
        values = dict(self._facts)
        values["images received [Hz]"] = f"{len(self._received) / span:.1f}"
        values["results published [Hz]"] = f"{len(self._published) / span:.1f}"
        values["images dropped for newer ones [Hz]"] = f"{sum(count for _, count in self._dropped) / span:.1f}"
        values |= {f"{name} in total": str(count) for name, count in self._totals.items()}
        for stage in dict.fromkeys(name for _, stages in self._published for name in stages):
            times = np.array([stages[stage] for _, stages in self._published if stage in stages])
            times = times[np.isfinite(times)]
            if times.size:
                text = " / ".join(f"{value:.1f}" for value in np.percentile(times, PERCENTILES))
                values[f"{stage} p50 / p95 / p99 [ms]"] = text
        level = max((problem.level for problem in self._problems.values()), default=OK)
        summary = self._standstill or "running"
        if self._problems:
            summary = f"{len(self._problems)} problem(s), see the other statuses"
        return Status("summary", level, summary, values)


def log_of(node: Any) -> Callable[[int, str], None]:
    """The log of a node as a function (OK, WARN or ERROR, text)."""
    def log(level: int, text: str) -> None:
        # Separate lines: rclpy forbids one source line to log with two severities.
        if level == ERROR:
            node.get_logger().error(text)
        elif level == WARN:
            node.get_logger().warning(text)
        else:
            node.get_logger().info(text)
    return log


def to_message(statuses: list[Status], node_name: str, hardware_id: str, stamp: Any) -> Any:
    """diagnostic_msgs/DiagnosticArray of a report."""
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

    levels = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR)
    message = DiagnosticArray()
    message.header.stamp = stamp
    message.status = [
        DiagnosticStatus(level=levels[status.level], name=f"{node_name}: {status.name}", message=status.summary,
                         hardware_id=hardware_id,
                         values=[KeyValue(key=key, value=value) for key, value in status.values.items()])
        for status in statuses]
    return message
