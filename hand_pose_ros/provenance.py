"""Which code made a result: what reports and model cards say of it, and by which finished parts of a run are known."""
from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from hand_pose_ros import __version__


def commit() -> str:
    """The commit of the source tree, with "+" and a digest of the differences if files differ from it. Installed, or
    in somebody else's repository, the version, "+" and a digest of the package's code."""
    package = Path(__file__).resolve().parent
    try:
        top, head, changed = (
            subprocess.run(["git", "-C", str(package.parent), *words], capture_output=True, text=True, timeout=30,
                           check=True, errors="replace").stdout.strip()
            for words in (("rev-parse", "--show-toplevel"), ("rev-parse", "--short=12", "HEAD"),
                          ("diff", "--no-ext-diff", "HEAD")))
        if Path(top).resolve() == package.parent:
            return head + (f"+{hashlib.sha256(changed.encode()).hexdigest()[:8]}" if changed else "")
    except (OSError, subprocess.SubprocessError):
        pass
    code = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        code.update(f"{file.relative_to(package).as_posix()}\n".encode() + file.read_bytes())
    return f"{__version__}+{code.hexdigest()[:8]}"
