"""The check `mistakes` on datasets: what it puts together, and the sets that break others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curate.checks.base import Result, Settings, run_check
from curate.checks.findings import Finding
from curate.checks.mistakes.run import CHECK
from curate.checks.store import set_status, stored_findings
from curate.dataset import begin, open_dataset
from curate.dataset.ids import annotation_ids, hash_texts, image_ids
from curate.dataset.schema import ANNOTATIONS, IMAGES
from curate.errors import UsageError
from curate.names import GROUND_TRUTH

NAME = "set"
Row = tuple[int, str | None, Sequence[float] | None, float | None]
"""Image number, label, box, score."""


def make_images(folder: Path, colors: Sequence[tuple[int, int, int]]) -> None:
    """Pictures of 48 x 48 pixels with a texture in a colour, and the dataset's images table."""
    random = np.random.default_rng(0)
    rows = []
    for number, color in enumerate(colors):
        pixels = np.array(color) + random.normal(0, 20, (48, 48, 1)) + random.normal(0, 6, 3)
        path = folder / f"{number:03d}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
        rows.append({"location": path.name, "path": str(path), "width": 48, "height": 48, "split": "train"})
    ids = image_ids(str(row["location"]) for row in rows).to_pylist()
    table = pa.Table.from_pylist(
        [{**row, "image_id": each} for each, row in zip(ids, rows, strict=True)], schema=IMAGES
    )
    with begin(NAME, command="make images", create=True) as transaction:
        transaction.append("images", [table])


def annotate(rows: Sequence[Row], classes: Sequence[str], layer: str = GROUND_TRUTH) -> None:
    """Add annotations; the n-th has the source id n."""
    images = open_dataset(NAME).table("images", columns=["location", "image_id"]).sort_by("location")
    hashes = hash_texts(images["location"].to_pylist())[[row[0] for row in rows]]
    ids = annotation_ids(hashes, layer, "test", keys=np.arange(len(rows), dtype=np.uint64)).to_pylist()
    contents = [
        {
            "annotation_id": each,
            "image_id": images["image_id"][image].as_py(),
            "layer": layer,
            "type": "label" if bbox is None else "box",
            "label": label,
            "bbox": bbox,
            "score": score,
            "source_id": str(number),
        }
        for number, (each, (image, label, bbox, score)) in enumerate(zip(ids, rows, strict=True))
    ]
    with begin(NAME, command="annotate") as transaction:
        transaction.append("annotations", [pa.Table.from_pylist(contents, schema=ANNOTATIONS)])
        transaction.classes = [{"name": name} for name in classes]


def run(*, predictions: Sequence[str] | None = None, **options: object) -> Result:
    settings = Settings(encoder="builtin", options={"predictions": predictions}, **options)  # type: ignore[arg-type]
    return run_check(CHECK, NAME, settings, command="curate mistakes")


def confused(mistakes: Result) -> list[Mapping[str, Any]]:
    return list(mistakes.digest["Classes confused"])


def flagged(mistakes: Result) -> list[Finding]:
    return [finding for finding in mistakes.findings if finding.score >= 0.5]


RED, GREEN = (180, 60, 60), (60, 170, 70)


def reds_and_greens(count: int) -> list[tuple[int, int, int]]:
    return [RED if number % 2 == 0 else GREEN for number in range(count)]


def labels_of(count: int, wrong: set[int]) -> list[Row]:
    return [(n, "red" if (n % 2 == 0) != (n in wrong) else "green", None, None) for n in range(count)]


def test_wrong_image_labels_come_first_with_evidence(tmp_path: Path) -> None:
    make_images(tmp_path, reds_and_greens(120))
    annotate(labels_of(120, {10, 33, 71}), ["red", "green"])
    mistakes = run()
    assert {finding.source_annotation_id for finding in mistakes.findings[:3]} == {"10", "33", "71"}
    assert {finding.source_annotation_id for finding in flagged(mistakes)} == {"10", "33", "71"}
    first = mistakes.findings[0]
    assert first.evidence["p_suggested"] > 0.9
    assert first.evidence["disagreeing"][0]["label"] == first.suggested
    assert all(neighbor["similarity"] <= 1.001 for neighbor in first.evidence["disagreeing"])
    assert [(pair["given"], pair["probably"], pair["flagged"]) for pair in confused(mistakes)[:2]] == [
        ("red", "green", 2),
        ("green", "red", 1),
    ]


def test_what_was_found_is_stored_in_one_commit(tmp_path: Path) -> None:
    make_images(tmp_path, reds_and_greens(40))
    annotate(labels_of(40, {7}), ["red", "green"])
    before = open_dataset(NAME).commit.number
    found = run().findings
    dataset = open_dataset(NAME)
    assert dataset.commit.number == before + 1
    assert dataset.count("findings") == len(found)
    assert dataset.commit.info["encoder"] == "builtin-v1"
    assert not list((dataset.path / "spool").rglob("*.arrow"))


