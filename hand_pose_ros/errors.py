"""Every error this package raises on purpose. Each message names the bad value and the remedy."""


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
