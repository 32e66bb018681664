"""`curate predict` as a user runs it: a real detector, results files, what is printed, and clear errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from curate.cli import app
from curate.dataset import begin, open_dataset
from curate.dataset.query import in_layer
from curate.geometry import encode_rle
from tests.models import colour_predictor
from tests.models.colour_predictor import paint

RACCOONS = 24


def curate(*arguments: str | Path, status: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return result


def predict(*arguments: str | Path, dataset: str = "toys") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(curate("predict", "-d", dataset, "--json", *arguments).stdout)
    return found


def rows(layer: str, dataset: str = "toys") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = open_dataset(dataset).table("annotations", where=in_layer(layer)).to_pylist()
    return found


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images and a class, in YOLO's layout, which gives images no ids."""
    colour_predictor.register(monkeypatch)
    folder = tmp_path / "toys"
    paint(folder / "images" / "one.png", {"red": (4, 8, 16, 12), "blue": (40, 40, 8, 8)})
    paint(folder / "images" / "0002.png", {"green": (2, 2, 20, 20)})
    (folder / "labels").mkdir()
    (folder / "labels" / "one.txt").write_text("0 0.1875 0.21875 0.25 0.1875\n")
    (folder / "labels" / "0002.txt").write_text("")
    (folder / "data.yaml").write_text("train: images\nval: images\nnames: [Reds]\n")
    curate("import", folder, "-d", "toys")
    return folder


@pytest.fixture
def raccoons(shared_data: Path, tmp_path: Path) -> list[str | Path]:
    """Some photographs, and what to say to find raccoons on them with a detector that knows none."""
    folder = tmp_path / "raccoons"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    source = shared_data / "detection" / "raccoon"
    for path in sorted((source / "images").glob("*.jpg"))[:RACCOONS]:
        shutil.copy(path, folder / "images")
        shutil.copy(source / "annotations" / f"{path.stem}.xml", folder / "annotations")
    curate("import", folder, "-d", "raccoons")
    return [
        "--model",
        f"onnx:{shared_data / 'models' / 'yolox_nano.onnx'}",
        "--map",
        "cat=raccoon,dog=raccoon,bear=raccoon",
    ]


def test_a_real_detector_finds_what_people_labelled(raccoons: list[str | Path]) -> None:
    found = predict(*raccoons, dataset="raccoons")
    assert (found["layer"], found["images"], found["predicted"]) == ("predictions/yolox_nano", RACCOONS, RACCOONS)
    assert found["mapping"] == {"cat": "raccoon", "dog": "raccoon", "bear": "raccoon"}
    assert found["dropped"]["person"] > 0
    truth = {row["image_id"]: row["bbox"] for row in rows("ground_truth", "raccoons")}
    best = {
        row["image_id"]: row for row in sorted(rows("predictions/yolox_nano", "raccoons"), key=lambda row: row["score"])
    }
    hits = [image for image, row in best.items() if iou(row["bbox"], truth[image]) > 0.5]
    assert len(hits) > 0.8 * RACCOONS
    assert all(0 < row["probabilities"][0] <= 1 for row in best.values())
    again = predict(*raccoons, dataset="raccoons")
    assert (again["predicted"], again["reused"], again["commit"]) == (0, RACCOONS, found["commit"])
    checked = curate("mistakes", "-d", "raccoons", "--json", "--min-score", "0").stdout
    assert any(json.loads(line)["kind"] in {"missing", "spurious", "mislocated"} for line in checked.splitlines())


def test_without_a_common_class_it_says_what_to_do(raccoons: list[str | Path]) -> None:
    result = curate("predict", "-d", "raccoons", *raccoons[:2], status=2)
    assert "no class in common: person, bicycle" in result.stderr
    assert "against raccoon" in result.stderr
    assert "--map 'MODEL_CLASS=DATASET_CLASS'" in result.stderr


def iou(one: list[float], other: list[float]) -> float:
    sides = [max(0.0, min(one[k] + one[k + 2], other[k] + other[k + 2]) - max(one[k], other[k])) for k in (0, 1)]
    both = sides[0] * sides[1]
    return both / (one[2] * one[3] + other[2] * other[3] - both)


def test_what_a_person_reads(toys: Path) -> None:
    result = curate("predict", "-d", "toys", "--model", "colours:detect", "--layer", "colours", "--min-score", "0.75")
    assert "predictions/colours: 2 images predicted with colours:detect@1, 1 annotation" in result.stdout
    assert result.stdout.split("\n")[-2].split() == ["Reds", "1", "1", "0.9"]
    assert "1 of the model's 3 classes are used: red as 'Reds'" in result.stderr
    assert "no such class: green, blue; --keep-unmapped" in result.stderr
    assert "1 thing found but left out" in result.stderr
    assert "predict" in curate("history", "-d", "toys").stdout


