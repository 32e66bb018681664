"""Which models are worth having, which is the best in a budget, and how budgets are written."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from curate.edge.compress.frontier import Budget, Candidate, best, frontier, nearest, parse_seconds, parse_size
from curate.edge.scoring import FEWEST, Drops
from curate.errors import UsageError


def candidate(
    name: str, size: float, ms: float, accuracy: float, dark: float | None = None, images: int = 200
) -> Candidate:
    """A model that was 0.9 right before, and in the dark too."""
    scores: Any = SimpleNamespace(metric="top1", overall=accuracy)
    slices = {} if dark is None else {"dark": 0.9 - dark}
    drops = Drops(0.9 - accuracy, {}, slices, dict.fromkeys(slices, images))
    return Candidate(name, "quantised", Path(name), int(size * 1e6), scores, drops, ms / 1000)


ORIGINAL = candidate("original", 10, 20, 0.9)
INT8 = candidate("int8", 2.5, 7, 0.895)
SLOWER = candidate("slower", 2.6, 8, 0.894)
PRUNED = candidate("pruned", 1.2, 4, 0.86)


def test_what_another_beats_in_everything_is_not_on_the_frontier() -> None:
    assert frontier([ORIGINAL, INT8, SLOWER, PRUNED]) == [PRUNED, INT8, ORIGINAL]
    assert frontier([INT8, candidate("twin", 2.5, 7, 0.895)]) != []


def test_the_best_holds_the_budget_and_is_fastest() -> None:
    every = [ORIGINAL, INT8, SLOWER, PRUNED]
    assert best(every, Budget()) is INT8
    assert best(every, Budget(max_drop=0.05)) is PRUNED
    assert best(every, Budget(max_drop=0.05), "accuracy") is ORIGINAL
    assert best(every, Budget(max_drop=0.05, max_size=5e6), "accuracy") is INT8
    assert best(every, Budget(max_seconds=0.005)) is None
    assert nearest(every, Budget(max_seconds=0.001, max_size=3e6)) is INT8


def test_of_models_that_are_alike_the_most_accurate_is_best() -> None:
    twin = candidate("twin", 3.0, 7.1, 0.899)
    assert best([INT8, twin], Budget()) is twin


def test_a_slice_that_breaks_is_refused_though_the_average_holds() -> None:
    blind = candidate("blind", 2, 5, 0.897, dark=0.7)
    assert best([ORIGINAL, blind], Budget()) is ORIGINAL
    (why,) = Budget().refusals(blind)
    assert why == "0.2000 lost on 'dark' (200 images), 0.02 allowed"
    few = candidate("few", 2, 5, 0.897, dark=0.7, images=FEWEST - 1)
    assert Budget().refusals(few) == []
    assert few.to_json()["worst_slice"] is None


def test_refusals_name_what_is_broken() -> None:
    said = Budget(max_size=1e6, max_seconds=0.003).refusals(PRUNED)
    assert said == [
        "0.0400 lost of all images, 0.01 allowed", "1.20 MB, 1.00 MB allowed", "4.00 ms an image, 3.00 ms allowed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"), [("5MB", 5e6), ("800 kB", 8e5), ("1.5MiB", 1.5 * 2**20), ("1200", 1200.0), (".5mb", 5e5)]
)
def test_sizes(text: str, value: float) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize(("text", "value"), [("50ms", 0.05), ("0.2s", 0.2), ("900us", 900e-6)])
def test_times(text: str, value: float) -> None:
    assert parse_seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "5", "ms", "-5ms", "0ms", "5 MB", "1e999999ms", "inf s"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match="--max-latency"):
        parse_seconds(text)
