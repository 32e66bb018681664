"""`curate stress`: where a model breaks, measured as `curate evaluate` measures, and kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from curate.augment.stress.cells import COVERED_BY, WEATHER, choose, covering
from curate.augment.stress.curves import Point, curve
from curate.augment.stress.run import Asked, stress
from curate.augment.stress.store import stored_stress
from curate.cli import app
from curate.dataset import open_dataset
from curate.errors import InputError, UsageError
from curate.geometry import encode_rle
from curate.recipes import CORRUPTIONS, NAMED
from tests.models import colour_predictor
from tests.models.colour_predictor import COLOURS, SIDE, paint
from tests.models.onnx_models import channel_means
from tests.models.toy_sets import draw_folders, import_folders

COUNT = 8
ONE = Asked(corruptions=("brightness_down",), steps=3, resamples=100)


@pytest.fixture(autouse=True)
def _colours(monkeypatch: pytest.MonkeyPatch) -> None:
    colour_predictor.register(monkeypatch)


def write_objects(folder: Path, count: int = COUNT, split: str = "val") -> None:
    """Coloured boxes on black, as COCO boxes and masks."""
    rng = np.random.default_rng(0)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        name = COLOURS[number % 3]
        x, y = (int(value) for value in rng.integers(4, 30, 2))
        box = [x, y, 24, 20]
        paint(folder / split / f"{number}.png", {name: box})
        mask = np.zeros((SIDE, SIDE), np.bool_)
        mask[y : y + 20, x : x + 24] = True
        rle = {"size": [SIDE, SIDE], "counts": encode_rle(mask)}
        images.append({"id": number, "file_name": f"{split}/{number}.png", "width": SIDE, "height": SIDE})
        annotations.append(
            {"id": number, "image_id": number, "category_id": number % 3, "bbox": box, "segmentation": rle, "area": 480}
            | {"iscrowd": 0}
        )
    categories = [{"id": number, "name": name} for number, name in enumerate(COLOURS)]
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    (folder / f"instances_{split}.json").write_text(text)


def write_folders(folder: Path, count: int = COUNT) -> None:
    """Images of one colour each, a folder for each class."""
    for number in range(count):
        name = COLOURS[number % 3]
        paint(folder / "val" / name / f"{number}.png", {name: [8, 8 + number, 40, 40]})


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["stress", *arguments])


def imported(folder: Path, name: str = "set") -> None:
    result = CliRunner().invoke(app, ["import", str(folder), "-d", name])
    assert result.exit_code == 0, result.stderr


@pytest.fixture
def objects(tmp_path: Path) -> None:
    write_objects(tmp_path / "objects")
    imported(tmp_path / "objects")


def values(result: Any, corruption: str) -> list[float]:
    return [point.value for each in result.curves if each.corruption == corruption for point in each.points]


@pytest.mark.parametrize("task", ["detect", "instances", "segment"])
def test_what_is_found_in_the_light_is_lost_in_the_dark(objects: None, task: str) -> None:
    result = stress("set", f"colours:{task}", ONE, command="test")
    assert (result.task, result.images) == (task, COUNT)
    assert result.clean.value == pytest.approx(1.0)
    # The predictor sees what is brighter than 128: of 255, 1.7 stops less of light leave 150, 3.3 stops 85.
    assert values(result, "brightness_down") == [pytest.approx(1.0), 0.0, 0.0]
    (found,) = result.curves
    assert (found.sure, found.recipes) == (True, ("night",))
    assert found.breaks_at == pytest.approx(2 / 3, abs=1e-5)
    assert found.kept == pytest.approx(1 / 3)
    assert [point.drop for point in found.points] == [pytest.approx(drop) for drop in (0, 1, 1)]


def test_labels_of_images(tmp_path: Path) -> None:
    write_folders(tmp_path / "folders")
    imported(tmp_path / "folders")
    result = stress("set", "colours:classify", Asked(corruptions=("brightness_down", "jpeg"), steps=2), command="test")
    assert (result.metric, result.clean.value) == ("top1", 1.0)
    assert values(result, "brightness_down")[-1] == 0  # of what is dark it says nothing, which is wrong
    assert result.broken[0].corruption == "brightness_down"


def test_a_network_in_a_file_sees_colours_go_with_the_lamp(tmp_path: Path) -> None:
    """Its logits are the means of the channels: under a lamp of a candle's colour, what is blue becomes red."""
    write_folders(tmp_path / "folders", 12)
    imported(tmp_path / "folders")
    channel_means(tmp_path / "means.onnx")
    output = {"layout": "logits", "output": "logits"}
    sidecar = {"task": "classify", "size": [8, 8], "layout": "nchw", "output": output, "classes": COLOURS}
    (tmp_path / "means.curate.json").write_text(json.dumps(sidecar))
    asked = Asked(corruptions=("warm", "jpeg", "vignette"), steps=4, resamples=100)
    result = stress("set", f"onnx:{tmp_path / 'means.onnx'}", asked, command="test")
    assert result.clean.value == 1.0
    # Pure colours stay what they are, however little is left of them.
    assert values(result, "vignette") == [1.0] * 4
    assert [each.corruption for each in result.curves] == ["warm", "jpeg", "vignette"]


