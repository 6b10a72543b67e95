"""One YAML file per model says how it is trained; every key is a field here, unknown ones are refused."""
from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import yaml

from hand_pose_ros import networks
from hand_pose_ros.errors import ConfigError
from hand_pose_ros.training.detector_samples import DetectorAugmentation
from hand_pose_ros.training.pose_samples import PoseAugmentation


INITIAL = ("", "imagenet")


@dataclass(frozen=True)
class Settings:
    """A training. Progress means the share of the planned steps or minutes that is done, 0..1."""

    architecture: str                               # a name in networks.NETWORKS
    size: tuple[int, int]                           # pixels, height and width of the input
    options: dict = field(default_factory=dict)     # of the network
    initial: str = ""                               # weights to start from: "imagenet" (stages: lite0), or none
    sizes: tuple = ()                               # [[progress, height, width], ...]: other sizes on the way
    batch: int = 64                                 # images per step and process
    learning_rate: float = 2e-3                     # at the top of the schedule
    final_rate: float = 0.01                        # the last learning rate as a share of the top one
    warm_up_steps: int = 300
    weight_decay: float = 0.02
    clip: float = 5.0                               # norm of the gradient
    frozen: tuple = ()                              # patterns of parameter names that keep their first values
    ema: float = 0.999                              # decay of the averaged weights, reached after 1/(1 - ema) steps
    likelihood_from: float = 0.3                    # progress at which scales begin to steer positions
    steps: int = 20000                              # planned; `--minutes` plans by the clock instead
    seed: int = 1
    bf16: bool = True                               # mixed precision, where the machine has instructions for it
    augmentation: PoseAugmentation | DetectorAugmentation = None

    @property
    def kind(self) -> str:
        return networks.kind(self.architecture)

    def size_at(self, progress: float) -> tuple[int, int]:
        """(height, width) to train at."""
        now = [entry[1:] for entry in self.sizes if entry[0] <= progress]
        return tuple(now[-1]) if now else tuple(self.size)

    def as_dict(self) -> dict:
        """Plain values, as in the YAML file."""
        return asdict(self)


def load(path: str | Path) -> Settings:
    """The settings of a YAML file. Raises ConfigError naming the file and what is wrong in it."""
    try:
        return from_dict(yaml.safe_load(Path(path).read_text()))
    except (OSError, yaml.YAMLError, ConfigError, TypeError, ValueError) as error:
        raise ConfigError(f"training settings {path}: {error}") from error


def from_dict(values: dict) -> Settings:
    """Settings from plain values. Raises ConfigError for unknown keys, ModelError for an unknown network."""
    if not isinstance(values, dict) or not {"architecture", "size"} <= set(values):
        raise ConfigError("at least the keys architecture and size are needed")
    values = dict(values)
    _known(values, Settings)
    augmentation = {"pose": PoseAugmentation, "detector": DetectorAugmentation}[networks.kind(values["architecture"])]
    drawn = dict(values.get("augmentation") or {})
    _known(drawn, augmentation)
    values["augmentation"] = augmentation(**{k: tuple(v) if isinstance(v, list) else v for k, v in drawn.items()})
    values["size"] = tuple(int(v) for v in values["size"])
    if len(values["size"]) != 2 or any(v <= 0 or v % 32 for v in values["size"]):
        raise ConfigError(f"size {values['size']} must be two multiples of 32, height and width")
    if values.get("initial", "") not in INITIAL:
        raise ConfigError(f"initial {values['initial']!r}; choose one of {', '.join(map(repr, INITIAL))}")
    values["frozen"] = tuple(values.get("frozen") or ())
    values["sizes"] = tuple(tuple(entry) for entry in values.get("sizes") or ())
    return Settings(**values)


def _known(values: dict, cls) -> None:
    unknown = set(values) - {f.name for f in fields(cls)}
    if unknown:
        raise ConfigError(f"unknown keys {sorted(unknown)}; {cls.__name__} has {[f.name for f in fields(cls)]}")
