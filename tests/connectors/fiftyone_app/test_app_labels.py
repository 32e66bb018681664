"""Annotations as FiftyOne's labels and back, without FiftyOne."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.connectors.fiftyone.labels import (
    FAMILIES,
    is_changed,
    mark,
    pack_array,
    to_label,
    to_shape,
    unmark,
    unpack_array,
)
from curate.connectors.fiftyone.layout import Layout
from curate.connectors.fiftyone.marks import marks_of
from curate.geometry import decode_rle
from tests.connectors.fiftyone_app.app_sets import LOCATIONS, ODD, SIZE, findings, image_id, rows

SHAPES = ("type", "bbox", "rotated_box", "polygons", "keypoints")


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row['type']} {row['annotation_id'][-1]}")
def test_a_shape_comes_back(row: dict[str, Any]) -> None:
    label = to_label(row, SIZE, str)
    back = to_shape(label, FAMILIES[row["type"]], SIZE, row)
    assert back["type"] == row["type"]
    if row["type"] == "mask":
        assert (decode_rle(back["rle"], back["rle_size"]) == decode_rle(row["rle"], row["rle_size"])).all()
        assert back["area"] == 550
        return
    for name in ("rotated_box", "polygons", "keypoints"):
        assert np.allclose(np.concatenate([np.ravel(each) for each in back[name] or [0]]),
                           np.concatenate([np.ravel(each) for each in row[name] or [0]]), atol=1e-3)  # fmt: skip
    if row["type"] in ("box", "keypoints"):
        assert np.allclose(back["bbox"], row["bbox"])
    if row["type"] == "label":
        assert back["bbox"] is None


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row['type']} {row['annotation_id'][-1]}")
def test_what_nobody_touched_is_unchanged(row: dict[str, Any]) -> None:
    assert not is_changed(to_label(row, SIZE, str), to_label(row, SIZE, str), SIZE)
    other = {**row, "label": "other"}
    assert is_changed(to_label(row, SIZE, str), to_label(other, SIZE, str), SIZE)


@given(
    st.lists(st.floats(0, 150), min_size=4, max_size=4),
    st.lists(st.floats(-1, 1), min_size=4, max_size=4),
)
def test_a_box_is_changed_when_it_moves(box: list[float], by: list[float]) -> None:
    (first, *_) = rows()
    before = to_label({**first, "bbox": box}, SIZE, str)
    moved = [a + b for a, b in zip(box, by, strict=True)]
    changed = is_changed(before, to_label({**first, "bbox": moved}, SIZE, str), SIZE)
    assert changed == (max(map(abs, by)) > 0.02) or abs(max(map(abs, by)) - 0.02) < 1e-6


def test_a_moved_mask_moves_its_pixels() -> None:
    row = rows()[1]
    label = to_label(row, SIZE, str)
    x, y, w, h = label["bounding_box"]
    moved = to_shape({**label, "bounding_box": [x + 10 / SIZE[0], y + 5 / SIZE[1], w, h]}, "detections", SIZE, row)
    before, after = decode_rle(row["rle"], row["rle_size"]), decode_rle(moved["rle"], moved["rle_size"])
    assert (np.roll(before, (5, 10), axis=(0, 1)) == after).all()


def test_a_mask_that_is_moved_out_is_cut() -> None:
    row = rows()[1]
    label = {**to_label(row, SIZE, str), "bounding_box": [0.95, 0.9, 0.15, 0.2]}
    assert (
        decode_rle(to_shape(label, "detections", SIZE, row)["rle"], [SIZE[1], SIZE[0]]).sum() == 10 * 10 - 5 * 5
    )  # the hole


def test_names_of_attributes_that_fiftyone_has_itself_or_refuses() -> None:
    label = to_label(rows()[0], SIZE, str)
    assert label["label"] == "bolt"
    assert label["label_"] == "x"
    assert label["weight_kg"] == 2.5
    assert label[ODD[:40]] == ODD


@pytest.mark.parametrize("broken", [None, [], [0.1, 0.2], [float("nan")] * 4])
def test_a_label_without_a_box_is_refused(broken: Any) -> None:
    with pytest.raises(ValueError, match="no box"):
        to_shape({"bounding_box": broken}, "detections", SIZE, None)


def test_ids_and_arrays() -> None:
    assert unmark(mark("0123456789abcdef")) == "0123456789abcdef"
    assert unmark("0" * 24) is None
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert (unpack_array(pack_array(array)) == array).all()
    with pytest.raises(ValueError):  # noqa: PT011 - numpy's or zlib's own words
        unpack_array(b"nothing")


def test_marks() -> None:
    marks = marks_of(findings())
    first = marks[image_id(0)]
    assert first.tags == ["finding:mislabeled", "finding:missing"]
    assert first.scores == {"mislabeled": 0.9, "missing": 0.8}
    assert first.why == f"mislabeled: looks like a nut {ODD}"
    assert marks[image_id(2)].copies == marks[image_id(3)].copies == LOCATIONS[3]


def test_a_layout_is_the_same_after_json() -> None:
    layout = Layout({"ground_truth": ("ground_truth", "detections"), "x": ("predictions/x", "polylines")})
    assert Layout.from_json(layout.to_json()) == layout
    assert layout.names()["predictions/x", "rotated_box"] == "x"
