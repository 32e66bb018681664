"""Predictions as a layer: full-size coordinates, only what is new, what a killed run left, who says what."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from curate.checks.labels import load_labels, load_predictions
from curate.dataset import begin, open_dataset
from curate.dataset.query import in_layer
from curate.errors import InputError, UsageError
from curate.formats.importing import import_source
from curate.geometry import decode_rle
from curate.models.passes import Progress
from curate.models.predictors.base import Objects, Options, Prediction
from curate.models.predictors.layer_store import LayerUpdate, layer_name
from curate.models.predictors.layers import predict_dataset, write_predictions
from curate.models.predictors.predict import PredictResult, Request, layer_counts, predict
from curate.models.predictors.registry import load_predictor
from curate.models.predictors.seen import seen_images, seen_table
from tests.models import colour_predictor
from tests.models.colour_predictor import EXTENT, paint, predicted

LAYER = "predictions/colours"


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    colour_predictor.register(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images, of which one is black and one is no image."""
    folder = tmp_path / "toys"
    paint(folder / "a.png", {"red": (4, 8, 16, 12)})
    paint(folder / "b.png", {"red": (0, 0, 8, 8), "green": (32, 32, 16, 24)})
    paint(folder / "c.png", {"blue": (10, 10, 4, 4)})
    paint(folder / "black.png", {})
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:60])
    import_source("toys", folder, format="imagefolder", command="test")
    return folder


def run(
    model: str = "colours:detect", layer: str = LAYER, progress: Progress | None = None, **more: Any
) -> PredictResult:
    result = predict("toys", model, Request(layer, **more), command="test", progress=progress)
    assert isinstance(result, PredictResult)
    return result


def found(layer: str = LAYER) -> dict[str, list[tuple[Any, Any]]]:
    """Label and box of what a layer has on each image."""
    dataset = open_dataset("toys")
    names = dict(zip(*(dataset.table("images")[name].to_pylist() for name in ("image_id", "location")), strict=True))
    rows = dataset.table("annotations", where=in_layer(layer)).to_pylist()
    out: dict[str, list[tuple[Any, Any]]] = {}
    for row in rows:
        out.setdefault(names[row["image_id"]], []).append((row["label"], row["bbox"]))
    return out


def seen(layer: str = LAYER) -> int:
    rows = seen_images(open_dataset("toys"), layer)
    return -1 if rows is None else rows.num_rows


def test_objects_go_to_a_layer_and_what_was_seen_is_kept(folder: Path) -> None:
    result = run()
    assert found() == {
        "a.png": [("red", [4, 8, 16, 12])],
        "b.png": [("red", [0, 0, 8, 8]), ("green", [32, 32, 16, 24])],
        "c.png": [("blue", [10, 10, 4, 4])],
    }
    update = result.update
    assert (update.images, update.predicted, update.reused, update.objects) == (5, 4, 0, 4)
    assert [Path(each.path or "").name for each in update.left_out] == ["broken.png"]
    assert seen() == 4
    assert [(each.label, each.objects, each.images) for each in result.classes] == [
        ("red", 2, 2),
        ("blue", 1, 1),
        ("green", 1, 1),
    ]
    assert result.classes[0].mean_score == pytest.approx(0.9)
    dataset = open_dataset("toys")
    assert [info["name"] for info in dataset.commit.classes] == ["red", "green", "blue"]
    row = dataset.table("annotations").to_pylist()[0]
    np.testing.assert_allclose(row["probabilities"], [0.9, 0.05, 0.05], atol=1e-6)
    assert not list((dataset.path / "spool").glob("*")) or not list((dataset.path / "spool").rglob("part-*"))


def test_only_new_and_changed_images_are_predicted(folder: Path) -> None:
    run()
    commit = open_dataset("toys").commit.number
    predicted.clear()
    again = run()
    assert (again.update.predicted, again.update.reused, predicted) == (0, 4, [])
    assert again.commit == commit  # nothing is new: no commit
    paint(folder / "a.png", {"green": (1, 2, 30, 4)})
    paint(folder / "d.png", {"red": (0, 0, 2, 2)})
    import_source("toys", folder, format="imagefolder", command="test")
    more = run()
    assert (more.update.predicted, more.update.reused, sum(predicted)) == (2, 3, 2)
    assert found()["a.png"] == [("green", [1, 2, 30, 4])]
    assert found()["d.png"] == [("red", [0, 0, 2, 2])]
    assert seen() == 5
    assert len(found()) == 4


