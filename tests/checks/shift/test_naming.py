"""Words and metadata for parts of a set."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from curate.checks.shift.axes import AXES, NAMES, axis_values, in_units
from curate.checks.shift.naming import Column, differences, metadata_columns, shared_values, words


def values(n: int = 120) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, len(AXES)))


def test_the_largest_differences_name_a_part() -> None:
    axes, inside = values(), np.arange(120) < 30
    axes[inside, NAMES.index("brightness")] -= 3
    axes[inside, NAMES.index("warmth")] += 2
    found = differences(axes, inside, np.arange(120))
    assert words(found)[:2] == ["dark", "warm"]
    assert found[0].effect < -0.8
    assert found[0].inside < found[0].outside


def test_what_is_only_less_bright_on_the_right_is_not_lit_from_the_left() -> None:
    axes, inside = values(), np.arange(120) < 30
    slope = NAMES.index("light left to right")
    axes[:, slope] = np.where(inside, 0.0, 2.0) + 0.01 * axes[:, slope]
    found = differences(axes, inside, np.arange(120))
    assert NAMES[found[0].axis] == "light left to right"
    assert "light from the left" not in words(found)


def test_chance_gives_no_name_and_a_burst_no_certainty() -> None:
    axes, inside = values(), np.arange(120) < 30
    assert not differences(axes, inside, np.arange(120))
    axes[inside] = axes[0] + 3  # one moment, photographed thirty times
    assert not differences(axes, inside, np.where(inside, 0, np.arange(120)))


def test_over_represented_metadata() -> None:
    inside = np.arange(100) < 40
    camera = ["b" if row < 35 or row > 95 else "a" for row in range(100)]
    columns = {"camera": camera, "file": [str(row) for row in range(100)], "shift": ["day", "night"] * 50}
    (shared,) = shared_values({key: Column.of(values) for key, values in columns.items()}, inside, np.arange(100))
    assert (shared.key, shared.value) == ("camera", "b")
    assert shared.inside == pytest.approx(35 / 40)
    assert shared.p_value < 1e-6


def test_metadata_is_read_as_columns() -> None:
    texts = pa.chunked_array([['{"camera": "b", "gain": 2, "box": [1]}', None], ['{"camera": "a"}', '{"camera": "a"}']])
    columns = metadata_columns(texts, split=pa.chunked_array([["x", "y", None, "x"]]))
    assert {key: (column.codes.tolist(), column.values) for key, column in columns.items()} == {
        "split": ([0, 1, -1, 0], ["x", "y"]),
        "camera": ([1, -1, 0, 0], ["a", "b"]),
        "gain": ([0, -1, -1, -1], ["2"]),
    }
    nothing = metadata_columns(pa.chunked_array([pa.nulls(3, pa.string())]))
    assert not nothing


def test_axes_go_back_to_what_was_measured() -> None:
    names = {axis.column for axis in AXES if axis.column} | {"lamp_red", "lamp_blue"}
    columns = {name: np.array([0.2, 0.4]) for name in names}
    found = axis_values(columns)
    assert found.shape == (2, len(AXES))
    for name in ("brightness", "noise", "contrast"):
        assert in_units(AXES[NAMES.index(name)], found[1, NAMES.index(name)]) == pytest.approx(0.4)
