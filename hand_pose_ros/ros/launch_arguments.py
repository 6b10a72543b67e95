"""What launch arguments and parameters that are text stand for: switches and lists."""
from __future__ import annotations

TRUE, FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


def is_true(name: str, text: str) -> bool:
    """The launch argument ``name`` as a switch. Raises ValueError for all that is neither true nor false."""
    word = text.strip().lower()
    if word not in TRUE + FALSE:
        raise ValueError(f"{name}:={text} is neither true ({', '.join(TRUE[1:])}) nor false ({', '.join(FALSE[1:])})")
    return word in TRUE


def listed(text: str) -> list[str]:
    """The parts of a text that are separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]