def test_coordinates_are_those_of_the_full_image_whatever_was_decoded(tmp_path: Path) -> None:
    """JPEGs that are decoded at a quarter of their size, one of them stored lying on its side."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    paint(tmp_path / "toys" / "big.jpg", {"red": (64, 128, 256, 192)}, (1024, 512), quality=95)
    paint(tmp_path / "toys" / "turned.jpg", {"green": (64, 128, 256, 192)}, (1024, 512), quality=95, exif=exif)
    import_source("toys", tmp_path / "toys", format="imagefolder", command="test")
    for task in ("detect", "instances", "segment"):
        layer = f"predictions/{task}"
        run(f"colours:{task}/64", layer)
        boxes = found(layer)
        # What was row 128 from the top, of 512, is column 512 - 128 - 192 from the left.
        np.testing.assert_allclose(boxes["big.jpg"][0][1], [64, 128, 256, 192], atol=8)
        np.testing.assert_allclose(boxes["turned.jpg"][0][1], [192, 64, 192, 256], atol=8)
    rows = open_dataset("toys").table("annotations", where=in_layer("predictions/segment")).to_pylist()
    assert sorted(row["rle_size"] for row in rows) == [[512, 1024], [1024, 512]]
    area = decode_rle(rows[0]["rle"], rows[0]["rle_size"]).sum()
    assert area == pytest.approx(256 * 192, rel=0.05)


def test_images_whose_size_the_dataset_does_not_know(folder: Path) -> None:
    with begin("toys", command="test") as transaction:
        images = transaction.read("images")
        for name in ("width", "height"):
            place = images.column_names.index(name)
            images = images.set_column(place, images.schema.field(name), pc.if_else(False, images[name], None))
        transaction.overwrite("images", [images])
    run("colours:instances")
    assert found()["b.png"][1] == ("green", [32, 32, 16, 24])


def test_the_whole_image_is_labelled_by_a_classifier(folder: Path) -> None:
    result = run("colours:classify")
    rows = open_dataset("toys").table("annotations").to_pylist()
    assert {row["type"] for row in rows} == {"label"}
    assert {row["bbox"] for row in rows} == {None}
    assert [(each.label, each.objects) for each in result.classes] == [("blue", 1), ("green", 1), ("red", 1)]
    assert seen() == 4  # black.png too, of which it says nothing


def test_a_model_that_gives_depths_makes_no_layer(folder: Path) -> None:
    with begin("toys", command="test") as transaction, pytest.raises(UsageError, match="makes no annotations"):
        predict_dataset(transaction, load_predictor("colours:depth"), layer=LAYER)


def test_an_interrupted_run_goes_on_where_it_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(done: int, total: int) -> None:
        if done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(batch_size=1, progress=interrupt)
    assert open_dataset("toys").commit.number == 1
    first = sum(predicted)
    assert 2 <= first < 4
    result = run(batch_size=1)
    assert sum(predicted) == 4
    assert (result.update.predicted, result.update.reused) == (4, 0)
    assert len(found()) == 3
    assert not list((open_dataset("toys").path / "spool").rglob("part-*"))


def test_a_narrow_run_leaves_what_a_wider_one_has_finished(folder: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(batch_size=1, progress=interrupt)
    narrow = run(where="location = 'a.png'")
    assert (narrow.update.images, narrow.update.predicted, set(found())) == (1, 1, {"a.png"})
    count = sum(predicted)
    assert run().update.predicted == 3
    assert sum(predicted) == 4
    assert count <= 4


KILLED = """
import os, signal, sys
import pytest
from curate.models.predictors.predict import Request, predict
from tests.models import colour_predictor

colour_predictor.register(pytest.MonkeyPatch())
original = colour_predictor.ColourPredictor.predict
calls = 0

def counted(self, prepared):
    global calls
    calls += 1
    if calls == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, prepared)

