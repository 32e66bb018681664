"""`curate evaluate` as a user types it."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from typer.testing import CliRunner

from curate.checks.evaluation.store import stored_evaluations
from curate.cli import app
from curate.dataset import begin, open_dataset
from curate.dataset.home import home
from curate.geometry import encode_rle, rle_areas
from curate.models.predictors.seen import SEEN, seen_table
from tests.checks.evaluation.coco_reference import NAMES

IMAGES = 30
SIZE = (240, 320)


def run(*arguments: object, status: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return result.stdout


def error(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return result.stderr


def evaluate(*arguments: object, status: int = 0) -> dict[str, list[dict[str, Any]]]:
    """What `--json` prints: rows by table, and findings."""
    lines = [
        json.loads(line) for line in run("evaluate", "-d", "set", *arguments, "--json", status=status).splitlines()
    ]
    found: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        found.setdefault(line["table"] if line["kind"] == "table" else "findings", []).append(line)
    return found


def boxes(rng: np.random.Generator) -> dict[str, Any]:
    """A COCO file with a few boxes on each image, some of them crowds, and two images without any."""
    annotations: list[dict[str, Any]] = []
    for image in range(2, IMAGES):
        for _ in range(int(rng.integers(1, 6))):
            width, height = rng.integers(10, 150, 2).tolist()
            x, y = int(rng.integers(0, SIZE[1] - width)), int(rng.integers(0, SIZE[0] - height))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image + 1,
                    "category_id": int(rng.choice([3, 7])),
                    "bbox": [x, y, width, height],
                    "area": width * height * 0.8,
                    "iscrowd": int(rng.random() < 0.05),
                }
            )
    return {
        "images": [
            {
                "id": k + 1,
                "file_name": f"{'night' if k % 3 else 'day'}/{k:03d}.jpg",
                "height": SIZE[0],
                "width": SIZE[1],
            }
            for k in range(IMAGES)
        ],
        "categories": [{"id": 3, "name": "bolt"}, {"id": 7, "name": "nut"}],
        "annotations": annotations,
    }


def results(truth: dict[str, Any], rng: np.random.Generator, jitter: float) -> list[dict[str, Any]]:
    """What a model finds: most boxes, moved, and some that are of nothing; scores with one digit, so that many are equal."""
    found = []
    for each in truth["annotations"]:
        if rng.random() < 0.85:
            box = np.array(each["bbox"]) + rng.normal(0, jitter, 4) * np.tile(each["bbox"][2:], 2)
            found.append({**each, "bbox": [*box[:2].tolist(), *np.maximum(box[2:], 1).tolist()]})
    for _ in range(25):
        image, category = int(rng.integers(1, IMAGES + 1)), int(rng.choice([3, 7]))
        found.append(
            {"image_id": image, "category_id": category, "bbox": [*rng.uniform(0, 150, 2).tolist(), 40.0, 40.0]}
        )
    kept = ("image_id", "category_id", "bbox")
    return [{**{key: each[key] for key in kept}, "score": round(float(rng.random()), 1)} for each in found]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Files, and a store with a dataset of labels and two layers of predictions, the first of which fits better."""
    root = tmp_path_factory.mktemp("detection")
    rng = np.random.default_rng(0)
    truth = boxes(rng)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATE_HOME", str(tmp_path_factory.mktemp("store")))
        (root / "truth").mkdir()
        (root / "truth" / "instances.json").write_text(json.dumps(truth))
        run("import", root / "truth", "-d", "set")
        for name, jitter in (("good", 0.03), ("poor", 0.15)):
            path = root / f"{name}.json"
            path.write_text(json.dumps(results(truth, rng, jitter)))
            run("import", path, "-d", "set", "--layer", f"predictions/{name}")
        return root, home()


@pytest.fixture
def detection(imported: tuple[Path, Path]) -> Path:
    """Folder of the files; the dataset is 'set'."""
    shutil.copytree(imported[1], home(), dirs_exist_ok=True)
    return imported[0]


