"""Planted faults: as many as asked, in the annotation files, and told by the truth file as they are."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curate.demo import Fault, FaultRates, PartsSet, Truth, load_truth, make_parts, make_predictions
from curate.demo.build import CATEGORY_IDS
from curate.demo.faults import TRUTH_FILE
from curate.demo.pictures import Annotation, Picture, covered, decode_mask, iou
from curate.demo.render import PART_LABELS
from curate.errors import FormatError
from curate.imaging import load_pixels

COPIES = ("exact_duplicate", "near_duplicate", "leak")
NAMES = {number: label for label, number in CATEGORY_IDS.items()}

Rows = dict[str, dict[int, dict[str, Any]]]


@pytest.fixture(scope="session")
def rows(parts: PartsSet) -> Rows:
    """The annotation files' rows, by image file and id."""
    found: Rows = {}
    for split in parts.splits:
        value = json.loads(parts.annotation_file(split).read_bytes())
        files = {image["id"]: f"images/{split}/{image['file_name']}" for image in value["images"]}
        found |= {file: {} for file in files.values()}
        for row in value["annotations"]:
            found[files[row["image_id"]]][row["id"]] = row
    return found


@pytest.fixture(scope="session")
def pictures(parts: PartsSet) -> dict[str, Picture]:
    return {picture.file: picture for picture in parts.truth.pictures}


def originals(truth: Truth, *kinds: str) -> list[Fault]:
    """Faults that are not on a planted copy."""
    copied = {fault.image for fault in truth.of_kind(*COPIES)}
    return [fault for fault in truth.of_kind(*kinds) if fault.image not in copied]


def true_object(pictures: dict[str, Picture], fault: Fault) -> Annotation:
    return next(a for a in pictures[fault.image].annotations if a.id == fault.object_id)


def test_ids_are_unique_and_have_gaps(parts: PartsSet, rows: Rows, pictures: dict[str, Picture]) -> None:
    annotation_ids = [number for members in rows.values() for number in members]
    assert len(set(annotation_ids)) == len(annotation_ids)
    assert max(annotation_ids) - min(annotation_ids) > 1.5 * len(annotation_ids)
    image_ids = [picture.id for picture in pictures.values()]
    assert len(set(image_ids)) == len(image_ids) == len(rows) == 50
    assert {path.relative_to(parts.root).as_posix() for path in parts.root.rglob("*.jpg")} == set(rows) == set(pictures)


def test_as_many_as_asked(parts: PartsSet) -> None:
    copied = {fault.image for fault in parts.truth.of_kind(*COPIES)}
    boxes = sum(a.label in PART_LABELS for p in parts.truth.pictures if p.file not in copied for a in p.annotations)
    counts = Counter(fault.kind for fault in originals(parts.truth, "mislabeled", "missing"))
    assert counts == {"mislabeled": round(0.05 * boxes), "missing": round(0.03 * boxes)}
    details = Counter((fault.kind, fault.detail) for fault in originals(parts.truth, "mislocated", "spurious"))
    assert details["mislocated", ""] == round(0.03 * boxes)
    assert details["spurious", "background"] + details["spurious", "fragment"] == round(0.03 * boxes)
    impossible = [
        details[k] for k in (("spurious", "drawn_twice"), ("mislocated", "zero_area"), ("mislocated", "outside"))
    ]
    assert sum(impossible) == round(0.02 * boxes)
    assert min(impossible) >= 1
    images = Counter((fault.kind, fault.detail) for fault in parts.truth.of_kind(*COPIES, "dark", "blurry"))
    assert images == {
        ("exact_duplicate", ""): 3,
        ("near_duplicate", ""): 3,
        ("near_duplicate", "leak"): 3,
        ("leak", ""): 3,
        ("dark", ""): 2,
        ("blurry", ""): 2,
    }


