"""One YAML file per model says how it is trained; every key is a field here, unknown ones are refused."""
from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import yaml

from hand_pose_ros import networks, resources
from hand_pose_ros.config import Setting, check_value
from hand_pose_ros.errors import ConfigError, ModelError
from hand_pose_ros.training.detector_samples import DetectorAugmentation
from hand_pose_ros.training.pose_samples import PoseAugmentation


INITIAL = ("", "imagenet")
OPTIMIZERS = ("adamw", "muon")
LIMITS = {
    "batch": (1, 65536), "learning_rate": (1e-9, 10.0), "final_rate": (0.0, 1.0), "warm_up_steps": (0, 10**9),
    "weight_decay": (0.0, 10.0), "clip": (1e-6, 1e6), "ema": (0.0, 0.999999), "likelihood_from": (0.0, 1.0),
    "steps": (1, 10**9), "seed": (0, 10**9), "bf16": (None, None),
    # Of the augmentation; what is not named here is a share, 0 to 1.
    "roll_deg": (0.0, 180.0), "turn_deg": (0.0, 180.0), "strength": (0.0, 5.0), "scale": (0.1, 10.0),
    "zoom": (0.01, 100.0), "close_up_zoom": (0.01, 100.0),
}
"""Smallest and largest value, both allowed themselves; of pairs for both members."""


@dataclass(frozen=True)
class Settings:
    """A training. Progress means the share of the planned steps or minutes that is done, 0..1."""

    architecture: str                               # a name in networks.NETWORKS
    size: tuple[int, int]                           # pixels, height and width of the input
    options: dict = field(default_factory=dict)     # of the network
    initial: str = ""                               # weights to start from: "imagenet" (stages: lite0), or none
    sizes: tuple = ()                               # [[progress, height, width], ...]: other sizes on the way
    batch: int = 64                                 # images per step and process
    optimizer: str = "adamw"                        # or "muon", see optimizers.py
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


def find(name: str) -> Path:
    """The file ``name``, or the one of that name in config/training/. Raises ConfigError naming those there are."""
    shipped = resources.folder("config") / "training"
    for path in (Path(name), shipped / f"{name}.yaml"):
        if path.is_file():
            return path
    raise ConfigError(f"there are no training settings {name!r}: give a YAML file, or one of "
                      f"{', '.join(sorted(path.stem for path in shipped.glob('*.yaml')))}")


def load(path: str | Path) -> Settings:
    """The settings of a YAML file. Raises ConfigError naming the file and what is wrong in it."""
    try:
        return from_dict(yaml.safe_load(Path(path).read_text()))
    except (OSError, ValueError, yaml.YAMLError, ConfigError, ModelError) as error:
        raise ConfigError(f"training settings {path}: {error}") from error


def from_dict(values: dict) -> Settings:
    """Settings from plain values. Raises ConfigError for unknown keys and values that cannot work, ModelError for an
    unknown network."""
    if not isinstance(values, dict) or not {"architecture", "size"} <= set(values):
        raise ConfigError("at least the keys architecture and size are needed")
    kind = networks.kind(values["architecture"])
    augmentation = {"pose": PoseAugmentation, "detector": DetectorAugmentation}[kind]
    values = _checked(values, Settings)
    values["size"] = _size("size", values["size"], kind)
    values["sizes"] = _sizes(_several(values, "sizes", tuple), kind)
    values["options"] = _several(values, "options", dict)
    values["frozen"] = _several(values, "frozen", tuple)
    values["augmentation"] = augmentation(**_checked(_several(values, "augmentation", dict), augmentation))
    if values.get("initial", "") not in INITIAL:
        raise ConfigError(f"initial {values['initial']!r}; choose one of {', '.join(map(repr, INITIAL))}")
    if values.get("optimizer", OPTIMIZERS[0]) not in OPTIMIZERS:
        raise ConfigError(f"optimizer {values['optimizer']!r}; choose one of {', '.join(OPTIMIZERS)}")
    if not all(isinstance(pattern, str) for pattern in values["frozen"]):
        raise ConfigError(f"frozen is {list(values['frozen'])}; it must be a list of patterns of parameter names")
    return Settings(**values)


def _checked(values: dict, cls) -> dict:
    """A copy whose numbers are in the type of their fields. Raises ConfigError for unknown keys and for numbers that
    are not in LIMITS."""
    unknown = set(values) - {f.name for f in fields(cls)}
    if unknown:
        raise ConfigError(f"unknown keys {sorted(map(str, unknown))}; {cls.__name__} has "
                          f"{[f.name for f in fields(cls)]}")
    values = dict(values)
    for f in fields(cls):
        if f.name in values and (f.name in LIMITS or cls is not Settings):
            low, high = LIMITS.get(f.name, (0.0, 1.0))
            value = values[f.name]
            if isinstance(value, str):                  # so YAML reads 2e-3, without a point
                with contextlib.suppress(ValueError):
                    value = float(value)
            value = check_value(Setting(f.name, f.default, low=low, high=high), value)
            if isinstance(f.default, tuple) and not low <= value[0] <= value[1] <= high:
                raise ConfigError(f"{f.name} is {list(value)}; it must be two numbers from {low:g} to {high:g}, the "
                                  "smaller one first")
            values[f.name] = value
    return values


def _several(values: dict, name: str, kind):
    """The dict or tuple ``name``, empty if it is not given. Raises ConfigError for something else."""
    given = values.get(name) or kind()
    if not isinstance(given, dict if kind is dict else (list, tuple)):
        raise ConfigError(f"{name} is {given!r}; it must be {'names with values' if kind is dict else 'a list'}")
    return kind(given)


def _size(name: str, value, kind: str) -> tuple[int, int]:
    """Height and width of an input [px]. Raises ConfigError if no network of the kind has one such."""
    if not isinstance(value, (list, tuple)) or len(value) != 2 or \
            any(not isinstance(v, int) or v <= 0 or v % 32 for v in value):
        raise ConfigError(f"{name} {value!r} must be two multiples of 32, height and width")
    if kind == "pose" and value[0] != value[1]:
        raise ConfigError(f"{name} {list(value)} must be square: the crops of a pose network are")
    return tuple(value)


def _sizes(entries: tuple, kind: str) -> tuple:
    """((progress, height, width), ...). Raises ConfigError if they are no such entries of rising progress."""
    if not all(isinstance(entry, (list, tuple)) and len(entry) == 3 for entry in entries):
        raise ConfigError(f"sizes is {list(entries)}; each entry must be [progress, height, width]")
    starts = [check_value(Setting("progress in sizes", 0.0, low=0.0, high=1.0), entry[0]) for entry in entries]
    if starts != sorted(starts):
        raise ConfigError(f"sizes begin at {starts}; their progress must rise")
    return tuple((start, *_size("an entry of sizes", entry[1:], kind)) for start, entry in zip(starts, entries))
