"""Masks against boxes, and labels of which some have masks and some have not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.checks.base import Judgement, Settings
from curate.checks.evaluation.run import judge
from curate.dataset import begin
from curate.errors import UsageError
from curate.formats.base import ReadOptions
from curate.formats.importing import import_source
from curate.geometry import encode_rle
from curate.names import GROUND_TRUTH

HEIGHT, WIDTH = 40, 60
LEFT, RIGHT = (5, 5, 12, 20), (35, 10, 15, 20)
"""Two boxes beside one another, [x, y, width, height]."""

Thing = tuple[int, Sequence[Sequence[int]], bool]
"""Image, its boxes, and whether it is drawn: as one mask of all of its boxes."""


def write(folder: Path, layer: str, things: Sequence[Thing], images: int = 3) -> None:
    """Import a COCO file of one class as a layer."""
    annotations: list[dict[str, Any]] = []
    for image, boxes, drawn in things:
        mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
        for x, y, width, height in boxes:
            mask[y : y + height, x : x + width] = True
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        around = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
        row = {"id": len(annotations) + 1, "image_id": image, "category_id": 1, "bbox": [int(side) for side in around]}
        if drawn:
            row["segmentation"] = {"counts": encode_rle(mask), "size": [HEIGHT, WIDTH]}
        annotations.append(row | ({} if layer == GROUND_TRUTH else {"score": 0.9}))
    content = {
        "images": [{"id": k, "file_name": f"{k}.jpg", "height": HEIGHT, "width": WIDTH} for k in range(images)],
        "categories": [{"id": 1, "name": "bolt"}],
        "annotations": annotations,
    }
    path = folder / layer.rpartition("/")[2] / "instances.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    import_source("set", path.parent, options=ReadOptions(layer=layer), command="test")


def evaluate(**options: Any) -> Judgement:
    with begin("set", command="test") as transaction:
        return judge(transaction, Settings(options=options))


REGIONS: list[Thing] = [(0, [LEFT, RIGHT], True), (1, [LEFT], True), (2, [RIGHT], True)]
OBJECTS: list[Thing] = [(0, [LEFT], False), (0, [RIGHT], False), (1, [LEFT], False), (2, [RIGHT], False)]


@pytest.mark.parametrize(("labels", "predicted"), [(OBJECTS, REGIONS), (REGIONS, OBJECTS)])
def test_a_box_around_all_pixels_of_a_class_is_no_object(
    tmp_path: Path, labels: Sequence[Thing], predicted: Sequence[Thing]
) -> None:
    write(tmp_path, GROUND_TRUTH, labels)
    write(tmp_path, "predictions/model", predicted)
    with pytest.raises(UsageError, match="at most one mask of a class on an image") as caught:
        evaluate()
    assert "--task detect" in str(caught.value.remedy)
    asked = evaluate(task="detect")
    assert any("holds masks: the boxes around them are compared" in note for note in asked.notes)


def test_it_is_told_of_what_a_model_is_compared_with_too(tmp_path: Path) -> None:
    write(tmp_path, GROUND_TRUTH, OBJECTS)
    write(tmp_path, "predictions/boxes", OBJECTS)
    write(tmp_path, "predictions/regions", REGIONS)
    with pytest.raises(UsageError, match="predictions/regions holds at most one mask"):
        evaluate(layer="boxes", against="regions")


def test_masks_of_objects_are_compared_by_their_boxes(tmp_path: Path) -> None:
    write(tmp_path, GROUND_TRUTH, OBJECTS)
    write(tmp_path, "predictions/model", [(image, boxes, True) for image, boxes, _ in OBJECTS])
    found = evaluate()
    assert found.tables["Evaluation"][0]["task"] == "detect"
    assert found.tables["Evaluation"][0]["metrics"]["AP"] == pytest.approx(1)
    assert "predictions/model holds masks: the boxes around them are compared" in found.notes


def test_where_no_image_has_two_of_a_class_a_mask_is_an_object(tmp_path: Path) -> None:
    write(tmp_path, GROUND_TRUTH, OBJECTS[1:])
    write(tmp_path, "predictions/model", [(image, boxes, True) for image, boxes, _ in OBJECTS[1:]])
    assert evaluate().tables["Evaluation"][0]["metrics"]["AP"] == pytest.approx(1)


@pytest.mark.parametrize("task", ["segment", "instances"])
def test_images_with_labels_that_lack_their_mask_are_left_out(tmp_path: Path, task: str) -> None:
    """What a model rightly draws there would count as made up."""
    write(tmp_path, GROUND_TRUTH, [*REGIONS[:2], (2, [RIGHT], False)])
    write(tmp_path, "predictions/model", [*REGIONS, (1, [RIGHT], False)])
    found = evaluate(task=task)
    (row,) = found.tables["Evaluation"]
    assert row["images"] == 2
    assert next(iter(row["metrics"].values())) == pytest.approx(1)
    notes = [note for note in found.notes if note.startswith("left out")]
    assert notes == [
        "left out: 1 image where ground_truth has boxes without a mask, of classes that have masks",
        "left out: 1 box of predictions/model without a mask",
    ]


def test_no_image_has_all_of_its_masks(tmp_path: Path) -> None:
    write(tmp_path, GROUND_TRUTH, [(0, [LEFT], True), (0, [RIGHT], False)], images=1)
    write(tmp_path, "predictions/model", [(0, [LEFT], True), (0, [RIGHT], True)], images=1)
    with pytest.raises(UsageError, match="every image has boxes without a mask"):
        evaluate(task="instances")