def test_options_reach_the_model_and_the_layer(toys: Path, tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text("green: Reds\nred:\n")
    found = predict("-m", "colours:detect", "--layer", "x", "--map", str(tmp_path / "map.yaml"), "--map", "blue=Reds")
    assert found["mapping"] == {"green": "Reds", "blue": "Reds"}
    assert sorted(row["bbox"] for row in rows("predictions/x")) == [[2, 2, 20, 20], [40, 40, 8, 8]]
    predict("-m", "colours:detect", "--layer", "y", "--keep-unmapped", "--where", "location LIKE '%one%'")
    assert sorted(row["label"] for row in rows("predictions/y")) == ["Reds", "blue"]
    assert predict("-m", "colours:detect", "--layer", "x", "--replace")["mapping"] == {"red": "Reds", "blue": "blue"}
    assert sorted(row["label"] for row in rows("predictions/x")) == ["Reds", "blue"]
    assert predict("-m", "extent:x", "--layer", "masks", "--boxes-from", "ground_truth")["objects"] == 1
    assert [row["type"] for row in rows("predictions/masks")] == ["mask"]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--model", "colours"], 2, "does not name a model"),
        (["--model", "colours:"], 2, "does not name a model"),
        (["--model", "nonsense:x"], 2, "there is no predictor named 'nonsense'"),
        (["--model", "colours:detect", "--map", "red"], 2, "does not map a class"),
        (["--model", "colours:detect", "--map", "orange=Reds"], 2, "the model has no class 'orange'"),
        (["--model", "colours:detect", "--map", "red=Redds"], 2, "the dataset has no class 'Redds'"),
        (["--model", "colours:detect", "--layer", "ground_truth"], 2, "cannot be a layer of predictions"),
        (["--model", "colours:detect", "--where", "nonsense"], 2, "the condition cannot be understood"),
        (["--model", "colours:depth", "--layer", "x"], 2, "--layer has no meaning for a model that estimates depth"),
        (["--model", "extent:x"], 2, "--boxes-from"),
        (["--model", "colours:detect", "--boxes-from", "ground_truth"], 2, "does not turn boxes into masks"),
        (["--model", "results:nowhere.json"], 2, "no such file of results"),
        (["--model", "results:"], 2, "does not name a model"),
        (["--model", "results:a.json", "--map", "a=b"], 2, "leave out --map"),
        (["--model", "results:a.json", "--replace"], 2, "leave out --replace"),
        (["--model", "colours:detect", "--min-score", "2"], 2, "--min-score"),
    ],
)
def test_wrong_use(toys: Path, arguments: list[str], status: int, says: str) -> None:
    result = curate("predict", "-d", "toys", *arguments, status=status)
    assert says in result.stderr
    assert open_dataset("toys").commit.number == 1


def test_a_dataset_that_is_not_there_or_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    colour_predictor.register(monkeypatch)
    result = curate("predict", "-d", "nowhere", "--model", "colours:detect", status=2)
    assert "nowhere" in result.stderr
    with begin("empty", command="test", create=True) as transaction:
        transaction.classes = [{"name": "red"}]
    result = curate("predict", "-d", "empty", "--model", "colours:detect", status=2)
    assert "there are no images to predict on" in result.stderr


def test_results_of_a_model_that_ran_elsewhere(toys: Path, tmp_path: Path) -> None:
    """Images are named by file name, by stem, and by the number that a stem stands for."""
    mask = {"size": [64, 64], "counts": encode_rle(np.eye(64))}
    results = [
        {"image_id": "one.png", "category_id": 0, "bbox": [4, 8, 16, 12], "score": 0.5},
        {"image_id": "one", "category_id": 0, "bbox": [1, 1, 2, 2], "score": 0.25},
        {"image_id": 2, "category_id": 0, "bbox": [2, 2, 20, 20], "score": 0.75},
        {"image_id": "0002", "category_id": 0, "segmentation": mask, "score": 0.7},
        {"image_id": "other", "category_id": 0, "bbox": [2, 2, 20, 20], "score": 0.75},
    ]
    file = tmp_path / "detr.json"
    file.write_text(json.dumps(results))
    found = predict("--model", f"results:{file}")
    assert found["changes"] == {"annotations added": 4}
    stored = rows("predictions/detr")
    assert sorted(row["score"] for row in stored) == [0.25, 0.5, 0.7, 0.75]
    assert {row["label"] for row in stored} == {"Reds"}
    again = curate("predict", "-d", "toys", "--model", f"results:{file}")
    assert "4 annotations" in again.stdout
    assert "image_id is not among the images" in again.stdout
    predict("--model", "colours:detect", "--layer", "own")
    refused = curate("predict", "-d", "toys", "--model", f"results:{file}", "--layer", "own", status=2)
    assert "holds what colours:detect@1 says" in refused.stderr
    assert [row["score"] for row in rows("predictions/own")] == [0.9]