def test_annotations_differ_from_the_truth_exactly_where_it_says(
    parts: PartsSet, rows: Rows, pictures: dict[str, Picture]
) -> None:
    wrong = {(f.image, f.annotation_id) for f in parts.truth.of_kind("mislabeled", "mislocated", "spurious")}
    missing = {(f.image, f.object_id) for f in parts.truth.of_kind("missing")}
    differing, absent = set(), set()
    for file, picture in pictures.items():
        true = {annotation.id: annotation for annotation in picture.annotations}
        absent |= {(file, number) for number in true.keys() - rows[file].keys()}
        for number, row in rows[file].items():
            same = number in true and (NAMES[row["category_id"]], tuple(row["bbox"])) == (
                true[number].label,
                true[number].bbox,
            )
            if same:
                assert row["segmentation"] == {
                    "size": [picture.height, picture.width],
                    "counts": true[number].counts,
                }
                assert row["area"] == true[number].area
            else:
                differing.add((file, number))
    assert differing == wrong
    assert absent == missing


def test_one_fault_per_thing(parts: PartsSet) -> None:
    touched = Counter((fault.image, fault.object_id) for fault in parts.truth.faults if fault.object_id is not None)
    assert max(touched.values()) == 1
    trouble = {fault.image for fault in parts.truth.of_kind("dark", "blurry")}
    assert not trouble & {f.image for f in parts.truth.of_kind("mislabeled", "missing", "mislocated", "spurious")}


def test_wrong_labels(parts: PartsSet, rows: Rows, pictures: dict[str, Picture]) -> None:
    for fault in parts.truth.of_kind("mislabeled"):
        assert fault.annotation_id is not None
        row = rows[fault.image][fault.annotation_id]
        assert NAMES[row["category_id"]] == fault.given != fault.label == true_object(pictures, fault).label
        assert fault.given in PART_LABELS
        assert tuple(row["bbox"]) == fault.bbox


def test_missing_boxes_tell_where(parts: PartsSet, pictures: dict[str, Picture]) -> None:
    for fault in parts.truth.of_kind("missing"):
        assert fault.annotation_id is None
        true = true_object(pictures, fault)
        assert (true.label, true.bbox) == (fault.label, fault.bbox)


def test_shifted_boxes(parts: PartsSet, rows: Rows, pictures: dict[str, Picture]) -> None:
    faults = [fault for fault in originals(parts.truth, "mislocated") if not fault.detail]
    assert faults
    for fault in faults:
        assert fault.annotation_id is not None
        row, true = rows[fault.image][fault.annotation_id], true_object(pictures, fault)
        assert fault.bbox == true.bbox
        assert 0.2 <= iou(true.bbox, [tuple(row["bbox"])])[0] <= 0.6
        assert NAMES[row["category_id"]] == fault.given == fault.label == true.label
        mask = decode_mask(row["segmentation"]["counts"], *row["segmentation"]["size"])
        ys, xs = np.nonzero(mask)
        assert [xs.min(), ys.min(), xs.max() + 1 - xs.min(), ys.max() + 1 - ys.min()] == row["bbox"]


def test_spurious_boxes(parts: PartsSet, rows: Rows, pictures: dict[str, Picture]) -> None:
    for fault in parts.truth.of_kind("spurious"):
        assert fault.annotation_id is not None
        picture = pictures[fault.image]
        real = [a.bbox for a in picture.annotations if a.label in PART_LABELS]
        x, y, w, h = box = tuple(rows[fault.image][fault.annotation_id]["bbox"])
        assert fault.bbox == box
        assert fault.label is None
        if fault.detail == "drawn_twice":
            assert fault.related_annotation_id in rows[fault.image]
            assert rows[fault.image][fault.related_annotation_id]["bbox"] == list(box)
            continue
        assert x >= 0
        assert y >= 0
        assert x + w <= picture.width
        assert y + h <= picture.height
        assert iou(box, real).max() < 0.3
        if fault.detail == "background":
            assert covered(box, real).max() < 0.15


def test_impossible_boxes(parts: PartsSet, rows: Rows, pictures: dict[str, Picture]) -> None:
    for fault in parts.truth.of_kind("mislocated"):
        if not fault.detail:
            continue
        assert fault.annotation_id is not None
        x, _, w, h = rows[fault.image][fault.annotation_id]["bbox"]
        assert (w * h == 0) if fault.detail == "zero_area" else (x >= pictures[fault.image].width)


