"""The check `mistakes` on datasets with masks: what it reads, compares, shows and stores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from curate.checks.base import Settings, run_check
from curate.checks.findings import Finding
from curate.checks.labels import load_labels, load_predictions
from curate.checks.mistakes.masks import run as masks_run
from curate.checks.mistakes.run import CHECK
from curate.dataset import begin, open_dataset
from curate.formats.importing import import_source
from curate.geometry import decode_rle, encode_rle, rle_boxes
from curate.models.predictors.base import ClassMap, Objects
from curate.models.predictors.layers import write_predictions

SIZE = (48, 64)
NAME = "set"
CLASSES = ("part", "hole")
ORIENTATION = 0x0112
Mask = npt.NDArray[np.bool_]
Shape = Mapping[str, Any]
"""Class and mask, polygon or a row's own fields of a COCO file."""


def disc(x: float, y: float, radius: float) -> Mask:
    down, across = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    return np.asarray((across - x) ** 2 + (down - y) ** 2 <= radius**2)


def shape(mask: Mask, label: int = 0, **more: Any) -> dict[str, Any]:
    counts = encode_rle(mask)
    return {
        "category_id": label,
        "segmentation": {"counts": counts, "size": list(mask.shape)},
        "bbox": rle_boxes([counts], [mask.shape])[0].tolist(),
        "area": int(mask.sum()),
        "iscrowd": 0,
        **more,
    }


def make(folder: Path, shapes: Sequence[Sequence[Shape]], exif: Mapping[int, int] | None = None) -> None:
    """A dataset of images with shapes on them; the ids are their places, counted through. `exif`: orientations of some images."""
    random = np.random.default_rng(0)
    for number in range(len(shapes)):
        pixels = Image.fromarray(random.integers(0, 255, (*SIZE, 3), dtype=np.uint8))
        tags = Image.Exif()
        tags[ORIENTATION] = (exif or {}).get(number, 1)
        pixels.save(folder / f"{number:03d}.jpg", exif=tags)
    rows = [{"image_id": number, **each} for number, own in enumerate(shapes) for each in own]
    content = {
        "images": [
            {"id": k, "file_name": f"{k:03d}.jpg", "width": SIZE[1], "height": SIZE[0]} for k in range(len(shapes))
        ],
        "categories": [{"id": k, "name": name} for k, name in enumerate(CLASSES)],
        "annotations": [{"id": place, **row} for place, row in enumerate(rows)],
    }
    (folder / "instances.json").write_text(json.dumps(content), encoding="utf-8")
    import_source(NAME, folder, command="import")


def predict(found: Sequence[Sequence[tuple[int, Mask]]], *, instances: bool = False) -> None:
    """A layer of what a model sees on each image."""
    rows = open_dataset(NAME).table("images", columns=["image_id", "location"]).to_pylist()
    order = [found[int(Path(row["location"]).stem)] for row in rows]
    predictions: list[ClassMap | Objects] = []
    for own in order:
        if instances:
            masks = np.array([mask for _, mask in own]).reshape(-1, *SIZE)
            boxes = rle_boxes([encode_rle(mask) for mask in masks], [SIZE] * len(masks))
            labels = np.array([label for label, _ in own], dtype=np.int64)
            predictions.append(Objects(SIZE, boxes, labels, np.full(len(own), 0.9), None, masks))
        else:
            drawn = np.full(SIZE, -1, dtype=np.int16)
            for label, mask in own:
                drawn[mask] = label
            predictions.append(ClassMap(drawn, np.full(SIZE, 0.9, dtype=np.float32)))
    with begin(NAME, command="predict") as transaction:
        write_predictions(
            transaction, "predictions/m", [row["image_id"] for row in rows], predictions, CLASSES, model="m"
        )


def run(**options: Any) -> list[Finding]:
    return list(run_check(CHECK, NAME, Settings(encoder="builtin", **options), command="curate mistakes").findings)


