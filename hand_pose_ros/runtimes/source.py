"""What a runtime is given: one network, its weights, its input and the names of its outputs."""
from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Mapping

from ..errors import ConfigError
from . import host

if TYPE_CHECKING:
    import torch

OUTPUTS = {
    "pose": ("uv", "xyz", "uv_sigma", "xyz_sigma", "visibility", "presence", "right"),
    "detector": ("dense",),
}
"""Output names of each kind of network, in order; shapes are in ``estimate.py`` and ``detect.py``."""


@dataclass(frozen=True)
class NetworkSource:
    """One network that any runtime can run.

    ``module()`` returns a ``torch.nn.Module`` on the CPU, float32, in evaluation mode, with its weights loaded; it is
    called only when something must be exported or run eagerly. ``ingredients`` identify program and weights without
    importing torch.
    """

    kind: str                                        # pose | detector
    model: str                                       # folder name below models/
    input_shape: tuple[int, int, int]                # (H, W, 3) of one uint8 RGB input
    module: Callable[[], torch.nn.Module]
    ingredients: Mapping[str, str] = field(default_factory=dict)

    @property
    def outputs(self) -> tuple[str, ...]:
        return OUTPUTS[self.kind]

    def batch_limit(self, max_batch: int) -> int:
        """Largest batch worth building for: a frame has one image to search, and up to ``max_batch`` hands."""
        return 1 if self.kind == "detector" else max_batch

    def key_ingredients(self, runtime: str, precision: str, batch: str,
                        options: Mapping[str, object]) -> dict[str, str]:
        """Ingredients that every built form of this network has; a runtime adds those of its own tools.

        batch: the batch sizes it is built for, in words.
        """
        return {
            "kind": self.kind, "model": self.model, "runtime": runtime, "precision": precision,
            "shapes": f"{batch} x {tuple(self.input_shape)}", "torch": host.version("torch"),
            "options": repr(sorted(options.items())), "program": program_sha256(), **self.ingredients,
        }


@functools.lru_cache(maxsize=None)
def program_sha256() -> str:
    """sha256 over the source that turns a card and weights into a program, networks/ and the exporters, and that judges
    it, since a verdict is kept with it.

    Stands for the exported program in cache keys: source, card, weights and torch's version determine that program,
    and hashing source takes a millisecond where exporting takes seconds at every start.
    """
    here = Path(__file__).resolve().parent
    exporters = [here / name for name in ("ort.py", "int8.py", "tensorrt.py")]
    judges = [here / "agreement.py", here.parent / "lift.py"]
    return _sha256(*sorted((here.parent / "networks").glob("*.py")), *exporters, *judges)


@functools.lru_cache(maxsize=None)
def crops_sha256() -> str:
    """sha256 over the source that makes crops of pictures, from which 8 bits have their ranges."""
    core = Path(__file__).resolve().parents[1]
    return _sha256(core / "crop.py", core / "detect.py")


def _sha256(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def from_model(kind: str, model: str) -> NetworkSource:
    """The network of a model folder. Raises ModelError (from models.py) if the folder cannot be used and ConfigError
    if the model is of the other kind."""
    from .. import models
    if kind not in OUTPUTS:
        raise ConfigError(f"unknown kind of network {kind!r}: one of {', '.join(OUTPUTS)}")
    return models.source(kind, model)
