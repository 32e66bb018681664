"""Measures of doubt, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.loop.strategies.probabilities import MEASURES, Measure, binary, disagreement, per_image

CERTAIN, EVEN, LEANING = [1.0, 0.0, 0.0, 0.0], [0.25] * 4, [0.5, 0.3, 0.1, 0.1]


@pytest.mark.parametrize(
    ("measure", "leaning"),
    [("uncertainty", 0.5 * 4 / 3), ("margin", 0.8), ("entropy", 0.84274)],
)
def test_measures(measure: Measure, leaning: float) -> None:
    found = MEASURES[measure](np.array([CERTAIN, EVEN, LEANING]))
    np.testing.assert_allclose(found, [0, 1, leaning], atol=1e-4)


@given(st.lists(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), min_size=2, max_size=5))
def test_all_are_between_0_and_1(rows: list[list[float]]) -> None:
    p = np.array(rows) / np.sum(rows, axis=1, keepdims=True)
    for measure in MEASURES.values():
        found = measure(p)
        assert (found >= -1e-9).all()
        assert (found <= 1 + 1e-9).all()
    together = disagreement([p, p[::-1]])
    assert ((together >= 0) & (together <= 1)).all()


def test_one_class_leaves_no_doubt() -> None:
    for measure in MEASURES.values():
        assert measure(np.ones((2, 1))).tolist() == [0, 0]


def test_disagreement_is_not_doubt() -> None:
    unsure = np.array([EVEN])
    assert disagreement([unsure, unsure]) == pytest.approx(0, abs=1e-9)
    for_one, for_other = np.array([CERTAIN]), np.array([CERTAIN[::-1]])
    assert disagreement([for_one, for_other]) == pytest.approx(1)
    assert 0 < disagreement([for_one, unsure])[0] < 1


def test_an_image_has_the_doubts_of_its_objects() -> None:
    doubt = MEASURES["margin"](binary(np.array([0.5, 0.9, 0.6])))
    np.testing.assert_allclose(doubt, [1.0, 0.2, 0.8])
    np.testing.assert_allclose(per_image(doubt, np.array([0, 2, 0]), 4), [1.8, 0, 0.2, 0])
