"""The networks and the pipeline as the node uses them: loaded once, stepped per image, started anew on demand."""
from __future__ import annotations

from typing import Any, Callable, Sequence

from .. import models, pipeline, runtimes
from ..tracking import TrackerState
from ..types import Frame

CHECKSUM_DIGITS = 8


class Engine:
    """The pipeline with its state. ``model`` and ``runtime`` go into every message and the diagnostics."""

    def __init__(self, steps: pipeline.Pipeline, model: str, networks: Sequence[Any]) -> None:
        """networks: the callables that run the networks; they may climb to a faster runtime while they serve."""
        self.model = model
        self._pipeline, self._networks = steps, tuple(networks)
        self._state = pipeline.PipelineState()

    @property
    def runtime(self) -> str:
        """What runs the networks now and, in brackets, why not a faster one."""
        return runtimes.in_full(self._networks)

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU runs one of the networks now."""
        return any(network.name in runtimes.ON_GPU for network in self._networks)

    def step(self, frame: Frame, values: Any) -> pipeline.Result:
        """One image further. values: the settings as they are now. Raises FrameError; the tracks are then still
        good."""
        self._state, result = self._pipeline.step(self._state, frame, values)
        return result

    def reset(self) -> None:
        """Forget all tracks but not their numbers: another hand must not get the name of one that somebody follows."""
        self.number_after(self)

    def number_after(self, earlier: Engine) -> None:
        """Begin anew, with numbers that an engine that served before has not given."""
        self._state = pipeline.PipelineState(TrackerState(next_id=earlier._state.tracker.next_id))


def load_engine(values: Any, report: Callable[[str], None]) -> Engine:
    """Load detector, pose network and hand calibration; ``report`` is told what is being built. Raises ModelError or
    ConfigError with the remedy."""
    loaded = pipeline.load(values, live=True, report=report)
    networks = loaded.detect.network, loaded.estimate.network
    return Engine(loaded, " + ".join(_model_name(network.source.model) for network in networks), networks)


def _model_name(name: str) -> str:
    """Name and checksum of a network, as HandPose21Array.msg says."""
    return f"{name} {models.card(name)['sha256'][:CHECKSUM_DIGITS]}"