colour_predictor.ColourPredictor.predict = counted
import curate.models.spool as spool
spool._PART_ROWS = 1
predict("toys", "colours:instances", Request("colours", batch_size=1), command="test")
"""


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    for number in range(12):
        paint(tmp_path / "toys" / f"{number:02d}.png", {"red": (number, 0, 8, 8)})
    import_source("toys", tmp_path / "toys", format="imagefolder", command="test")
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=root, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert open_dataset("toys").commit.number == 1
    result = run("colours:instances", batch_size=1)
    assert sum(predicted) == 12 - 4
    assert result.update.predicted == 12
    assert found() == {f"{number:02d}.png": [("red", [number, 0, 8, 8])] for number in range(12)}


def test_another_model_or_other_settings_are_refused_unless_they_replace(folder: Path) -> None:
    run()
    with pytest.raises(UsageError, match=r"colours:detect@1, not colours:classify@1.*--replace.*--layer"):
        run("colours:classify")
    with pytest.raises(UsageError, match=r"min_score 0.05, now 0.85"):
        run(options=Options(min_score=0.85))
    with pytest.raises(UsageError, match=r"classes \(red was red, is blue\)"):
        run(told={"red": "blue"})
    result = run(options=Options(min_score=0.85), replace=True)
    assert result.update.predicted == 4
    assert {label for rows in found().values() for label, _ in rows} == {"red"}
    assert seen() == 4
    with begin("toys", command="test") as transaction:
        transaction.delete(
            "annotations", "annotation_id", transaction.read("annotations")["annotation_id"].combine_chunks()
        )
    assert found() == {}


def test_what_replacing_takes_away_elsewhere_is_told(folder: Path) -> None:
    run()
    result = run(replace=True, where="location IN ('a.png', 'broken.png')")
    assert set(found()) == {"a.png"}
    # Of b, c, and black, where there was nothing to be found; the broken one was never seen.
    assert result.update.emptied == result.to_json()["emptied"] == 3
    (note,) = [note for note in result.notes if "--replace" in note]
    assert "3 other images" in note
    run("extent:x", "predictions/masks", boxes_from=LAYER)
    masks = run("extent:x", "predictions/masks", boxes_from=LAYER, replace=True, where="location = 'a.png'")
    assert masks.update.emptied == 4  # the broken one too: it had no boxes, so there was nothing to read it for
    again = run(replace=True)
    assert again.update.emptied == 0
    assert not any("--replace" in note for note in again.notes)


def test_an_imported_layer_is_refused_unless_it_is_replaced(folder: Path) -> None:
    with begin("toys", command="test") as transaction:
        ids = transaction.read("images")["image_id"].to_pylist()
        box = Objects((64, 64), np.ones((1, 4)), np.zeros(1, np.int64), np.ones(1))
        write_predictions(transaction, "imported", ids[:1], [box], ["thing"], model="elsewhere")
        transaction._versions.pop(seen_table("predictions/imported"))
    with pytest.raises(UsageError, match="imported"):
        run(layer="imported", keep_unmapped=True)
    run(layer="imported", keep_unmapped=True, replace=True)
    assert set(found("predictions/imported")) == {"a.png", "b.png", "c.png"}


def test_the_same_command_goes_on_with_classes_that_the_first_run_took_over(folder: Path) -> None:
    run(told={"red": "warm"}, where="location = 'a.png'")
    assert [info["name"] for info in open_dataset("toys").commit.classes] == ["warm"]
    for told in ({}, {"red": "warm"}):  # with and without saying it again
        run(told=told)
    assert {label for rows in found().values() for label, _ in rows} == {"warm", "green", "blue"}
    assert [info["name"] for info in open_dataset("toys").commit.classes] == ["warm", "green", "blue"]


def test_undo_takes_predictions_back(folder: Path) -> None:
    from curate.dataset.store import undo

    run()
    undo("toys", command="test")
    assert (found(), seen()) == ({}, -1)
    assert run().update.predicted == 4


def test_classes_are_mapped_merged_and_left_out(folder: Path) -> None:
    with begin("toys", command="test") as transaction:
        transaction.classes = [{"name": name} for name in ("sky", "warm")]
    with pytest.raises(UsageError, match="no class in common"):
        run()
    result = run(told={"red": "warm", "green": "warm"})
    assert {label for rows in found().values() for label, _ in rows} == {"warm"}
    assert result.update.dropped == {"blue": 1}
    assert any("1 thing found but left out" in line and "blue 1" in line for line in result.notes)
    rows = open_dataset("toys").table("annotations", where=in_layer(LAYER)).to_pylist()
    assert {len(row["probabilities"]) for row in rows} == {2}
    np.testing.assert_allclose(rows[0]["probabilities"], [0, 0.95], atol=1e-6)


def test_kept_classes_are_added_only_where_they_are_found(folder: Path) -> None:
    with begin("toys", command="test") as transaction:
        transaction.classes = [{"name": "red"}]
    run(keep_unmapped=True, where="location <> 'b.png'")
    names = [info["name"] for info in open_dataset("toys").commit.classes]
    assert names == ["red", "blue"]
    rows = open_dataset("toys").table("annotations", where=in_layer(LAYER)).to_pylist()
    assert [(row["label"], len(row["probabilities"])) for row in rows] == [("red", 2), ("blue", 2)]
    np.testing.assert_allclose(rows[1]["probabilities"], [0.05, 0.9], atol=1e-6)
    run(keep_unmapped=True)
    assert [info["name"] for info in open_dataset("toys").commit.classes] == ["red", "blue", "green"]
    dataset = open_dataset("toys")
    labels = load_labels(dataset, LAYER, None)
    probabilities = labels.probabilities(labels.boxed)
    assert probabilities is not None  # those of before are read with 0 for the class that came later
    red = probabilities[labels.label == 0]
    np.testing.assert_allclose(sorted(red.tolist()), [[0.9, 0.05, 0], [0.9, 0.05, 0.05]], atol=1e-6)


def test_checks_know_what_a_model_has_seen(folder: Path) -> None:
    run(where="location IN ('a.png', 'black.png')")
    dataset = open_dataset("toys")
    labels = load_labels(dataset, "ground_truth", None)
    model = load_predictions(dataset, labels, [LAYER], [])[LAYER]
    covered = labels.images["location"].take(labels.covered_by(model)).to_pylist()
    assert sorted(covered) == ["a.png", "black.png"]


def test_not_one_image_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "toys").mkdir()
    paint(tmp_path / "toys" / "a.png", {})
    import_source("toys", tmp_path / "toys", format="imagefolder", command="test")
    (tmp_path / "toys" / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match="not one of 1 image can be read"):
        run()
    with pytest.raises(UsageError, match="no images to predict on"):
        run(where="location = 'z'")


def test_predictions_from_elsewhere_one_model_a_fold(folder: Path) -> None:
    def update(rows: slice, model: str) -> LayerUpdate:
        with begin("toys", command="test") as transaction:
            ids = transaction.read("images").sort_by("location")["image_id"].to_pylist()[rows]
            predictions = (box(k) for k in range(len(ids)))
            return write_predictions(transaction, "oof", ids, predictions, ["thing"], model=model)

    def box(k: int) -> Prediction:
        return Objects((32, 32), np.array([[k, 0, 2, 2.0]]), np.zeros(1, np.int64), np.ones(1))

    first, second = update(slice(0, 2), "run:x/fold-0"), update(slice(2, 5), "run:x/fold-1")
    assert (first.predicted, second.predicted, seen("predictions/oof")) == (2, 3, 5)
    assert found("predictions/oof")["a.png"] == [("thing", [0, 0, 4, 4])]
    assert len(found("predictions/oof")) == 5
    again = update(slice(0, 2), "run:x/fold-0")
    assert (again.predicted, seen("predictions/oof")) == (2, 5)
    assert sum(map(len, found("predictions/oof").values())) == 5
    with begin("toys", command="test") as transaction, pytest.raises(InputError, match="does not have"):
        write_predictions(transaction, "oof", ["0" * 16, *_ids()], iter([]), ["thing"], model="m")


def _ids() -> Iterator[str]:
    yield from open_dataset("toys").table("images")["image_id"].to_pylist()[:1]


def test_out_of_fold_predictions_of_several_predictors_in_one_commit(folder: Path) -> None:
    with begin("toys", command="test") as transaction:
        transaction.classes = [{"name": name} for name in ("red", "green", "blue")]
        ids = transaction.read("images").sort_by("location")["image_id"].to_pylist()
        for fold, chosen in enumerate((ids[:2], ids[2:])):
            model = load_predictor("colours:detect")
            model.name = f"run:x/fold-{fold}"
            predict_dataset(transaction, model, layer="predictions/oof", ids=chosen)
    assert set(found("predictions/oof")) == {"a.png", "b.png", "c.png"}
    assert seen("predictions/oof") == 4
    rows = seen_images(open_dataset("toys"), "predictions/oof")
    assert rows is not None
    assert set(rows["model"].to_pylist()) == {"run:x/fold-0", "run:x/fold-1"}


def test_boxes_become_masks(folder: Path) -> None:
    run()
    result = run("extent:x", "predictions/masks", boxes_from=LAYER)
    rows = open_dataset("toys").table("annotations", where=in_layer("predictions/masks")).to_pylist()
    assert sorted((row["type"], row["label"]) for row in rows) == [("mask", "green"), ("mask", "red"), ("mask", "red")]
    assert found("predictions/masks") == {name: boxes for name, boxes in found().items() if name != "c.png"}
    assert sorted(EXTENT.calls) == [1, 1, 2]  # those of one image at a time
    assert {row["score"] for row in rows} == {0.8, 0.9}
    assert result.update.predicted == 5  # those without boxes too: there is nothing on them
    assert result.notes == ["1 box without masks, as the model cannot take their images: blue things cannot be taken"]


def test_masks_are_made_again_where_a_box_was_moved(folder: Path) -> None:
    run()
    run("extent:x", "predictions/masks", boxes_from=LAYER)
    EXTENT.calls.clear()
    assert run("extent:x", "predictions/masks", boxes_from=LAYER).update.predicted == 0
    with begin("toys", command="test") as transaction:
        boxes = transaction.read("annotations", where=f"{in_layer(LAYER)} AND label = 'green'")
        bbox = boxes.schema.field("bbox")
        moved = boxes.set_column(boxes.column_names.index("bbox"), bbox, pa.array([[34.0, 32, 16, 24]], bbox.type))
        transaction.upsert("annotations", moved, "annotation_id")
    more = run("extent:x", "predictions/masks", boxes_from=LAYER)
    # The other box on its image was not moved, but an image's masks are made together.
    assert (more.update.predicted, more.update.reused, EXTENT.calls) == (1, 4, [2])
    assert found("predictions/masks")["b.png"] == [("red", [0, 0, 8, 8]), ("green", [34, 32, 14, 24])]


@pytest.mark.parametrize("fault", ["no_boxes", "same", "no_segmenter", "no_boxes_from"])
def test_wrong_use_of_boxes(folder: Path, fault: Literal["no_boxes", "same", "no_segmenter", "no_boxes_from"]) -> None:
    run()
    model = "colours:detect" if fault == "no_segmenter" else "extent:x"
    boxes = {"no_boxes": "ground_truth", "no_boxes_from": None}.get(fault, LAYER)
    with pytest.raises(UsageError):
        run(model, LAYER if fault == "same" else "predictions/masks", boxes_from=boxes)


def test_a_layer_of_boxes_goes_by_its_short_name(folder: Path) -> None:
    run()
    run("extent:x", "predictions/masks", boxes_from="colours")
    assert set(found("predictions/masks")) == {"a.png", "b.png"}
    assert run("extent:x", "predictions/masks", boxes_from=LAYER).update.predicted == 0
    with pytest.raises(UsageError, match="where their boxes are"):
        run("extent:x", LAYER, boxes_from="colours")


def test_a_layer_of_boxes_that_is_not_there_and_one_without_boxes(folder: Path) -> None:
    run()
    run(layer="predictions/nothing", options=Options(min_score=0.95))
    with pytest.raises(UsageError, match=r"there is no layer 'detr'.*layers: .*predictions/colours"):
        run("extent:x", "predictions/masks", boxes_from="detr")
    for boxes in ("ground_truth", "predictions/nothing", "nothing"):
        with pytest.raises(UsageError, match="has no boxes on these images"):
            run("extent:x", "predictions/masks", boxes_from=boxes)


@pytest.mark.parametrize("text", ["../../evil", "a/../b", "predictions/..", "a\\..\\b", "./a", "a//b", "", " ", "all"])
def test_a_layer_cannot_have_such_a_name(text: str) -> None:
    with pytest.raises(UsageError, match="cannot be a layer of predictions"):
        layer_name(text)


def test_a_layers_name_is_a_folders() -> None:
    assert seen_table("predictions/yolox_nano") == "predicted/yolox_nano"
    assert seen_table("predictions/a:b") != seen_table("predictions/a-b")
    assert "/" not in seen_table("predictions/a/b").removeprefix("predicted/")


def test_counts_of_a_layer_without_scores(folder: Path) -> None:
    with begin("toys", command="test") as transaction:
        ids = transaction.read("images")["image_id"].to_pylist()
        nothing = Objects((4, 4), np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))
        write_predictions(transaction, "empty", ids, [nothing] * len(ids), ["thing"], model="m")
    assert layer_counts(open_dataset("toys"), "predictions/empty") == []
    assert seen("predictions/empty") == 5