def test_the_numbers_are_those_of_pycocotools_on_the_exported_files(detection: Path, tmp_path: Path) -> None:
    found = evaluate("--layer", "poor")["Evaluation"][0]
    run("export", tmp_path / "labels", "-d", "set", "--format", "coco")
    run(
        "export",
        tmp_path / "model",
        "-d",
        "set",
        "--format",
        "coco",
        "--variant",
        "results",
        "--layer",
        "predictions/poor",
    )
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(next((tmp_path / "labels").rglob("*.json"))))
        predicted = truth.loadRes(str(next((tmp_path / "model").rglob("*.json"))))
        reference = COCOeval(truth, predicted, "bbox")
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    for name, value in zip(NAMES, reference.stats, strict=True):
        assert found["metrics"][name] == (None if value == -1 else pytest.approx(value, abs=1e-12)), name
    assert found["images"] == IMAGES


def test_a_person_sees_metrics_classes_and_what_to_do_next(detection: Path) -> None:
    text = run("evaluate", "-d", "set", "--layer", "good", "--slices", "location LIKE 'night/%'")
    for word in (
        "AP50",
        "bolt",
        "nut",
        "location LIKE 'night/%'",
        "Confusion",
        "highest F1",
        "curate findings -d set --kind hard",
    ):
        assert word in text


def test_the_worst_images_are_findings_until_they_are_no_longer(detection: Path) -> None:
    found = evaluate("--layer", "poor", "--limit", "5")["findings"]
    assert len(found) == 5
    assert [each["score"] for each in found] == sorted((each["score"] for each in found), reverse=True)
    assert found[0]["evidence"]["model"] == "predictions/poor"
    assert "misses" in found[0]["evidence"]["why"]
    assert len(run("findings", "-d", "set", "--kind", "hard", "--json").splitlines()) == 5
    commits = open_dataset("set").commit.number
    assert evaluate("--layer", "poor", "--limit", "5")["findings"] == found
    assert open_dataset("set").commit.number == commits, "the same again is no change"
    better = evaluate("--layer", "good", "--limit", "2").get("findings", [])
    stored = [json.loads(line) for line in run("findings", "-d", "set", "--kind", "hard", "--json").splitlines()]
    assert {each["id"] for each in stored} == {each["id"] for each in better}
    evaluate("--layer", "poor", "--no-findings")
    assert len(run("findings", "-d", "set", "--kind", "hard", "--json").splitlines()) == len(better)


def test_two_layers_are_compared_on_the_same_images(detection: Path) -> None:
    found = evaluate("--layer", "good", "--against", "poor", "--slices", "location LIKE 'night/%'")
    rows = {(row["of"], row["name"]): row for row in found["Comparison"]}
    assert rows["all", "AP"]["verdict"] == "better"
    assert rows["all", "AP"]["low"] > 0
    assert {"bolt", "nut"} == {name for part, name in rows if part == "class"}
    assert ("slice", "location LIKE 'night/%'") in rows
    alone = evaluate("--layer", "poor", "--no-findings")["Evaluation"][0]["metrics"]["AP"]
    assert rows["all", "AP"]["against"] == pytest.approx(alone)
    other = evaluate("--layer", "poor", "--against", "good", "--fail-if-worse", status=1)
    assert other["Comparison"][0]["verdict"] == "worse"
    evaluate("--layer", "good", "--against", "poor", "--fail-if-worse")


def test_two_commits_are_compared(detection: Path) -> None:
    before = open_dataset("set").commit.number
    run("import", detection / "good.json", "-d", "set", "--layer", "predictions/poor")
    found = evaluate("--layer", "poor", "--against-commit", before)
    assert found["Evaluation"][0]["commit"] > before
    old = evaluate("--layer", "poor", "--commit", before)
    assert "findings" not in old
    first = next(row for row in found["Comparison"] if row["name"] == "AP")
    assert first["against"] == pytest.approx(old["Evaluation"][0]["metrics"]["AP"])


def test_what_evaluations_came_to_is_kept(detection: Path) -> None:
    found = evaluate("--layer", "good", "--against", "poor")
    kept = stored_evaluations(open_dataset("set"))
    assert [row["layer"] for row in kept] == ["predictions/good", "predictions/poor"]
    assert kept[0]["metrics"] == found["Evaluation"][0]["metrics"]
    assert kept[0]["classes"].keys() == {"bolt", "nut"}
    (only,) = stored_evaluations(open_dataset("set"), layer="predictions/poor")
    assert only["commit"] == 3
    columns = ("true", "predicted", "objects", "share_of_true")
    assert kept[0]["confusion"] == [{name: row[name] for name in columns} for row in found["Confusion"]]
    assert only["confusion"]


