"""models/<name>/: weights.safetensors and card.json, which says what they are; read with their checksum, or not at all.

card.json: name, kind (pose | detector), architecture and options (networks.NETWORKS), input [height, width, 3],
version, sha256 of the weights, licence, data, training (steps, images, commit ...), accuracy (tables as measured) and,
where it was measured, latency (ms of one input, with processor, runtime and threads); of a pose network, where it is
not the usual one, evidence_needed (pipeline.EVIDENCE_NEEDED).
"""
from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from hand_pose_ros.config import PATH_BEGINNINGS
from hand_pose_ros.errors import ConfigError, ModelError, pip_install
from hand_pose_ros.resources import folder

VERSION = 1
"""Of the interface between weights, networks and the steps round them; a card of another version is refused."""
WEIGHTS, CARD = "weights.safetensors", "card.json"
_NEEDED = {"name": str, "kind": str, "architecture": str, "options": dict, "input": list, "version": int, "sha256": str,
           "licence": str, "data": str}


def path(name: str, root: str | Path | None = None) -> Path:
    """The folder of model ``name``: below ``root`` (default: the models/ that belongs to the code), or ``name`` itself
    if it is a path (with a /, perhaps from ~ on) to a folder with a card. Raises ModelError, naming the models there
    are, if there is none."""
    given = Path(name).expanduser().absolute()
    if "/" in name and (given / CARD).is_file():
        return given
    if name.startswith(PATH_BEGINNINGS):
        raise ModelError(f"there is no model at {given}: a folder with {CARD} and {WEIGHTS} is needed")
    base = Path(root).absolute() if root is not None else folder("models")
    found = base / name
    if not (found / CARD).is_file():
        there = sorted(p.parent.name for p in base.glob("*/" + CARD))
        hint = f" (the folder here: ./{name})" if (given / CARD).is_file() else ""
        raise ModelError(f"no model {name!r} in {base} (there: {', '.join(there) or 'none'}): reinstall the package, "
                         f"name another one, or give the path of a folder with {CARD} and {WEIGHTS}{hint}")
    return found


def card(name: str, root: str | Path | None = None) -> dict:
    """The checked card of model ``name``. Raises ModelError if it is absent, damaged or of another version."""
    where = path(name, root) / CARD
    try:
        values = json.loads(where.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{where} cannot be read ({error}): reinstall the package or export it again") from error
    missing = [key for key in _NEEDED if not isinstance(values, dict) or key not in values]
    if missing:
        raise ModelError(f"{where} lacks {', '.join(missing)}: export the model again")
    if values["version"] != VERSION:
        raise ModelError(f"{where} is of version {values['version']}, this package needs {VERSION}: take model and "
                         "package of the same release")
    for key, kind in _NEEDED.items():
        if not isinstance(values[key], kind):
            raise ModelError(f"{where} has {key} {values[key]!r}, which is no {kind.__name__}: export the model again")
    needed = values.get("evidence_needed", 0.0)
    if isinstance(needed, bool) or not isinstance(needed, (int, float)) or not abs(needed) < 100:
        raise ModelError(f"{where} has evidence_needed {needed!r}; it must be a number: export the model again")
    size = values["input"]
    if len(size) != 3 or size[2] != 3 or any(not isinstance(n, int) or n <= 0 or n % 32 for n in size[:2]) or \
            values["kind"] == "pose" and size[0] != size[1]:
        raise ModelError(f"{where} has input {size}; it must be [height, width, 3], both multiples of 32 and of a pose "
                         "network the same: export the model again")
    return values


def load_weights(name: str, root: str | Path | None = None) -> dict[str, np.ndarray]:
    """The weights of model ``name`` by parameter name, as stored (half precision mostly).

    Raises ModelError if the file is absent, or is not, to the bit, the one that the card describes, or not finite.
    """
    values = card(name, root)
    where = path(name, root) / WEIGHTS
    try:
        data = where.read_bytes()
    except OSError as error:
        remedy = f"join its pieces (cat {where}.* > {where})" if Path(f"{where}.000").is_file() else \
            "reinstall the package"
        raise ModelError(f"{where} cannot be read ({error}): {remedy}") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != values["sha256"]:
        raise ModelError(f"{where} ({len(data)} bytes, sha256 {digest[:12]}...) is not the file that its card "
                         f"describes ({values['sha256'][:12]}...): truncated or of another version; reinstall the "
                         "package")
    try:
        from safetensors.numpy import load
    except ImportError as error:
        raise ModelError(f"reading {where} needs the safetensors package ({error}): "
                         f"{pip_install('safetensors')}") from error
    try:
        weights = load(data)
    except Exception as error:                          # safetensors raises its own kinds
        raise ModelError(f"{where} is not a safetensors file ({error}): export the model again") from error
    if wrong := [key for key, value in weights.items() if value.dtype.kind == "f" and not np.isfinite(value).all()]:
        raise ModelError(f"{where} has weights that are not finite ({wrong[0]}), with which a network finds nothing "
                         "and says nothing: train and export the model again")
    return weights


def write_evidence(name: str, needed: float, root: str | Path | None = None) -> None:
    """Put evidence_needed into the card of the pose network ``name``. Raises ModelError if its card is not good, or
    cannot be written."""
    where = path(name, root) / CARD
    text = json.dumps({**card(name, root), "evidence_needed": needed}, indent=1) + "\n"
    fresh = where.with_name(f"{CARD}.tmp")
    try:
        fresh.write_text(text)
        fresh.replace(where)
    except OSError as error:
        raise ModelError(f"{where} cannot be written ({error}): copy the model to a folder of your own") from error


def source(kind: str, name: str, root: str | Path | None = None):
    """The model as the runtimes want it: a ``runtimes.source.NetworkSource``.

    Checks card and checksum at once; torch is imported only when a runtime asks for the module. Raises ModelError, and
    ConfigError if the model is of another kind.
    """
    from hand_pose_ros import networks
    from hand_pose_ros.runtimes.source import NetworkSource
    values = card(name, root)
    if values["kind"] != kind:
        raise ConfigError(f"model {name!r} is a {values['kind']} network, not a {kind} network: choose another model")
    try:
        of_architecture = networks.kind(values["architecture"])
    except ModelError as error:
        raise ModelError(f"the card of model {name!r} cannot be followed: {error}") from error
    if of_architecture != kind:
        raise ModelError(f"the card of model {name!r} says {kind}, its architecture {values['architecture']} is none: "
                         "export the model again")
    where = path(name, root) / WEIGHTS
    load_weights(name, root)
    return NetworkSource(kind, name, tuple(values["input"]), lambda: networks.load(str(where.parent)),
                         {"weights_sha256": values["sha256"], "card": json.dumps([values["architecture"],
                                                                                  values["options"]], sort_keys=True)})
