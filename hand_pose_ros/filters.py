"""The One-Euro filter with measured time steps, as a pure step, so that its behaviour does not depend on the frame
rate.

Casiez, Roussel, Vogel: "1 Euro Filter", CHI 2012. Their smoothing factor 1 / (1 + tau / dt) is the implicit Euler step
of a first-order lag and therefore depends on dt; here the lag is solved exactly for an input that is linear between two
samples, so that the same motion seen at 10 and at 60 Hz gives the same output at the shared instants.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import numpy as np


@dataclass(frozen=True, eq=False)
class OneEuroState:
    """What the filter remembers between two samples of one signal."""

    stamp_ns: int
    raw: np.ndarray                                 # (...) last input
    value: np.ndarray                               # (...) last output
    speed: np.ndarray                               # (...) smoothed derivative of the input, per second


def one_euro(state: OneEuroState | None, signal: np.ndarray, stamp_ns: int, min_cutoff_hz: float, beta: float,
             derivative_cutoff_hz: float = 1.0, speed: Callable[[np.ndarray], np.ndarray] = np.abs) -> OneEuroState:
    """One sample further; the filtered signal is ``.value`` of what is returned.

    signal: (...) finite, any unit. min_cutoff_hz: cutoff at rest. beta: cutoff added per unit of speed (equation 5 of
    the paper: fc = fc_min + beta |dx/dt|). speed: smoothed derivative -> |dx/dt| for the cutoff, each element's own or
    one for several, so that the axes of a point share one cutoff. A stamp that is not later than the last one starts
    the filter anew.
    """
    signal = np.asarray(signal, float)
    if state is None or stamp_ns <= state.stamp_ns:
        return OneEuroState(stamp_ns, signal, signal, np.zeros_like(signal))
    dt = (stamp_ns - state.stamp_ns) * 1e-9
    slope = (signal - state.raw) / dt
    # The slope is constant over the interval: the derivative's lag is solved for a step input.
    keep = np.exp(-2.0 * np.pi * derivative_cutoff_hz * dt)
    smoothed = keep * state.speed + (1.0 - keep) * slope
    rate = 2.0 * np.pi * (min_cutoff_hz + beta * speed(smoothed))     # 1 / tau
    keep = np.exp(-rate * dt)
    # Response of a first-order lag to the ramp raw + slope t: the ramp delayed by tau, plus the decaying difference.
    value = signal - slope / rate + keep * (state.value - state.raw + slope / rate)
    return OneEuroState(stamp_ns, signal, value, smoothed)