def test_an_evaluation_of_an_older_version_is_read_and_replaced(detection: Path) -> None:
    """It has no column of what is taken for what."""
    evaluate("--layer", "poor")
    (whole,) = stored_evaluations(open_dataset("set"))
    with begin("set", command="test") as transaction:
        older = transaction.read("evaluations").drop_columns(["confusion"])
        transaction.overwrite("evaluations", [older], older.schema)
    (known,) = stored_evaluations(open_dataset("set"))
    assert known == {**whole, "confusion": []}
    evaluate("--layer", "good")
    assert {row["layer"]: len(row["confusion"]) for row in stored_evaluations(open_dataset("set"))} == {
        "predictions/good": len(evaluate("--layer", "good")["Confusion"]),
        "predictions/poor": 0,
    }
    evaluate("--layer", "poor")
    assert whole in stored_evaluations(open_dataset("set"))


def test_a_metric_that_is_too_low_fails(detection: Path) -> None:
    evaluate("--layer", "good", "--fail-below", "ap50:0.2")
    result = CliRunner().invoke(app, ["evaluate", "-d", "set", "--layer", "good", "--fail-below", "AP:0.99"])
    assert result.exit_code == 1
    assert "failed: AP is" in result.stderr


def test_a_threshold_for_a_precision(detection: Path) -> None:
    found = evaluate("--layer", "good", "--precision", "0.7")
    row = found["Thresholds"][0]
    assert row["which"] == "precision 0.7"
    assert row["precision"] >= 0.7
    assert all("threshold" in each for each in found["Classes"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "several layers of predictions"),
        (["--layer", "nothing"], "no predictions layer 'predictions/nothing'"),
        (["--layer", "good", "--labels", "nothing"], "no layer 'nothing'"),
        (["--layer", "good", "--task", "dance"], "no task 'dance'"),
        (["--layer", "good", "--task", "segment"], "cannot be compared so"),
        (["--layer", "good", "--against", "good"], "compared with itself"),
        (["--layer", "good", "--against-commit", "99"], "no commit 99"),
        (["--layer", "good", "--where", "location = 'x'"], "no images"),
        (["--layer", "good", "--slices", "weather = 'rain'"], "--slices \"weather = 'rain'\""),
        (["--layer", "good", "--slices", "f(a, 'b'"], "not closed"),
        (["--layer", "good", "--precision", "1.5"], "not a probability"),
        (["--layer", "good", "--fail-below", "AP"], "no metric and value"),
        (["--layer", "good", "--fail-below", "ECE:0.1"], "lower ECE is better"),
        (["--layer", "good", "--fail-below", "beauty:1"], "no metric 'beauty'"),
        (["--layer", "good", "--fail-if-worse"], "nothing that it could be worse than"),
        (["--layer", "good", "--unlabelled", "maybe"], "cannot count as 'maybe'"),
    ],
)
def test_what_cannot_be_asked_is_told(detection: Path, arguments: list[str], says: str) -> None:
    before = open_dataset("set").commit.number
    assert says in error("evaluate", "-d", "set", *arguments)
    assert open_dataset("set").commit.number == before


@pytest.mark.parametrize("arguments", [["--fail-below", "top1:0.5"], ["--fail-if-worse"], ["-n", "-1"]])
def test_a_gate_that_cannot_be_is_told_before_anything_is_printed(detection: Path, arguments: list[str]) -> None:
    for layout in ([], ["--json"]):
        result = CliRunner().invoke(app, ["evaluate", "-d", "set", "--layer", "good", *arguments, *layout])
        assert (result.exit_code, result.stdout) == (2, "")


def test_models_that_saw_other_images_cannot_be_compared(tmp_path: Path) -> None:
    truth = boxes(np.random.default_rng(1))
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "instances.json").write_text(json.dumps(truth))
    run("import", tmp_path / "truth", "-d", "set")
    for name, image in (("first", 5), ("second", 6)):
        path = tmp_path / f"{name}.json"
        row = {"image_id": image, "category_id": 3, "bbox": [1, 1, 9, 9], "score": 0.5}
        path.write_text(json.dumps([row]))
        run("import", path, "-d", "set", "--layer", f"predictions/{name}")
    assert "no image that both have seen" in error("evaluate", "-d", "set", "--layer", "first", "--against", "second")


