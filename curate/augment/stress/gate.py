"""A gate for CI: how much a model may lose to corruptions (``--fail-on DROP[:SEVERITY]``)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from curate.augment.stress.curves import Stress
from curate.errors import UsageError

_ROUNDING: Final = 1e-9
"""Severities are fractions such as 3 / 5."""


@dataclass(frozen=True)
class Limit:
    """Fails where a corruption costs more, beyond chance.

    Attributes:
        drop: Share of the clean metric that may be lost, in [0, 1).
        severity: Up to which; in (0, 1].
    """

    drop: float
    severity: float = 1.0


def parse_limits(texts: Iterable[str]) -> list[Limit]:
    """Parse `DROP` or `DROP:SEVERITY` each.

    Raises:
        UsageError: It is neither, or a number is not in its range.
    """
    limits = []
    for text in texts:
        first, colon, second = text.partition(":")
        try:
            limit = Limit(float(first), float(second) if colon else 1.0)
        except ValueError:
            limit = Limit(math.nan)
        if not (0 <= limit.drop < 1 and 0 < limit.severity <= 1):
            raise UsageError(
                "this is no share of the metric, with or without a severity",
                where=f"--fail-on {text}",
                remedy="e.g. 0.2, or 0.2:0.4 for severities up to 0.4; a share from 0, a severity up to 1",
            )
        limits.append(limit)
    return limits


def failures(result: Stress, limits: Sequence[Limit]) -> list[str]:
    """One line for each corruption that costs more than a limit allows; empty if none does.

    What may be chance fails nothing: the 95% interval of the drop has to lie above 0, and of fewer than six independent images
    there is none. A model whose clean metric is 0 or unknown fails, for nothing can be said of it.
    """
    if not limits:
        return []
    clean = result.clean.value
    if clean is None or clean <= 0:
        said = "cannot be measured" if clean is None else "is 0"
        return [f"failed: {result.metric} of the images as they are {said}, so that no drop can be told"]
    lines = []
    for limit in limits:
        for curve in result.curves:
            lost = [
                each
                for each in curve.points
                if each.severity <= limit.severity + _ROUNDING
                and each.drop is not None
                and each.drop_low is not None
                and each.drop > limit.drop * clean
                and each.drop_low > 0
            ]
            if lost:
                first = lost[0]
                lines.append(
                    f"failed: {curve.corruption} at severity {first.severity:g} costs {(first.drop or 0.0) / clean:.0%} of the "
                    f"clean {result.metric}, at most {limit.drop:.0%} may be lost up to {limit.severity:g}"
                )
    return lines