@pytest.mark.slow
def test_a_model_that_was_trained_here_breaks_where_its_images_end(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from curate.models.training.train import Asked as Training
    from curate.models.training.train import train

    import_folders(draw_folders(tmp_path / "images", 16, splits=("train", "val")))
    settings = {"task": "classify", "device": "cpu", "workers": 0, "steps": 150, "augment": 0.0}
    train(
        Training("shapes", settings=settings), name="shapes", command="test",
        report=lambda done, total, text: None, say=lambda text: None,
    )  # fmt: skip
    asked = Asked(corruptions=("brightness_down", "defocus", "noise"), steps=2, resamples=100)
    result = stress("shapes", "run:shapes", asked, command="test")
    assert result.images == 48
    assert result.clean.value is not None
    assert result.clean.value > 0.8
    assert {curve.corruption for curve in result.broken} >= {"brightness_down"}


def test_labels_go_where_a_warp_takes_the_pixels(objects: None) -> None:
    result = stress(
        "set", "colours:detect", Asked(corruptions=("rolling_shutter",), steps=2, metric="ap50"), command="test"
    )
    # The predictor finds what is there to the pixel, so that only labels that stayed behind would cost anything.
    assert result.metric == "AP50"
    assert min(values(result, "rolling_shutter")) > 0.95


def test_it_measures_what_evaluate_measures(objects: None) -> None:
    result = stress("set", "colours:detect", ONE, command="test")
    runner = CliRunner()
    assert runner.invoke(app, ["predict", "-d", "set", "--model", "colours:detect"]).exit_code == 0
    lines = runner.invoke(app, ["evaluate", "-d", "set", "--task", "detect", "--json"]).stdout.splitlines()
    row = next(line for line in map(json.loads, lines) if line.get("table") == "Evaluation")
    assert result.clean.value == pytest.approx(row["metrics"]["AP"])


def test_the_same_again_is_read_from_the_dataset(objects: None) -> None:
    first = stress("set", "colours:detect", ONE, command="test")
    commit, shown = open_dataset("set").commit.number, sum(colour_predictor.predicted)
    again = stress("set", "colours:detect", ONE, command="test")
    assert (open_dataset("set").commit.number, sum(colour_predictor.predicted)) == (commit, shown)
    assert again.curves == first.curves
    more = stress(
        "set", "colours:detect", Asked(corruptions=("jpeg", "brightness_down"), steps=3, resamples=100), command="test"
    )
    # The clean images are looked at once more, for the differences.
    assert sum(colour_predictor.predicted) == shown + COUNT * 4
    assert more.curves[1] == first.curves[0]
    (stored,) = stored_stress(open_dataset("set"))
    assert {each.corruption: each.points for each in stored.curves} == {
        each.corruption: each.points for each in more.curves
    }


def test_an_interrupted_run_goes_on_and_ends_as_one_that_was_not(
    objects: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(corruptions=("noise", "motion"), steps=2, resamples=100)
    whole = stress("set", "colours:detect", asked, command="test")
    assert CliRunner().invoke(app, ["undo", "-d", "set"]).exit_code == 0
    colour_predictor.predicted.clear()

    def stop(done: int, total: int) -> None:
        if done > COUNT:  # the clean images are done, and some of the first corruption
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stress("set", "colours:detect", asked, command="test", progress=stop)
    done = sum(colour_predictor.predicted)
    assert 0 < done < 5 * COUNT
    again = stress("set", "colours:detect", asked, command="test")
    assert sum(colour_predictor.predicted) == 5 * COUNT
    assert again.curves == whole.curves
    assert not list((open_dataset("set").path / "spool").glob("stress*"))


def test_what_is_learnt_from_is_not_measured_on(tmp_path: Path) -> None:
    write_objects(tmp_path / "objects", split="train")
    write_objects(tmp_path / "objects", split="val", count=4)
    imported(tmp_path / "objects")
    assert stress("set", "colours:detect", ONE, command="test").images == 4
    everything = Asked(**{**vars(ONE), "splits": ("train", "val")})
    assert stress("set", "colours:detect", everything, command="test").images == 12
    some = stress("set", "colours:detect", Asked(**{**vars(everything), "limit": 5}), command="test")
    assert (some.images, some.chosen) == (5, "5 of 12 labelled images of the splits train and val")
    # Fewer than six independent images tell nothing for sure.
    assert (some.clean.low, some.curves[0].sure) == (None, False)
    assert any("no intervals" in note for note in some.notes)


def test_unreadable_images_are_left_out_and_told(objects: None, tmp_path: Path) -> None:
    (tmp_path / "objects" / "val" / "3.png").write_bytes(b"no image")
    result = stress("set", "colours:detect", ONE, command="test")
    assert result.images == COUNT - 1
    assert any("1 image cannot be read" in note and "3.png" in note for note in result.notes)
    for path in (tmp_path / "objects" / "val").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match="not one image"):
        stress("set", "colours:detect", Asked(**{**vars(ONE), "seed": 5}), command="test")


def test_the_command_prints_draws_and_says_where_it_breaks(objects: None, tmp_path: Path) -> None:
    common = ["-d", "set", "--model", "colours:detect", "--corruptions", "brightness_down,vignette", "--steps", "2"]
    for name in ("chart.svg", "chart.png"):
        result = run(*common, "--chart", str(tmp_path / name))
        assert result.exit_code == 0, result.stderr
    assert "brightness_down" in result.stdout
    assert "covered by: curate augment --recipe night" in result.stdout
    assert "█" in result.stdout
    assert b"brightness_down" in (tmp_path / "chart.svg").read_bytes()
    with Image.open(tmp_path / "chart.png") as drawn:
        assert drawn.width > 200
    lines = [json.loads(line) for line in run(*common, "--json").stdout.splitlines()]
    assert [line["kind"] for line in lines] == ["stress", "curve", "curve"]
    assert lines[1]["sure"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--corruptions", "brigtness_down"], "brightness_down"),
        (["--metric", "mIoU"], "AP50"),
        (["--max-drop", "3"], "between 0 and 1"),
        (["--splits", "test"], "no image"),
        (["--where", "width > 1000"], "no image"),
        (["--labels", "nothing"], "no image"),
        (["--model", "colours:depth"], "depths"),
        (["--chart", "chart.gif"], ".svg"),
        (["--chart", "nowhere/chart.svg"], "folder"),
    ],
)
def test_bad_requests_are_one_clear_error(objects: None, arguments: Sequence[str], says: str) -> None:
    result = run("-d", "set", *(["--model", "colours:detect"] if "--model" not in arguments else []), *arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert open_dataset("set").commit.number == 1


def test_every_corruption_runs(objects: None) -> None:
    result = stress("set", "colours:detect", Asked(steps=1, resamples=100), command="test")
    assert tuple(each.corruption for each in result.curves) == (*CORRUPTIONS, *WEATHER)
    assert all(len(each.points) == 1 for each in result.curves)


def test_recipes_that_are_named_are_there() -> None:
    assert set(COVERED_BY) <= set(CORRUPTIONS)
    assert {name for names in COVERED_BY.values() for name in names} | set(WEATHER) <= set(NAMED)
    assert covering("rain") == ("rain",)
    assert choose(["jpeg", "jpeg"]) == ("jpeg",)
    with pytest.raises(UsageError):
        choose(["nothing of the kind"])


def test_a_curve_breaks_where_more_than_chance_is_lost() -> None:
    clean = Point(0.0, 0.8)
    by_chance = Point(0.2, 0.7, drop=0.1, drop_low=-0.1, drop_high=0.3)
    lost = Point(0.6, 0.4, drop=0.4, drop_low=0.2, drop_high=0.6)
    little = Point(0.4, 0.79, drop=0.01, drop_low=0.005, drop_high=0.02)
    found = curve("x", [lost, little, by_chance], clean, 0.1)
    assert [point.severity for point in found.points] == [0.2, 0.4, 0.6]
    assert (found.breaks_at, found.sure) == (0.6, True)
    assert found.kept == pytest.approx((0.7 + 0.79 + 0.4) / 3 / 0.8)
    assert (curve("x", [little, by_chance], clean, 0.1).breaks_at, curve("x", [by_chance], clean, 0.1).sure) == (
        0.2,
        False,
    )
    assert curve("x", [little], clean, 0.1).breaks_at is None
    assert curve("x", [lost], Point(0.0, 0.0), 0.1).breaks_at is None
