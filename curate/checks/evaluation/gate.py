"""Gates for CI: what a model has to reach (``--fail-below METRIC:VALUE``), and that it is not worse than another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate.checks.base import Tables
from curate.checks.evaluation.run import COMPARISON, EVALUATION, LOWER_IS_BETTER, find_metric
from curate.errors import UsageError


@dataclass(frozen=True)
class Limit:
    """Fails where a metric is lower than a value, or cannot be measured."""

    metric: str
    value: float


def parse_limits(texts: Iterable[str]) -> list[Limit]:
    """Parse `METRIC:VALUE` each.

    Raises:
        UsageError: There is no value, or the metric is one of which less is better.
    """
    limits = []
    for text in texts:
        metric, _, number = text.rpartition(":")
        where = f"--fail-below {text}"
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not metric or not math.isfinite(value):
            raise UsageError("this is no metric and value", where=where, remedy="e.g. AP50:0.6")
        if metric.lower() in {name.lower() for name in LOWER_IS_BETTER}:
            raise UsageError(f"a lower {metric} is better", where=where, remedy="choose a metric such as AP50 or top1")
        limits.append(Limit(metric, value))
    return limits


def failures(tables: Tables, limits: Sequence[Limit], *, fail_if_worse: bool) -> list[str]:
    """One line for each gate that is failed; empty if all are passed.

    Args:
        tables: Of the check's result.
        limits: What has to be reached.
        fail_if_worse: Whether a comparison's verdict 'worse', by the main metric, fails.

    Raises:
        UsageError: The evaluation has no such metric.
    """
    metrics: Mapping[str, Any] = tables[EVALUATION][0]["metrics"]
    lines = []
    for limit in limits:
        name = find_metric(metrics, limit.metric)
        value = metrics[name]
        if value is None:
            lines.append(f"failed: {name} cannot be measured, at least {limit.value:g} is asked")
        elif value < limit.value:
            lines.append(f"failed: {name} is {value:.4g}, at least {limit.value:g} is asked")
    main = next(iter(metrics))
    for row in tables.get(COMPARISON, ()) if fail_if_worse else ():
        if row["of"] == "all" and row["name"] == main and row["verdict"] == "worse":
            lines.append(f"failed: {main} is worse, {row['value']:.4g} against {row['against']:.4g}")
    return lines