def test_images_on_which_the_model_found_nothing_count_if_it_has_seen_them(detection: Path) -> None:
    (found,) = evaluate("--layer", "good")["Evaluation"]
    dataset = open_dataset("set")
    images = dataset.table("images", columns=["image_id", "location"]).sort_by("location")["image_id"].to_pylist()
    said = dataset.table("annotations", columns=["image_id"], where="layer = 'predictions/good'")[
        "image_id"
    ].to_pylist()
    silent = [image for image in images if image not in set(said)]
    seen = [*sorted(set(said))[:10], *silent[:1]]
    columns = {"id": seen, "fingerprint": [""] * len(seen), "model": ["m"] * len(seen), "settings": ["{}"] * len(seen)}
    with begin("set", command="predict") as transaction:
        gone = transaction.read("annotations", where="layer = 'predictions/good'")
        gone = gone.filter(pc.invert(pc.is_in(gone["image_id"], pa.array(seen))))
        transaction.delete("annotations", "annotation_id", gone["annotation_id"].combine_chunks())
        transaction.append(seen_table("predictions/good"), [pa.table(columns, schema=SEEN)], SEEN)
    (now,) = evaluate("--layer", "good")["Evaluation"]
    assert found["images"] > now["images"] == len(seen)


def test_masks_of_objects_are_evaluated_as_pycocotools_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = boxes(rng)
    found = []
    for each in truth["annotations"]:
        x, y, width, height = each["bbox"]
        mask = np.zeros(SIZE, dtype=bool)
        mask[y : y + height, x : x + width] = True
        each["segmentation"] = {"counts": encode_rle(mask), "size": list(SIZE)}
        each["area"] = float(rle_areas([encode_rle(mask)], [SIZE])[0])
        moved = encode_rle(np.roll(mask, rng.integers(-6, 7, 2), (0, 1)))
        row = {"segmentation": {"counts": moved, "size": list(SIZE)}, "score": round(float(rng.random()), 1)}
        found.append({"image_id": each["image_id"], "category_id": each["category_id"], **row})
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "instances.json").write_text(json.dumps(truth))
    (tmp_path / "model.json").write_text(json.dumps(found))
    run("import", tmp_path / "truth", "-d", "set")
    run("import", tmp_path / "model.json", "-d", "set", "--layer", "predictions/model")
    mine = evaluate("--limit", "3")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "truth" / "instances.json"))
        reference = COCOeval(coco, coco.loadRes(str(tmp_path / "model.json")), "segm")
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    assert mine["Evaluation"][0]["task"] == "instances"
    for name, value in zip(NAMES, reference.stats, strict=True):
        assert mine["Evaluation"][0]["metrics"][name] == pytest.approx(value, abs=1e-12), name
    assert 1 <= len(mine["findings"]) <= 3


def test_classes_of_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [{"id": k + 1, "file_name": f"{k}.jpg", "height": 40, "width": 50} for k in range(8)]
    categories = [{"id": 1, "name": "road"}, {"id": 2, "name": "sky"}]
    layers: dict[str, list[dict[str, Any]]] = {"truth": [], "model": []}
    right = 0
    for image in images:
        split = int(rng.integers(10, 30))
        said = split + int(rng.integers(0, 5))
        right += 2000 - 50 * (said - split)
        for layer, at in (("truth", split), ("model", said)):
            for category in (1, 2):
                mask = np.zeros((40, 50), dtype=bool)
                mask[:at] = category == 1
                mask[at:] = category == 2
                text = encode_rle(mask)
                layers[layer].append(
                    {
                        "id": len(layers[layer]) + 1,
                        "image_id": image["id"],
                        "category_id": category,
                        "segmentation": {"counts": text, "size": [40, 50]},
                        "area": float(mask.sum()),
                        "bbox": [0, 0, 50, 40],
                        "iscrowd": 0,
                        **({"score": 0.9} if layer == "model" else {}),
                    }
                )
    for layer, rows in layers.items():
        (tmp_path / layer).mkdir()
        content = {"images": images, "categories": categories, "annotations": rows}
        (tmp_path / layer / "instances.json").write_text(json.dumps(content))
    run("import", tmp_path / "truth", "-d", "set")
    run("import", tmp_path / "model", "-d", "set", "--layer", "predictions/model")
    found = evaluate("--slices", "source_id < '5'")
    row = found["Evaluation"][0]
    assert row["task"] == "segment"
    assert row["metrics"]["pixel_accuracy"] == pytest.approx(right / (8 * 2000))
    assert {each["class"] for each in found["Classes"]} == {"road", "sky"}
    assert found["Slices"][0]["images"] == 4
    assert all(each["evidence"]["classes"] for each in found["findings"])


