"""Remedies that errors name."""
from __future__ import annotations

import pytest

from hand_pose_ros import errors


@pytest.mark.parametrize("numpy, command", [
    ("2.4.6", "pip install onnx onnxscript"), ("1.26.4", 'pip install onnx onnxscript "numpy<2"'),
    (None, "pip install onnx onnxscript")])
def test_no_remedy_takes_numpy_1_from_a_robot(monkeypatch, numpy, command):
    """onnx, by ml_dtypes, asks for a numpy that the cv_bridge of Humble and Jazzy does not take."""
    def version(package):
        if numpy is None:
            raise errors.metadata.PackageNotFoundError(package)
        return numpy
    monkeypatch.setattr(errors.metadata, "version", version)
    assert errors.pip_install("onnx", "onnxscript") == command
