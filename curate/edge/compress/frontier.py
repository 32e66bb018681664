"""Models of several sizes: what each has won and lost, which are worth having, and which is the best that holds a budget."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from curate.edge.scoring import Drops, Scores
from curate.errors import UsageError

Prefer = Literal["speed", "size", "accuracy"]
"""What the best of all that hold the budget has most of."""

ORIGINAL: Final = "original"

_ALIKE: Final = 0.03
"""Models whose sizes or times differ by less are taken for equal: clocks are not finer."""

_SIZES: Final = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_TIMES: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_MEASURE: Final = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Z]*)\s*")


@dataclass(frozen=True)
class Candidate:
    """A model that may be the one.

    Attributes:
        name: Of it among the candidates.
        method: How it came about: 'original', 'quantised', 'nncf', 'qat', 'pruned', 'distilled', and combinations by '+'.
        path: Its ONNX file.
        size: Of the file, bytes.
        scores: How good it is.
        drops: What it lost against the original.
        seconds: CPU time of one image in one thread; NaN until it is measured.
        details: What was done: operators left in float, ranges, share of channels.
    """

    name: str
    method: str
    path: Path
    size: int
    scores: Scores
    drops: Drops
    seconds: float = float("nan")
    details: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        worst = self.drops.worst_slice()
        return {
            "name": self.name,
            "method": self.method,
            "size": self.size,
            "latency_ms": round(1000 * self.seconds, 4),
            "metric": self.scores.metric,
            "accuracy": self.scores.overall,
            "drop": self.drops.overall,
            "worst_slice": None if worst is None else {"name": worst[0], "drop": worst[1]},
            "details": self.details,
        }


@dataclass(frozen=True)
class Budget:
    """What a model may cost.

    Attributes:
        max_drop: Of the metric, of all images.
        max_slice_drop: Of any slice that has enough images.
        max_seconds: CPU time of one image; None for any.
        max_size: Bytes of the file; None for any.
    """

    max_drop: float = 0.01
    max_slice_drop: float = 0.02
    max_seconds: float | None = None
    max_size: float | None = None

    def lost_too_much(self, candidate: Candidate) -> list[str]:
        """Why its accuracy is not enough, in words; nothing where it is."""
        return candidate.drops.refusals(self.max_drop, self.max_slice_drop)

    def too_heavy(self, candidate: Candidate) -> list[str]:
        """Why it is too large or too slow, in words; nothing where it is not."""
        said = []
        if self.max_size is not None and candidate.size > self.max_size:
            said.append(f"{candidate.size / 1e6:.2f} MB, {self.max_size / 1e6:.2f} MB allowed")
        if self.max_seconds is not None and not candidate.seconds <= self.max_seconds:
            said.append(f"{1000 * candidate.seconds:.2f} ms an image, {1000 * self.max_seconds:.2f} ms allowed")
        return said

    def refusals(self, candidate: Candidate) -> list[str]:
        """Why a candidate does not hold the budget."""
        return [*self.lost_too_much(candidate), *self.too_heavy(candidate)]


def frontier(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those to which no other is equal or better in size, time and accuracy at once; smallest first."""
    kept = [each for each in candidates if not any(_dominates(other, each) for other in candidates)]
    return sorted(kept, key=lambda each: (each.size, each.seconds))


def best(candidates: Sequence[Candidate], budget: Budget, prefer: Prefer = "speed") -> Candidate | None:
    """The candidate that holds the budget and has most of what is preferred; None where none holds it."""
    holding = [each for each in candidates if not budget.refusals(each)]
    if not holding:
        return None
    if prefer == "accuracy":
        return max(holding, key=lambda each: (_accuracy(each), -each.seconds))
    least = min(_cost(each, prefer) for each in holding)
    alike = [each for each in holding if _cost(each, prefer) <= least * (1 + _ALIKE)]
    return max(alike, key=lambda each: (_accuracy(each), -each.size))


def nearest(candidates: Sequence[Candidate], budget: Budget) -> Candidate:
    """The candidate that breaks the budget least: by how many limits, then by how much accuracy is lost."""
    return min(candidates, key=lambda each: (len(budget.refusals(each)), each.drops.overall))


def parse_size(text: str) -> float:
    """Bytes of '5MB', '800 kB', '1.5MiB'.

    Raises:
        UsageError: It is no size.
    """
    return _parsed(text, _SIZES, "--max-size", "e.g. 5MB, 800kB or 2MiB")


def parse_seconds(text: str) -> float:
    """Seconds of '50ms', '0.2s'.

    Raises:
        UsageError: It is no time.
    """
    return _parsed(text, _TIMES, "--max-latency", "e.g. 50ms or 0.2s")


def _parsed(text: str, units: dict[str, float], where: str, remedy: str) -> float:
    match = _MEASURE.fullmatch(text)
    factor = None if match is None else units.get(match[2].lower())
    if match is None or factor is None or float(match[1]) <= 0:
        raise UsageError(f"'{text}' is no such measure", where=where, remedy=remedy)
    return float(match[1]) * factor


def _accuracy(candidate: Candidate) -> float:
    return -1.0 if candidate.scores.overall is None else candidate.scores.overall


def _cost(candidate: Candidate, prefer: Prefer) -> float:
    return candidate.seconds if prefer == "speed" else float(candidate.size)


def _dominates(one: Candidate, other: Candidate) -> bool:
    mine = (one.size, one.seconds, -_accuracy(one))
    others = (other.size, other.seconds, -_accuracy(other))
    return all(a <= b for a, b in zip(mine, others, strict=True)) and mine != others