def test_labels_of_images(tmp_path: Path) -> None:
    header = "path,label,confidence\n"
    names = [f"{k:02d}.jpg" for k in range(40)]
    truth = ["cat" if k % 2 else "dog" for k in range(40)]
    said = ["cat" if k % 5 == 0 else label for k, label in enumerate(truth)]
    (tmp_path / "truth.csv").write_text(
        "path,label\n" + "".join(f"{a},{b}\n" for a, b in zip(names, truth, strict=True))
    )
    lines = "".join(f"{a},{b},0.8\n" for a, b in zip(names, said, strict=True))
    (tmp_path / "model.csv").write_text(header + lines)
    run("import", tmp_path / "truth.csv", "-d", "set")
    run("import", tmp_path / "model.csv", "-d", "set", "--layer", "predictions/model")
    found = evaluate()
    row = found["Evaluation"][0]
    assert row["task"] == "classify"
    assert row["metrics"]["top1"] == pytest.approx(36 / 40)
    assert {(each["true"], each["predicted"], each["images"]) for each in found["Confusion"]} == {("dog", "cat", 4)}
    assert {each["given"] for each in found["findings"]} == {"dog"}
    assert all(each["annotation_id"] for each in found["findings"])


def test_layers_of_different_types_cannot_be_compared(detection: Path, tmp_path: Path) -> None:
    lines = "".join(f"{'night' if k % 3 else 'day'}/{k:03d}.jpg,bolt,0.5\n" for k in range(IMAGES))
    (tmp_path / "labels.csv").write_text("path,label,confidence\n" + lines)
    run("import", tmp_path / "labels.csv", "-d", "set", "--layer", "predictions/labels")
    text = error("evaluate", "-d", "set", "--layer", "labels")
    assert "ground_truth holds box" in text
    assert "predictions/labels holds label" in text


def test_real_blood_cells_with_perturbed_predictions(shared_data: Path, tmp_path: Path) -> None:
    run("import", shared_data / "detection" / "bccd", "-d", "set")
    run("export", tmp_path / "coco", "-d", "set", "--format", "coco", "--where", "split = 'val'")
    run("import", tmp_path / "coco", "-d", "cells")
    truth = json.loads(next((tmp_path / "coco").rglob("*.json")).read_text())
    rng = np.random.default_rng(0)
    (tmp_path / "model.json").write_text(json.dumps(results_of(truth, rng)))
    run("import", tmp_path / "model.json", "-d", "cells", "--layer", "predictions/model")
    lines = [json.loads(line) for line in run("evaluate", "-d", "cells", "--json").splitlines()]
    metrics = next(line for line in lines if line.get("table") == "Evaluation")["metrics"]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(next((tmp_path / "coco").rglob("*.json"))))
        reference = COCOeval(coco, coco.loadRes(str(tmp_path / "model.json")), "bbox")
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    assert [metrics[name] for name in NAMES] == pytest.approx(reference.stats.tolist(), abs=1e-12)


def results_of(truth: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Most of the boxes of a COCO file, moved."""
    found = []
    for each in truth["annotations"]:
        if rng.random() < 0.9:
            box = np.array(each["bbox"]) + rng.normal(0, 0.06, 4) * np.tile(each["bbox"][2:], 2)
            score = round(float(rng.random()), 2)
            row = {"image_id": each["image_id"], "category_id": each["category_id"], "score": score}
            found.append({**row, "bbox": np.r_[box[:2], np.maximum(box[2:], 1)].tolist()})
    return found