def test_copies(parts: PartsSet, pictures: dict[str, Picture]) -> None:
    for fault in parts.truth.of_kind(*COPIES):
        assert fault.related_image is not None
        copy, original = pictures[fault.image], pictures[fault.related_image]
        assert (copy.split == original.split) == (fault.kind != "leak" and fault.detail != "leak")
        same_bytes = (parts.root / copy.file).read_bytes() == (parts.root / original.file).read_bytes()
        assert same_bytes == (fault.kind == "exact_duplicate")
        thumbnails = [
            np.asarray(Image.fromarray(load_pixels(parts.root / file)).resize((16, 16)), dtype=float).ravel()
            for file in (copy.file, original.file)
        ]
        assert np.corrcoef(thumbnails)[0, 1] > 0.8
    assert len(parts.truth.copies(*COPIES)) == 9
    in_bursts = {file for files in parts.truth.bursts().values() for file in files}
    assert not in_bursts & {f.image for f in parts.truth.of_kind(*COPIES)}


def test_exact_copies_carry_their_originals_annotations_and_faults(parts: PartsSet, rows: Rows) -> None:
    def described(file: str) -> list[tuple[object, ...]]:
        return [(row["category_id"], tuple(row["bbox"]), str(row["segmentation"])) for row in rows[file].values()]

    def faults(file: str) -> list[tuple[object, ...]]:
        kinds = parts.truth.of_kind("mislabeled", "missing", "mislocated", "spurious")
        return [(f.kind, f.bbox, f.given, f.label, f.detail) for f in kinds if f.image == file]

    for fault in parts.truth.of_kind("exact_duplicate"):
        assert fault.related_image is not None
        assert described(fault.image) == described(fault.related_image)
        assert faults(fault.image) == faults(fault.related_image)


def test_lookup_by_image_and_annotation(parts: PartsSet) -> None:
    twice = next(fault for fault in parts.truth.of_kind("spurious") if fault.detail == "drawn_twice")
    found = parts.truth.wrong_annotations("spurious")
    assert twice.annotation_id is not None
    assert twice.related_annotation_id is not None
    assert found[twice.image, twice.annotation_id] is found[twice.image, twice.related_annotation_id] is twice
    assert set(found) & set(parts.truth.wrong_annotations("mislabeled")) == set()


def test_the_truth_file_reads_back(parts: PartsSet) -> None:
    assert load_truth(parts.root) == parts.truth


def test_a_broken_truth_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"truth\.json"):
        load_truth(tmp_path)
    (tmp_path / TRUTH_FILE).write_text('{"version": 99}')
    with pytest.raises(FormatError, match="version 99"):
        load_truth(tmp_path)


def test_a_rate_of_zero_plants_none(tmp_path: Path) -> None:
    rates = FaultRates(0.5, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    parts = make_parts(tmp_path / "labels", images=10, seed=2, faults=rates)
    boxes = sum(a.label in PART_LABELS for p in parts.truth.pictures for a in p.annotations)
    assert Counter(fault.kind for fault in parts.truth.faults) == {"mislabeled": round(boxes / 2)}


def test_predictions_are_those_of_a_good_detector(
    parts: PartsSet, pictures: dict[str, Picture], tmp_path: Path
) -> None:
    path = make_predictions(parts, seed=1, path=tmp_path / "predictions.json")
    results = json.loads(path.read_bytes())
    assert json.loads(make_predictions(parts, seed=1, path=tmp_path / "again.json").read_bytes()) == results
    by_image: dict[int, list[dict[str, Any]]] = {}
    for result in results:
        assert 0 < result["score"] < 1
        by_image.setdefault(result["image_id"], []).append(result)

    hits, right, scores, things, used = 0, 0, [], 0, 0
    for picture in pictures.values():
        found = by_image.get(picture.id, [])
        for thing in picture.annotations:
            if thing.label not in PART_LABELS:
                continue
            things += 1
            overlaps = iou(thing.bbox, [tuple(result["bbox"]) for result in found])
            if len(overlaps) and overlaps.max() >= 0.5:
                best = found[int(overlaps.argmax())]
                hits, used = hits + 1, used + 1
                if NAMES[best["category_id"]] == thing.label:
                    right += 1
                    scores.append(best["score"])
    assert 0.88 < hits / things < 0.995
    assert 0.90 < right / hits < 0.999
    assert 0.7 < np.median(scores) < 0.97
    worse = make_predictions(parts, seed=1, path=tmp_path / "worse.json", skill=0.5)
    assert sum(r["score"] > 0.5 for r in json.loads(worse.read_bytes())) < sum(r["score"] > 0.5 for r in results)
