"""Suspects of a detector, weighed by what the crops look like."""

from __future__ import annotations

import numpy as np
import pytest

from curate.checks.mistakes.looks import Looks, weigh, weigh_suspects
from curate.checks.mistakes.tables import Suspects


def suspects(kind: str, scores: list[float], related: int = -1, prediction: int = -1) -> Suspects:
    n = len(scores)
    return Suspects(
        np.full(n, kind), np.array(scores), np.zeros(n, int), np.arange(n), np.full(n, prediction), np.full(n, related),
        np.full(n, -1), np.full((n, 4), np.nan), np.full(n, "why"),
    )  # fmt: skip


def looks(*p_given: float, share: float = 0.25) -> Looks:
    return Looks(np.array(p_given), np.full(len(p_given), share))


def by_annotation(found: Suspects) -> dict[int, float]:
    return dict(zip(found.annotation.tolist(), found.score.tolist(), strict=True))


def test_a_superfluous_box_looks_like_anything_but_its_label() -> None:
    weighed = weigh_suspects(suspects("spurious", [0.5, 0.5, 0.5, 0.5]), looks(0.9, 0.25, 0.05, np.nan))
    # Bayes: odds of 1, times a quarter, by the probability of the label in an object that looks so.
    expected = {0: 0.25 / 0.9 / (1 + 0.25 / 0.9), 1: 0.5, 2: 5 / 6, 3: 0.5}
    assert by_annotation(weighed) == pytest.approx(expected)
    assert weighed.score.tolist() == sorted(weighed.score.tolist(), reverse=True)


def test_looks_do_not_outweigh_the_detector() -> None:
    weighed = weigh_suspects(suspects("spurious", [0.5, 0.1]), looks(0.02, 0.02, share=0.5))
    assert by_annotation(weighed) == pytest.approx({0: 5 / 6, 1: 0.5 / 0.9 / (1 + 0.5 / 0.9)})


def test_where_something_was_detected_looks_say_nothing_of_nothing() -> None:
    found = suspects("spurious", [0.5, 0.3], prediction=7)
    assert by_annotation(weigh_suspects(found, looks(0.01, 0.99))) == {0: 0.5, 1: 0.3}


def test_a_mislabeled_box_looks_like_another_class() -> None:
    weighed = weigh_suspects(suspects("mislabeled", [0.5, 0.5, 1.0]), looks(0.75, 0.25, 0.25))
    assert by_annotation(weighed) == pytest.approx({0: 0.1, 1: 0.5, 2: 1.0})


@pytest.mark.parametrize(("kind", "related"), [("mislocated", -1), ("missing", -1), ("spurious", 1)])
def test_looks_say_nothing_of_other_errors(kind: str, related: int) -> None:
    found = suspects(kind, [0.9, 0.3], related)
    assert by_annotation(weigh_suspects(found, looks(0.99, 0.01))) == {0: 0.9, 1: 0.3}


def test_what_makes_one_error_likelier_makes_the_others_less_likely() -> None:
    weighed = weigh(np.array([[0.05, 0.5, 0.4], [0.0, 0.0, 0.0]]), np.array([[10.0, 1.0, 2.0], [5.0, 5.0, 5.0]]))
    np.testing.assert_allclose(weighed[0], np.array([0.5, 0.5, 0.8]) / 1.85)
    np.testing.assert_array_equal(weighed[1], 0.0)


def test_shares_are_of_the_class_of_each() -> None:
    np.testing.assert_allclose(Looks.of(np.zeros(4), np.array([3, 1, 3, 3])).share, [0.75, 0.25, 0.75, 0.75])
    assert Looks.of(np.zeros(0), np.zeros(0, int)).share.shape == (0,)