def test_boxes_are_judged_by_their_crops(tmp_path: Path) -> None:
    make_images(tmp_path, reds_and_greens(80))
    boxes = [[4, 4, 20, 20], [24, 20, 20, 24]]
    rows: list[Row] = [
        (n, "red" if (n % 2 == 0) != ((n, k) in {(8, 0), (31, 1)}) else "green", boxes[k], None)
        for n in range(80)
        for k in range(2)
    ]
    annotate(rows, ["red", "green"])
    mistakes = run()
    assert {(f.kind, f.source_annotation_id) for f in mistakes.findings[:2]} == {
        ("mislabeled", "16"),
        ("mislabeled", "63"),
    }
    assert mistakes.findings[0].bbox in boxes


def test_impossible_boxes_need_no_model(tmp_path: Path) -> None:
    make_images(tmp_path, reds_and_greens(10))
    good: list[Row] = [(n, "part", [5, 5, 30, 30], None) for n in range(10)]
    bad: list[Row] = [
        (0, "part", [60, 60, 10, 10], None),
        (1, "part", [5, 5, 0, 10], None),
        (2, "part", [float("nan"), 5, 3, 10], None),
        (3, "part", [5, 5, 30, 30], None),
    ]
    annotate([*good, *bad], ["part"])
    found = {(finding.kind, finding.source_annotation_id) for finding in flagged(run())}
    assert {("mislocated", "10"), ("mislocated", "11"), ("mislocated", "12")} < found
    assert len(found & {("spurious", "3"), ("spurious", "13")}) == 1
    assert len(found) == 4


def test_predictions_show_missing_boxes(tmp_path: Path) -> None:
    make_images(tmp_path, reds_and_greens(60))
    boxes = [[2, 2, 18, 18], [26, 26, 18, 18]]
    annotate([(n, "part", boxes[k], None) for n in range(60) for k in range(2) if (n, k) != (17, 1)], ["part"])
    annotate([(n, "part", boxes[k], 0.95) for n in range(60) for k in range(2)], ["part"], "predictions/model")
    mistakes = run()
    first = mistakes.findings[0]
    assert (first.kind, first.image, first.bbox) == ("missing", "017.png", [26, 26, 18, 18])
    assert first.evidence["prediction"] == {
        "layer": "predictions/model",
        "bbox": [26, 26, 18, 18],
        "label": "part",
        "score": 0.95,
    }
    assert 0.5 < first.evidence["image_score"] <= 1
    assert run(predictions=[]).findings == []
    with pytest.raises(UsageError, match="no predictions layer 'predictions/other'"):
        run(predictions=["other"])


def test_images_that_cannot_be_read_are_named_and_left_out(tmp_path: Path) -> None:
    make_images(tmp_path, reds_and_greens(60))
    annotate(labels_of(60, {9}), ["red", "green"])
    (tmp_path / "003.png").write_bytes(b"not an image")
    (tmp_path / "004.png").unlink()
    mistakes = run()
    assert [finding.source_annotation_id for finding in flagged(mistakes)] == ["9"]
    assert any("2 of 60" in note and "003.png" in note for note in mistakes.notes)


def test_no_image_can_be_read(tmp_path: Path) -> None:
    make_images(tmp_path, reds_and_greens(6))
    annotate(labels_of(6, set()), ["red", "green"])
    for path in tmp_path.glob("*.png"):
        path.unlink()
    mistakes = run()
    assert mistakes.findings == []
    assert any("6 of 6" in note for note in mistakes.notes)


@pytest.mark.parametrize(
    "case", ["one class", "all equal", "one example", "no annotations", "no labels", "one image", "only a crowd"]
)
def test_sets_that_break_others(tmp_path: Path, case: str) -> None:
    count = 1 if case == "one image" else 12
    make_images(tmp_path, [RED] * count if case == "all equal" else reds_and_greens(count))
    cases: dict[str, list[Row]] = {
        "one class": [(n, "red", None, None) for n in range(count)],
        "all equal": [(n, "red" if n < 6 else "green", None, None) for n in range(count)],
        "one example": [(n, "red" if n else "green", None, None) for n in range(count)],
        "no annotations": [],
        "no labels": [(n, None, [3.0, 3.0, 20.0, 20.0], None) for n in range(count)],
        "one image": [(0, "red", None, None)],
        "only a crowd": [(0, "red", [3.0, 3.0, 20.0, 20.0], None)],
    }
    annotate(cases[case], ["red", "green", "never seen"])
    mistakes = run()
    assert all(0 <= finding.score <= 1 for finding in mistakes.findings)
    assert len(flagged(mistakes)) <= 1


def test_a_thousand_classes(tmp_path: Path) -> None:
    names = [f"class {n}" for n in range(1000)]
    make_images(tmp_path, reds_and_greens(60))
    annotate([(n, names[16 * n], None, None) for n in range(60)], names)
    assert flagged(run()) == []


