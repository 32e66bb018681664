"""Predictions as rows: masks at other sizes, boxes in other pixels, classes that are merged or left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from curate.dataset.ids import image_ids
from curate.dataset.schema import ANNOTATIONS
from curate.errors import InputError
from curate.geometry import decode_rle, encode_rle, valid_rles
from curate.models.predictors.base import Classes, ClassMap, DepthMap, Objects, Prediction
from curate.models.predictors.class_names import ClassMapping, match_classes
from curate.models.predictors.masks import encode_classes, encode_mask, scale_rle
from curate.models.predictors.results import RESULTS, annotation_rows, result_rows

sides = st.integers(1, 12)
MERGED = match_classes(["car", "truck", "dog", "cat"], ["cat", "vehicle"], told={"car": "vehicle", "truck": "vehicle"})


def rows(
    prediction: Prediction, mapping: ClassMapping = MERGED, size: tuple[int, int] = (0, 0)
) -> list[dict[str, Any]]:
    """The annotations that a prediction of one image makes."""
    results = result_rows([prediction], mapping, 0.5, "model")
    assert results.schema == RESULTS
    kept = np.arange(len(mapping.names))
    table = annotation_rows(image_ids(["a.png"]), results, np.array([size]), "predictions/x", mapping.names, kept)
    assert table.schema == ANNOTATIONS
    return [dict(row) for row in table.to_pylist()]


def objects(
    boxes: list[list[float]], labels: list[int], scores: list[float], masks: npt.NDArray[np.bool_] | None = None
) -> Objects:
    probabilities = np.full((len(boxes), 4), 0.1, np.float32)
    probabilities[np.arange(len(boxes)), labels] = 0.6
    box_array = np.array(boxes, np.float64).reshape(-1, 4)
    return Objects((10, 20), box_array, np.array(labels, np.int64), np.array(scores), probabilities, masks)


@given(st.data(), sides, sides)
def test_each_class_of_a_map_is_its_mask(data: st.DataObject, height: int, width: int) -> None:
    labels = data.draw(arrays(np.int16, (height, width), elements=st.integers(-1, 3)))
    found = encode_classes(labels)
    assert [number for number, _ in found] == sorted(set(labels[labels >= 0].tolist()))
    for number, rle in found:
        assert rle == encode_rle(labels == number)


@given(st.data(), sides, sides, sides, sides)
def test_a_scaled_mask_has_the_pixels_of_the_nearest_centres(
    data: st.DataObject, height: int, width: int, tall: int, wide: int
) -> None:
    mask = data.draw(arrays(np.bool_, (height, width)))
    scaled = scale_rle(encode_rle(mask), (height, width), (tall, wide))
    assert valid_rles([scaled], [(tall, wide)]).all()
    drawn = decode_rle(scaled, (tall, wide)) != 0
    for y in range(tall):
        for x in range(wide):
            assert drawn[y, x] == mask[int((y + 0.5) * height / tall), int((x + 0.5) * width / wide)]
    if (tall % height, wide % width) == (0, 0):
        assert scale_rle(scaled, (tall, wide), (height, width)) == encode_rle(mask)


def test_an_empty_mask_is_none() -> None:
    assert encode_mask(np.zeros((3, 4), bool)) is None
    assert encode_mask(np.ones((3, 4), bool)) == encode_rle(np.ones((3, 4), bool))


def test_boxes_are_scaled_to_the_image_and_classes_to_the_datasets() -> None:
    found = rows(objects([[1, 2, 3, 4], [10, 5, 5, 5], [0, 0, 2, 2]], [3, 0, 2], [0.9, 0.8, 0.7]), size=(30, 40))
    assert [(row["label"], row["type"], row["bbox"], row["score"]) for row in found] == [
        ("cat", "box", [2, 6, 6, 12], 0.9),
        ("vehicle", "box", [20, 15, 10, 15], 0.8),
    ]
    np.testing.assert_allclose([row["probabilities"] for row in found], [[0.6, 0.2], [0.1, 0.7]], atol=1e-6)
    assert found[0]["rle"] is None
    assert len({row["annotation_id"] for row in found}) == 2


def test_a_size_that_is_not_known_is_that_of_the_prediction() -> None:
    assert rows(objects([[1, 2, 3, 4]], [3], [0.9]))[0]["bbox"] == [1, 2, 3, 4]


def test_one_thing_of_two_merged_classes_is_one() -> None:
    apart, close = [10.0, 5, 5, 5], [1.0, 1, 8, 8]
    found = rows(objects([close, [1, 1, 8, 9], apart, [1, 1, 8, 8.5]], [0, 1, 1, 3], [0.5, 0.6, 0.4, 0.3]))
    assert [(row["label"], row["score"]) for row in found] == [("vehicle", 0.6), ("vehicle", 0.4), ("cat", 0.3)]


def test_what_is_left_out_is_counted() -> None:
    results = result_rows([objects([[1, 1, 2, 2]] * 3, [2, 3, 2], [0.5] * 3), objects([], [], [])], MERGED, 0.5, "m")
    assert results["left_out"].to_pylist() == [[2, 2], []]
    assert [len(each) for each in results["objects"].to_pylist()] == [1, 0]


def test_masks_of_instances() -> None:
    masks = np.zeros((2, 10, 20), bool)
    masks[0, 2:6, 4:8] = True
    found = rows(objects([[4, 2, 4, 4], [0, 0, 1, 1]], [3, 3], [0.9, 0.8], masks), size=(20, 40))
    assert [(row["type"], row["bbox"], row["rle_size"]) for row in found] == [
        ("mask", [8, 4, 8, 8], [20, 40]),
        ("box", [0, 0, 2, 2], None),
    ]
    drawn = decode_rle(str(found[0]["rle"]), (20, 40))
    np.testing.assert_array_equal(np.argwhere(drawn), np.argwhere(np.kron(masks[0], np.ones((2, 2)))))


def test_a_map_of_classes_is_one_mask_a_class() -> None:
    labels = np.full((4, 6), -1, np.int16)
    labels[:2, :3], labels[2:, :3], labels[:2, 3:], labels[2:, 5] = 0, 1, 3, 2
    confidence = np.where(labels == 0, 0.5, 0.7).astype(np.float32)
    found = rows(ClassMap(labels, confidence), size=(8, 12))
    assert [(row["label"], row["bbox"]) for row in found] == [("cat", [6, 0, 6, 4]), ("vehicle", [0, 0, 6, 8])]
    np.testing.assert_allclose([row["score"] for row in found], [0.7, 0.6], atol=1e-6)
    assert [row["probabilities"] for row in found] == [None, None]
    assert result_rows([ClassMap(labels, confidence)], MERGED, 0.5, "m")["left_out"].to_pylist() == [[2]]


def test_the_class_of_an_image() -> None:
    def of(*probabilities: float) -> list[tuple[object, object, object]]:
        found = rows(Classes(np.array(probabilities, np.float32)), size=(5, 5))
        return [(row["label"], row["type"], row["bbox"]) for row in found]

    assert of(0.2, 0.2, 0.3, 0.3) == [("vehicle", "label", None)]  # together more probable than any other
    assert of(0.2, 0.1, 0.5, 0.2) == []  # a dog, which the dataset does not have
    assert of(0, 0, 0, 0) == []
    (row,) = rows(Classes(np.array([0.2, 0.2, 0.3, 0.3], np.float32)))
    assert row["score"] == pytest.approx(0.4)
    np.testing.assert_allclose(row["probabilities"], [0.3, 0.4], atol=1e-6)
    assert result_rows([Classes(np.eye(4, dtype=np.float32)[2])], MERGED, 0.5, "m")["left_out"].to_pylist() == [[2]]


def test_probabilities_are_in_the_order_of_the_datasets_classes_whatever_it_has() -> None:
    results = result_rows([objects([[1, 1, 2, 2]], [0], [0.5])], MERGED, 0.5, "m")
    kept = np.array([1, -1, 0])  # vehicle, one that the model does not know, cat
    table = annotation_rows(image_ids(["a"]), results, np.zeros((1, 2), int), "predictions/x", MERGED.names, kept)
    np.testing.assert_allclose(table["probabilities"].to_pylist(), [[0.7, 0, 0.1]], atol=1e-6)


def test_no_images_and_sliced_results() -> None:
    empty = result_rows([], MERGED, 0.5, "m")
    assert (
        annotation_rows(
            pa.array([], pa.string()), empty, np.zeros((0, 2), int), "predictions/x", MERGED.names, np.arange(2)
        ).num_rows
        == 0
    )
    several = result_rows([objects([[k, 1, 2, 2]], [3], [0.5]) for k in (1, 2, 3)], MERGED, 0.5, "m").slice(1, 1)
    table = annotation_rows(
        image_ids(["b"]), several, np.zeros((1, 2), int), "predictions/x", MERGED.names, np.arange(2)
    )
    assert table["bbox"].to_pylist() == [[2, 1, 2, 2]]


@pytest.mark.parametrize(
    "prediction",
    [
        objects([[1, 1, 2, 2]], [3], [float("nan")]),
        Objects((9, 9), np.ones((1, 4)), np.array([4]), np.ones(1)),
        Classes(np.ones(3, np.float32)),
        ClassMap(np.full((2, 2), 7, np.int16), np.ones((2, 2), np.float32)),
        DepthMap(np.ones((2, 2), np.float32), metric=False),
    ],
    ids=["score", "class", "classes", "map", "depth"],
)
def test_what_cannot_be_is_an_error(prediction: Prediction) -> None:
    with pytest.raises(InputError, match="model-7"):
        result_rows([prediction], MERGED, 0.5, "model-7")
