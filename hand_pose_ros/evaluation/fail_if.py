"""``--fail-if "pa_mpjpe_mm > 9 or recall < 0.9"``: conditions on the result's metrics, for CI."""
from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ConfigError

_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq,
            "!=": operator.ne}
_TERM = re.compile(r"\s*([A-Za-z_][\w.]*)\s*(<=|>=|==|!=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*$")


@dataclass(frozen=True)
class Condition:
    """Comparisons joined by "or" of groups joined by "and"."""

    text: str
    groups: tuple[tuple[tuple[str, str, float], ...], ...]

    def holds(self, metrics: Mapping[str, float]) -> bool:
        """True if the condition is met. A metric that could not be measured meets it: CI must not pass on nothing.

        Raises ConfigError for a name that no metric has.
        """
        for name in (name for group in self.groups for name, _, _ in group):
            if name not in metrics:
                raise ConfigError(f"--fail-if {self.text!r}: there is no metric {name}; choose from "
                                  f"{', '.join(sorted(metrics)) or 'none, because nothing was scored'}")
        return any(all(math.isnan(metrics[name]) or _COMPARE[sign](metrics[name], limit) for name, sign, limit in group)
                   for group in self.groups)


def parse(text: str) -> Condition:
    """A condition from text. Raises ConfigError, saying what is expected."""
    groups = []
    for part in re.split(r"\s+or\s+", text.strip()):
        terms = []
        for term in re.split(r"\s+and\s+", part):
            found = _TERM.match(term)
            if not found:
                raise ConfigError(f"--fail-if {text!r}: {term!r} is not METRIC < NUMBER (or <=, >, >=, ==, !=)")
            terms.append((found[1], found[2], float(found[3])))
        groups.append(tuple(terms))
    return Condition(text, tuple(groups))
