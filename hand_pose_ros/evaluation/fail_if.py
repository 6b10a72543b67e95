"""``--fail-if "pa_mpjpe_mm > 9 or recall < 0.9"``: conditions on the result's metrics, for CI."""
from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ConfigError
from .report import TITLES
from .scoring import is_share

_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq,
            "!=": operator.ne}
_TERM = re.compile(r"\s*([A-Za-z_][\w.]*)\s*(<=|>=|==|!=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*$")


@dataclass(frozen=True)
class Condition:
    """Comparisons joined by "or" of groups joined by "and"."""

    text: str
    groups: tuple[tuple[tuple[str, str, float], ...], ...]

    def holds(self, metrics: Mapping[str, float]) -> bool:
        """True if the condition is met. A metric that could not be measured, NaN or not there, meets it: CI must not
        pass on nothing."""
        return any(all(_unknown(metrics, name) or _COMPARE[sign](metrics[name], limit) for name, sign, limit in group)
                   for group in self.groups)

    def note(self, metrics: Mapping[str, float]) -> str:
        """Which of its metrics have no value, in brackets; "" if all have one."""
        names = sorted({name for group in self.groups for name, _, _ in group if _unknown(metrics, name)})
        return f" (no value in this run, so counted as failed: {', '.join(names)})" if names else ""


def _unknown(metrics: Mapping[str, float], name: str) -> bool:
    return name not in metrics or math.isnan(metrics[name])


def parse(text: str) -> Condition:
    """A condition from text. Raises ConfigError, saying what is expected, also for a name that no metric has and for a
    share that is compared with what no share can be."""
    groups = []
    for part in re.split(r"\s+or\s+", text.strip()):
        terms = []
        for term in re.split(r"\s+and\s+", part):
            found = _TERM.match(term)
            if not found:
                raise ConfigError(f"--fail-if {text!r}: {term!r} is not METRIC < NUMBER (or <=, >, >=, ==, !=)")
            terms.append((found[1], found[2], float(found[3])))
            _check(text, *terms[-1])
        groups.append(tuple(terms))
    return Condition(text, tuple(groups))


def _check(text: str, name: str, sign: str, limit: float) -> None:
    if name not in TITLES:
        raise ConfigError(f"--fail-if {text!r}: there is no metric {name}; choose from {', '.join(sorted(TITLES))}")
    if is_share(name) and (not 0.0 <= limit <= 1.0 or (sign, limit) in ((">", 1.0), ("<", 0.0))):
        raise ConfigError(f"--fail-if {text!r}: {name} is a share from 0 to 1, also where tables show percent, so "
                          f"{name} {sign} {limit:g} would say nothing; 90 % is 0.9")
