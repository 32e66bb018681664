"""How different two answers on one image are: nothing where they are the same, everything where they have nothing in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.edge.package.parity import changes
from curate.geometry import encode_rle
from curate.models.predictors.results import RESULTS

Row = dict[str, Any]
PLACES = st.tuples(st.integers(0, 3), st.sampled_from([0.25, 0.5, 0.75]), st.integers(0, 1))
OBJECTS = st.lists(PLACES, max_size=4, unique_by=lambda place: place[0])


def table(*rows: Row) -> pa.Table:
    return pa.Table.from_pylist([{"left_out": [], **row} for row in rows], schema=RESULTS)


def image(probabilities: list[float]) -> Row:
    label = int(np.argmax(probabilities))
    whole = {"label": label, "score": probabilities[label], "bbox": None, "probabilities": probabilities, "rle": None}
    return {"size": None, "objects": [whole]}


def found(places: list[tuple[int, float, int]]) -> Row:
    """Objects far apart: a place, a score and a class each."""
    objects = [
        {"label": label, "score": score, "bbox": [100.0 * place, 0, 10, 10], "probabilities": None, "rle": None}
        for place, score, label in places
    ]
    return {"size": [100, 400], "objects": objects}


def drawn(labels: list[list[int]]) -> Row:
    """A class map, -1 for none."""
    pixels = np.array(labels)
    objects = [
        {"label": label, "score": 1.0, "bbox": None, "probabilities": None, "rle": encode_rle(pixels == label)}
        for label in np.unique(pixels[pixels >= 0]).tolist()
    ]
    return {"size": list(pixels.shape), "objects": objects}


def change(one: Row, other: Row, task: Any) -> float:
    return float(changes(table(one), table(other), task)[0])


@given(OBJECTS, OBJECTS)
def test_objects(one: list[tuple[int, float, int]], other: list[tuple[int, float, int]]) -> None:
    said = change(found(one), found(other), "detect")
    assert said == pytest.approx(change(found(other), found(one), "detect"))
    assert change(found(one), found(one), "detect") == 0
    common = {place: min(a, b) for place, a, x in one for where, b, y in other if (place, x) == (where, y)}
    total = sum(score for _, score, _ in [*one, *other])
    assert said == pytest.approx(1 - 2 * sum(common.values()) / total if total else 0)


def test_objects_that_overlap_too_little_are_two() -> None:
    one, other = found([(0, 0.5, 0)]), found([(0, 0.5, 0)])
    other["objects"][0]["bbox"] = [4.0, 0, 10, 10]
    assert change(one, other, "detect") == 1
    other["objects"][0]["bbox"] = [3.0, 0, 10, 10]
    assert change(one, other, "detect") == 0


def test_labels() -> None:
    assert change(image([0.75, 0.25, 0]), image([0.75, 0.25, 0]), "classify") == 0
    assert change(image([0.75, 0.25, 0]), image([0.25, 0.5, 0.25]), "classify") == pytest.approx(0.5)
    assert change(image([1, 0, 0]), image([0, 0, 1]), "classify") == 1
    assert change(image([1, 0, 0]), {"size": None, "objects": []}, "classify") == 1


def test_pixels() -> None:
    one = drawn([[0, 0, -1], [1, -1, -1]])
    assert change(one, one, "segment") == 0
    assert change(one, drawn([[0, 1, -1], [1, -1, -1]]), "segment") == pytest.approx(1 / 3)
    assert change(one, drawn([[-1, -1, -1], [-1, -1, -1]]), "segment") == 1
    nothing = drawn([[-1, -1]])
    assert change(nothing, nothing, "segment") == 0
