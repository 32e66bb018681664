"""What a model may lose to corruptions before the command fails."""

from __future__ import annotations

from dataclasses import replace

import pytest

from curate.augment.prove.effects import Effect
from curate.augment.prove.store import Proof
from curate.augment.stress.curves import Point, Stress, curve
from curate.augment.stress.gate import Limit, failures, parse_limits
from curate.errors import UsageError

CLEAN = Point(0.0, 0.8, 0.7, 0.9)


def result(*points: Point, clean: Point = CLEAN) -> Stress:
    found = curve("motion", points, clean, 0.1)
    return Stress("set", 1, "run:a", "detect", "AP50", "ground_truth", 9, "9 images", clean, (found,), 0.1)


MILD = Point(0.2, 0.72, drop=0.08, drop_low=0.01, drop_high=0.2)
HARD = Point(0.6, 0.4, drop=0.4, drop_low=0.2, drop_high=0.6)
BY_CHANCE = Point(1.0, 0.1, drop=0.7, drop_low=-0.1, drop_high=0.8)


@pytest.mark.parametrize(
    ("limit", "points", "failed"),
    [
        ("0.2", (MILD, HARD), "motion at severity 0.6 costs 50% of the clean AP50, at most 20% may be lost up to 1"),
        ("0.05", (MILD, HARD), "motion at severity 0.2 costs 10%"),
        ("0.2:0.6", (MILD, HARD), "severity 0.6"),
        ("0.2:0.4", (MILD, HARD), None),
        ("0.6", (MILD, HARD), None),
        ("0.2", (BY_CHANCE,), None),
        ("0.2", (Point(0.2, None),), None),
    ],
)
def test_a_gate_fails_where_more_is_lost_beyond_chance(
    limit: str, points: tuple[Point, ...], failed: str | None
) -> None:
    lines = failures(result(*points), parse_limits([limit]))
    assert len(lines) == (failed is not None)
    assert failed is None or failed in lines[0]


def test_a_model_of_which_nothing_can_be_said_fails_and_no_gate_never_does() -> None:
    assert failures(result(HARD), []) == []
    assert "is 0" in failures(result(HARD, clean=Point(0.0, 0.0)), [Limit(0.5)])[0]
    assert "cannot be measured" in failures(result(HARD, clean=Point(0.0, None)), [Limit(0.5)])[0]


@pytest.mark.parametrize("text", ["", "much", "1", "-0.1", "nan", "0.2:0", "0.2:1.1", "0.2:", "0.2:0.4:0.5"])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"e\.g\. 0\.2"):
        parse_limits([text])


def test_where_nothing_was_learnt_no_gain_is_spoken_of() -> None:
    none = Effect("target", 9, 9, 0.0, 0.0, 0.0, 0.0, 0.0, "no gain", (0.0,))
    proof = Proof("set", 1, "dark", "detect", "AP50", 30, 1, 9, 3, "by split", (none,), (("a", "b"),))
    assert proof.describe().startswith("nothing was learnt: AP50 0 on the real images of dark")
    some = replace(none, before=0.1, after=0.1)
    assert replace(proof, effects=(some,)).describe().startswith("no gain on the real images")
    elsewhere = replace(some, part="elsewhere")
    assert replace(proof, effects=(none, elsewhere)).describe().startswith("no gain on")
