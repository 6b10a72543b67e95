"""The networks and the pipeline as the node uses them: loaded once, stepped per image, started anew on demand."""
from __future__ import annotations

from typing import Any

from .. import models, pipeline
from ..types import Frame

CHECKSUM_DIGITS = 8


class Engine:
    """The pipeline with its state. ``model`` and ``runtime_in_full`` go into every message and the diagnostics."""

    def __init__(self, steps: pipeline.Pipeline, model: str, network: Any) -> None:
        """network: the callable that runs the pose network; it may climb to a faster runtime while it serves."""
        self.model = model
        self._pipeline, self._network = steps, network
        self._state = pipeline.PipelineState()

    @property
    def runtime(self) -> str:
        """What runs the networks now: tensorrt, cuda, onnxruntime or cpu."""
        return str(self._network.name)

    @property
    def runtime_reason(self) -> str:
        """Why not a faster one."""
        return str(self._network.reason)

    @property
    def runtime_in_full(self) -> str:
        """What runs the networks and, in brackets, why not a faster one."""
        return f"{self.runtime} ({self.runtime_reason})" if self.runtime_reason else self.runtime

    def step(self, frame: Frame, values: Any) -> pipeline.Result:
        """One image further. values: the settings as they are now. Raises FrameError; the tracks are then still
        good."""
        self._state, result = self._pipeline.step(self._state, frame, values)
        return result

    def reset(self) -> None:
        """Forget all tracks."""
        self._state = pipeline.PipelineState()


def load_engine(values: Any) -> Engine:
    """Load detector, pose network and hand calibration. Raises ModelError or ConfigError with the remedy."""
    loaded = pipeline.load(values, live=True)
    model = " + ".join(_model_name(name) for name in (values.detector_model, values.pose_model))
    return Engine(loaded, model, loaded.estimate.network)


def _model_name(name: str) -> str:
    """Name and checksum of a network, as HandPose21Array.msg says."""
    return f"{name} {models.card(name)['sha256'][:CHECKSUM_DIGITS]}"