def compared() -> list[Finding]:
    """What masks alone say: no crops are looked at."""
    dataset = open_dataset(NAME)
    labels = load_labels(dataset, "ground_truth", None)
    models = masks_run.compared_as_masks(labels, load_predictions(dataset, labels, None, []))
    assert list(models) == ["predictions/m"]
    return masks_run.judge_masks(dataset, labels, models, min_score=0.3, check="mistakes")


def region(finding: Finding) -> Mask:
    found = finding.evidence["region"]
    return decode_rle(found["rle"], found["size"]) > 0


def discs(count: int, seed: int = 0) -> list[list[Mask]]:
    """Two on each image."""
    random = np.random.default_rng(seed)
    return [
        [disc(x + random.uniform(-3, 3), 24 + random.uniform(-6, 6), random.uniform(7, 11)) for x in (16, 48)]
        for _ in range(count)
    ]


def test_bad_masks_are_found_without_a_model(tmp_path: Path) -> None:
    shapes: list[list[Shape]] = [[shape(mask) for mask in own] for own in discs(25)]
    hole = disc(16, 24, 3)
    shapes[4] = [shape(disc(16, 24, 10) & ~hole)]
    shapes[9] = [shape(disc(30, 24, 10), bbox=[0, 0, 6, 6])]
    bow = [10.0, 20.0, 50.0, 40.0, 50.0, 10.0, 10.0, 28.0]
    shapes[12] = [{"category_id": 0, "segmentation": [bow], "bbox": [10, 10, 40, 30], "area": 1, "iscrowd": 0}]
    shapes[20] = [shape(disc(30, 24, 9)), shape(disc(30, 24, 9))]
    make(tmp_path, shapes)
    found = {(finding.kind, finding.image): finding for finding in run(min_score=0.3)}
    assert {key for key in found if key[0] != "mislocated"} == {
        ("bad_mask", "004.jpg"),
        ("bad_mask", "009.jpg"),
        ("bad_mask", "012.jpg"),
        ("spurious", "020.jpg"),
    }
    assert (region(found["bad_mask", "004.jpg"]) == hole).all()
    crossed = found["bad_mask", "012.jpg"].evidence
    assert crossed["region"]["bbox"] == pytest.approx([10, 20, 8.42, 8], abs=0.01)
    assert "crosses itself" in crossed["why"]
    assert found["spurious", "020.jpg"].related[0].annotation_id != found["spurious", "020.jpg"].annotation_id
    assert all(finding.evidence["layer"] == "ground_truth" for finding in found.values())


@pytest.mark.parametrize("instances", [False, True])
def test_masks_are_compared_with_a_model(tmp_path: Path, instances: bool) -> None:
    right = discs(40)
    shapes: list[list[Shape]] = [[shape(mask, k % 2) for mask in own] for k, own in enumerate(right)]
    shapes[3] = shapes[3][:1]
    shapes[8][0] = shape(right[8][0], 1)
    left = right[15][0] & (np.arange(SIZE[1]) < 15)
    shapes[15][0] = shape(left, 1)
    make(tmp_path, shapes)
    predict([[(k % 2, mask) for mask in own] for k, own in enumerate(right)], instances=instances)
    findings = compared()
    found = {(finding.kind, finding.image): finding for finding in findings}
    assert set(found) == {("missing", "003.jpg"), ("mislabeled", "008.jpg"), ("bad_mask", "015.jpg")}
    missing, swapped, cut = found["missing", "003.jpg"], found["mislabeled", "008.jpg"], found["bad_mask", "015.jpg"]
    assert (missing.given, missing.suggested, missing.annotation_id) == (None, "hole", None)
    assert (region(missing) == right[3][1]).all()
    assert missing.bbox == missing.evidence["region"]["bbox"]
    assert (swapped.given, swapped.suggested) == ("hole", "part")
    assert (region(swapped) == right[8][0]).all()
    assert (region(cut) == (right[15][0] & ~left)).all()
    assert cut.evidence["prediction"]["layer"] == "predictions/m"
    assert cut.source_annotation_id == "29"


