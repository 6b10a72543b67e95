"""Lets the tests of this folder import their helpers, and worker processes too."""
from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).resolve().parents[2]), HERE, *filter(None, [os.environ.get("PYTHONPATH")])])
