"""Every error this package raises on purpose. Each message names the bad value and the remedy."""

from importlib import metadata


class HandPoseError(Exception):
    """Base of all errors raised on purpose; catch this one at the rim."""


class ConfigError(HandPoseError):
    """A setting, a name or a combination of settings that cannot work."""


class ModelError(HandPoseError):
    """A model folder, weight file, card or compiled engine that cannot be used."""


class FrameError(HandPoseError):
    """An image, depth image or calibration that cannot be used for this frame."""


class DataError(HandPoseError):
    """A data set, bag, label file, shard or asset that cannot be read as what it claims to be."""


def pip_install(*packages: str) -> str:
    """The command that installs Python packages, as a remedy. It keeps a numpy 1: a robot's cv_bridge was built for it,
    and packages that only ask for a newer numpy would replace it."""
    try:
        old = int(metadata.version("numpy").partition(".")[0]) < 2
    except (metadata.PackageNotFoundError, ValueError):
        old = False
    return " ".join(["pip install", *packages, *['"numpy<2"'] * old])