def test_a_results_file_speaks_of_the_ids_that_a_coco_file_gave(tmp_path: Path) -> None:
    paint(tmp_path / "a" / "1.png", {"red": (0, 0, 4, 4)})
    paint(tmp_path / "a" / "2.png", {"red": (0, 0, 4, 4)})
    content = {
        "images": [{"id": 1, "file_name": "2.png", "width": 64, "height": 64}, {"id": 7, "file_name": "1.png"}],
        "annotations": [],
        "categories": [{"id": 3, "name": "red"}],
    }
    (tmp_path / "a" / "labels.json").write_text(json.dumps(content))
    curate("import", tmp_path / "a" / "labels.json", "-d", "toys")
    file = tmp_path / "model.json"
    file.write_text(json.dumps([{"image_id": 1, "category_id": 3, "bbox": [0, 0, 4, 4], "score": 0.5}]))
    predict("--model", f"results:{file}")
    (row,) = rows("predictions/model")
    images = open_dataset("toys").table("images").to_pylist()
    assert [image["location"] for image in images if image["image_id"] == row["image_id"]] == ["2.png"]


def test_results_of_no_image_of_the_dataset_are_an_error(toys: Path, tmp_path: Path) -> None:
    file = tmp_path / "detr.json"
    file.write_text(json.dumps([{"image_id": 99, "category_id": 0, "bbox": [4, 8, 16, 12], "score": 0.5}] * 3))
    for arguments in (["predict", "--model", f"results:{file}"], ["import", str(file), "--layer", "predictions/detr"]):
        result = curate(*arguments, "-d", "toys", status=2)
        assert "not one result of 3 can be used: image_id is not among the images" in result.stderr
        assert "file names" in result.stderr
        assert "?ids=INSTANCES.json" in result.stderr
    assert open_dataset("toys").commit.number == 1
    file.write_text("[]")
    assert predict("--model", f"results:{file}")["changes"] == {}


def test_an_error_names_the_ids_that_are_wanted(tmp_path: Path) -> None:
    paint(tmp_path / "a" / "1.png", {"red": (0, 0, 4, 4)})
    content = {
        "images": [{"id": 4711, "file_name": "1.png"}],
        "annotations": [],
        "categories": [{"id": 3, "name": "a"}],
    }
    (tmp_path / "a" / "labels.json").write_text(json.dumps(content))
    curate("import", tmp_path / "a" / "labels.json", "-d", "toys")
    file = tmp_path / "model.json"
    file.write_text(json.dumps([{"image_id": 1, "category_id": 3, "bbox": [0, 0, 4, 4], "score": 0.5}]))
    result = curate("predict", "-d", "toys", "--model", f"results:{file}", status=2)
    assert "(as 4711)" in result.stderr


def test_an_export_of_results_comes_back(toys: Path, tmp_path: Path) -> None:
    """A set without ids of its own: those that the export gave are told by the instances file beside it."""
    predict("--model", "colours:detect", "--layer", "own")
    (row,) = rows("predictions/own")
    curate("export", tmp_path / "coco", "-d", "toys", "-f", "coco")
    curate("export", tmp_path / "out", "-d", "toys", "-f", "coco", "--variant", "results", "--layer", "predictions/own")
    (results,) = sorted((tmp_path / "out").glob("results*.json"))
    (instances,) = sorted((tmp_path / "coco" / "annotations").glob("instances*.json"))
    predict("--model", f"results:{results}?ids={instances}", "--layer", "back")
    (back,) = rows("predictions/back")
    same = ("image_id", "label", "bbox", "score")
    assert [back[key] for key in same] == [row[key] for key in same]


def test_classes_without_ids_go_by_their_names(tmp_path: Path) -> None:
    paint(tmp_path / "toys" / "bolt" / "one.png", {"red": (4, 8, 16, 12)})
    curate("import", tmp_path / "toys", "-d", "toys", "--format", "imagefolder")
    file = tmp_path / "detr.json"
    file.write_text(json.dumps([{"image_id": "one.png", "category_id": "bolt", "bbox": [4, 8, 16, 12], "score": 0.5}]))
    predict("--model", f"results:{file}")
    assert [row["label"] for row in rows("predictions/detr")] == ["bolt"]


def test_a_file_of_ids_that_is_none(toys: Path, tmp_path: Path) -> None:
    file = tmp_path / "detr.json"
    file.write_text(json.dumps([{"image_id": "one.png", "category_id": 0, "bbox": [4, 8, 16, 12], "score": 0.5}]))
    for ids, says in ((tmp_path / "no.json", "no such file of ids"), (file, "a results file too")):
        result = curate("predict", "-d", "toys", "--model", f"results:{file}?ids={ids}", status=2)
        assert says in result.stderr
    content = {"images": [{"id": 1, "file_name": "elsewhere.png"}], "annotations": [], "categories": []}
    (tmp_path / "other.json").write_text(json.dumps(content))
    result = curate("predict", "-d", "toys", "--model", f"results:{file}?ids={tmp_path / 'other.json'}", status=2)
    assert "have to be the dataset's, by their file names" in result.stderr