def test_several_labels_of_one_image_are_not_compared_with_one_another(tmp_path: Path) -> None:
    make_images(tmp_path, reds_and_greens(30))
    annotate([*labels_of(30, set()), (0, "dusty", None, None), (1, "dusty", None, None)], ["red", "green", "dusty"])
    mistakes = run()
    assert flagged(mistakes) == []
    assert any("several labels" in note for note in mistakes.notes)


def test_predicted_image_labels_join_in(tmp_path: Path) -> None:
    make_images(tmp_path, [RED] * 60)  # alike: only the predictions know
    kinds = ["red", "ruby"]
    annotate([(n, kinds[(n % 2) ^ (n in {4, 21})], None, None) for n in range(60)], kinds)
    assert flagged(run()) == []
    annotate([(n, kinds[n % 2], None, 0.97) for n in range(60)], kinds, "predictions/model")
    assert {finding.source_annotation_id for finding in flagged(run())} == {"4", "21"}


def test_findings_that_were_not_looked_at_again_stay(tmp_path: Path) -> None:
    make_images(tmp_path, reds_and_greens(80))
    annotate(labels_of(80, {10, 33}), ["red", "green"])
    annotate([(n, "red", [1.0, 1.0, 0.0, 5.0], 0.9) for n in range(3)], ["red", "green"], "predictions/model")
    first = {finding.id for finding in flagged(run())}
    assert len(first) == 2
    for options in ({"where": "location = '000.png'"}, {"layer": "predictions/model"}, {"min_score": 1.0}):
        run(**options)
        assert first <= {finding.id for finding in stored_findings(open_dataset(NAME))}, options


def test_the_order_of_images_and_annotations_does_not_matter(tmp_path: Path) -> None:
    make_images(tmp_path, reds_and_greens(80))
    boxes = [[4.0, 4, 20, 20], [24.0, 20, 20, 24]]
    wrong = {(8, 0), (31, 1), (50, 0)}
    rows: list[Row] = [
        (n, "red" if (n % 2 == 0) != ((n, k) in wrong) else "green", boxes[k], None)
        for n in range(80)
        for k in range(2)
        if (n, k) != (17, 1)
    ]
    annotate(rows, ["red", "green"])
    seen: list[Row] = [
        (n, "red" if n % 2 == 0 else "green", boxes[k], 0.6 + n % 7 / 20) for n in range(80) for k in range(2)
    ]
    annotate(seen, ["red", "green"], "predictions/model")
    first = run(min_score=0.0).findings
    assert {"mislabeled", "missing"} <= {finding.kind for finding in first}
    for seed in range(3):
        random = np.random.default_rng(seed)
        with begin(NAME, command="shuffle") as transaction:
            for table in ("images", "annotations"):
                stored = transaction.read(table)
                transaction.overwrite(table, [stored.take(pa.array(random.permutation(stored.num_rows)))])
        assert run(min_score=0.0).findings == first


def test_running_again_makes_no_commit_and_keeps_when_a_finding_first_appeared(tmp_path: Path) -> None:
    make_images(tmp_path, reds_and_greens(80))
    annotate(labels_of(80, {10, 33}), ["red", "green"])
    first = run().findings
    number = open_dataset(NAME).commit.number
    assert run().findings == first
    assert open_dataset(NAME).commit.number == number
    set_status(NAME, "rejected", ids=[first[0].id], command="reject")
    again = run()
    assert {finding.commit for finding in again.findings} == {number}
    assert len(confused(again)) < 2 or confused(again)[0]["flagged"] == 1


def test_layers_and_probabilities_are_checked(tmp_path: Path) -> None:
    make_images(tmp_path, reds_and_greens(4))
    annotate(labels_of(4, set()), ["red", "green"])
    with pytest.raises(UsageError, match="no layer 'foo'"):
        run(layer="foo")
    with pytest.raises(UsageError, match="7 is not a probability"):
        run(min_score=7)


def test_predictions_without_a_confidence_are_left_out_by_name(tmp_path: Path) -> None:
    make_images(tmp_path, reds_and_greens(30))
    box = [2.0, 2.0, 30.0, 30.0]
    annotate([(n, "part", box, None) for n in range(30)], ["part"])
    scores = [None, 1.7, *[0.9] * 28]
    annotate([(n, "part", box, score) for n, score in enumerate(scores)], ["part"], "predictions/model")
    mistakes = run()
    assert "2 boxes of predictions/model have no confidence in [0, 1] and are left out" in mistakes.notes
    assert any("of one class" in note for note in mistakes.notes)


def test_where_must_choose_something(tmp_path: Path) -> None:
    make_images(tmp_path, reds_and_greens(4))
    with pytest.raises(UsageError, match="no images to check"):
        run(where="split = 'nothing'")