def test_regions_of_a_map_are_judged_one_by_one(tmp_path: Path) -> None:
    """Every pixel has a class, in one mask for each: a region that is wrong has another class, and no annotation of its own."""
    random = np.random.default_rng(0)
    holes = [[disc(x, random.uniform(12, 36), random.uniform(5, 8)) for x in (16, 48)] for _ in range(40)]
    maps = [own[0] | own[1] for own in holes]
    labelled = [own[0] if number == 7 else both for number, (own, both) in enumerate(zip(holes, maps, strict=True))]
    make(tmp_path, [[shape(~each, 0), shape(each, 1)] for each in labelled])
    predict([[(0, ~each), (1, each)] for each in maps])
    findings = compared()
    found = {(finding.kind, finding.image) for finding in findings}
    assert ("mislabeled", "007.jpg") in found
    assert {image for _, image in found} == {"007.jpg"}
    (wrong,) = [finding for finding in findings if finding.kind == "mislabeled"]
    assert (wrong.given, wrong.suggested) == ("part", "hole")
    assert (region(wrong) == holes[7][1]).all()
    assert wrong.annotation_id is None
    assert wrong.related[0].annotation_id is not None


def test_the_looks_of_a_crop_say_whether_something_is_there_that_the_model_overlooks(tmp_path: Path) -> None:
    masks = discs(60)
    make(tmp_path, [[shape(mask, k % 2) for k, mask in enumerate(own)] for own in masks])
    predict(
        [[(k % 2, mask) for k, mask in enumerate(own) if (number, k) != (7, 0)] for number, own in enumerate(masks)]
    )
    dataset = open_dataset(NAME)
    labels = load_labels(dataset, "ground_truth", None)
    models = masks_run.compared_as_masks(labels, load_predictions(dataset, labels, None, []))

    def score(p_given: float | None) -> float:
        looks = None if p_given is None else np.full(len(labels.label), p_given)
        found = masks_run.judge_masks(dataset, labels, models, min_score=0.001, check="mistakes", looks=looks)
        return next(each.score for each in found if each.kind == "spurious" and each.image == "007.jpg")

    unknown, fitting, other = score(None), score(0.95), score(0.05)
    assert fitting < unknown < other
    # Half of the labels are of its class: a crop that looks like any is no evidence.
    assert score(0.5) == pytest.approx(unknown)


def test_turned_images_have_their_masks_turned(tmp_path: Path) -> None:
    right = discs(20)
    make(tmp_path, [[shape(mask) for mask in own] for own in right], exif={2: 6, 5: 3, 11: 8})
    assert [finding for finding in run() if finding.kind == "bad_mask"] == []


def test_memory_is_bounded_by_reading_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = discs(30)
    shapes: list[list[Shape]] = [[shape(mask) for mask in own] for own in right]
    shapes[4] = shapes[4][:1]
    make(tmp_path, shapes)
    predict([[(0, mask) for mask in own] for own in right])
    whole = run()
    for name in ("_AT_ONCE", "_IMAGES_AT_ONCE"):
        monkeypatch.setattr(masks_run, name, 5)
    assert [(each.id, each.score, each.evidence) for each in run()] == [
        (each.id, each.score, each.evidence) for each in whole
    ]


def test_masks_that_cannot_be_drawn_are_named_and_not_compared(tmp_path: Path) -> None:
    right = discs(25)
    make(tmp_path, [[shape(mask) for mask in own] for own in right])
    dataset = open_dataset(NAME)
    rows = dataset.table("annotations").to_pylist()
    rows[0] |= {"rle": "nonsense"}
    rows[1] |= {"rle": encode_rle(np.ones((500, 500), dtype=bool))}  # counts beyond the image
    with begin(NAME, command="break") as transaction:
        transaction.overwrite(
            "annotations", [dataset.table("annotations").from_pylist(rows, dataset.schema("annotations"))]
        )
    predict([[(0, mask) for mask in own] for own in right])
    broken = [finding for finding in run() if "run lengths" in finding.evidence["why"]]
    assert {finding.annotation_id for finding in broken} == {rows[0]["annotation_id"], rows[1]["annotation_id"]}
    assert all(finding.score == 1 and finding.evidence["region"] is None for finding in broken)
