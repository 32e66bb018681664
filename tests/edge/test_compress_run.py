"""From a run to a smaller run: judged by images that it has not learnt from, kept only where the budget is held."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from curate.cli import app
from curate.dataset import open_dataset
from curate.dataset.home import home
from curate.edge.compress.frontier import Budget
from curate.edge.compress.images import choose_images, open_parent, training_division
from curate.edge.compress.search import Asked, Compressed, compress
from curate.edge.scoring import BRIGHTEST, DARKEST, drops, make_exam, score_model
from curate.errors import UsageError
from curate.models.predictors.base import Classes
from curate.models.predictors.registry import load_predictor
from curate.models.training.runs import read_run, run_folder, run_names
from curate.models.training.train import Asked as Training
from curate.models.training.train import train
from tests.models.toy_sets import draw_folders, import_folders

RUNNER = CliRunner()


def quiet(*told: object) -> None:
    """What progress and notes are told to."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run on shapes, which have splits."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATE_HOME", str(folder / "home"))
        import_folders(draw_folders(folder / "shapes", 12, splits=("train", "val", "test")))
        settings = {"task": "classify", "model": "builtin", "epochs": 30}
        train(Training(dataset="shapes", settings=settings), name="shapes-1", command="", report=quiet, say=quiet)
    return folder / "home"


@pytest.fixture
def run(trained: Path) -> str:
    """The run, in this test's own store."""
    shutil.copytree(trained, home())
    return "shapes-1"


def make_smaller(run: str, **asked: object) -> Compressed:
    asked = {"calibration": 8, **asked}
    return compress(Asked(model=f"run:{run}", **asked), command="curate compress", say=quiet, report=quiet)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_smaller_run_is_a_run_like_any_other(run: str) -> None:
    result = make_smaller(run, name="small", budget=Budget(0.05, 0.1), prefer="size")
    assert result.chosen is not None
    original = result.candidates[0]
    # The built-in encoder's weights are stored in 8 bits already.
    assert result.chosen.method == "quantised"
    assert result.chosen.size < original.size
    kept = read_run("small")
    assert kept is not None
    assert kept.compression is not None
    assert (kept.parent, kept.task, kept.classes) == (f"run:{run}", "classify", ("cross", "disc", "square"))
    assert kept.plan.dataset == "shapes"
    assert kept.compression["drop"] == pytest.approx(result.chosen.drops.overall)
    assert len(kept.compression["calibration"]) == 8
    assert {each["name"] for each in kept.compression["search"]["candidates"]} == {
        each.name for each in result.candidates
    }
    model = load_predictor("run:small")
    (said,) = model.predict([model.prepare(np.zeros((48, 48, 3), np.uint8))])
    assert isinstance(said, Classes)
    assert said.probabilities.shape == (3,)
    assert (run_folder("small") / "model.onnx").stat().st_size == result.chosen.size
    # The images of the test split chose nothing, and say what it lost.
    assert result.confirmed is not None
    assert result.confirmed.images.startswith("36 ")
    assert (result.confirmed.before.evaluation.metrics["top1"] or 0) > 0.6


def test_no_image_calibrates_that_judges_or_was_held_back(run: str) -> None:
    parent = open_parent(f"run:{run}")
    images = choose_images(parent, open_dataset("shapes"), calibration=20)
    assert parent.run is not None
    material, division = training_division(parent.run)
    learnt = {each.image_id for each in material.take(division.train)}
    held = {each.image_id for each in material.take(division.validation)}
    assert len(images.calibration_ids) == 20
    assert set(images.calibration_ids) <= learnt
    assert set(images.exam.image_ids) == held
    assert images.confirm is not None
    assert not set(images.confirm.image_ids) & (learnt | held)


@pytest.mark.slow
def test_nothing_is_kept_where_nothing_holds_the_budget(run: str) -> None:
    arguments = [
        "compress",
        "-m",
        f"run:{run}",
        "--max-size",
        "1kB",
        "--methods",
        "quantise",
        "--json",
        "--calibration",
        "8",
    ]
    result = RUNNER.invoke(app, arguments)
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert said["run"] is None
    assert said["chosen"] is None
    assert all("allowed" in each["refused"][-1] for each in said["candidates"])
    assert run_names() == [run]


@pytest.mark.slow
def test_the_table_and_the_chart(run: str, tmp_path: Path) -> None:
    chart = tmp_path / "frontier.svg"
    arguments = [
        "compress",
        "-m",
        f"run:{run}",
        "--max-drop",
        "0.1",
        "--chart",
        str(chart),
        "--name",
        "small",
        "--calibration",
        "8",
    ]
    result = RUNNER.invoke(app, arguments, terminal_width=200)
    assert result.exit_code == 0, result.stderr
    assert "use it: --model run:small" in result.stdout
    assert "original" in result.stdout
    assert "int8" in chart.read_text()
    again = RUNNER.invoke(app, arguments)
    assert again.exit_code == 2
    assert "already" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "quantize"], "there is no method 'quantize'"),
        (["--methods", "distil"], "whose answers are to be learnt?"),
        (["--methods", "qat"], "only the head was trained"),
        (["--methods", "prune"], "only the head was trained"),
        (["--max-latency", "fast"], "'fast' is no such measure"),
        (["--prune", "a,b"], "is no list of shares"),
        (["--prune", "1.5"], "between 0 and 1"),
        (["--metric", "AP"], "there is no metric 'AP'"),
        (["--splits", "nowhere"], "no image of nowhere"),
    ],
)
def test_what_makes_no_sense_is_refused(run: str, arguments: list[str], message: str) -> None:
    result = RUNNER.invoke(app, ["compress", "-m", f"run:{run}", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
    assert run_names() == [run]


@pytest.mark.slow
def test_a_run_that_is_quantised_already_is_not_quantised_again(run: str) -> None:
    make_smaller(run, name="small", budget=Budget(0.1, 0.2))
    result = RUNNER.invoke(app, ["compress", "-m", "run:small"])
    assert result.exit_code == 2
    assert "quantised already" in result.stderr


@pytest.mark.slow
def test_a_file_is_made_smaller_with_a_dataset_to_judge_it(run: str) -> None:
    path = run_folder(run) / "model.onnx"
    with pytest.raises(UsageError, match="name a dataset"):
        compress(Asked(model=f"onnx:{path}"), command="", say=quiet, report=quiet)
    asked = Asked(
        model=f"onnx:{path}", dataset="shapes", name="of-file", budget=Budget(0.1, 0.2), limit=30, calibration=8
    )
    result = compress(asked, command="", say=quiet, report=quiet)
    kept = read_run("of-file")
    assert result.run is not None
    assert kept is not None
    assert kept.parent == f"onnx:{path}"
    assert kept.plan.settings == {"task": "classify"}
    listed = RUNNER.invoke(app, ["runs"])
    assert listed.exit_code == 0
    assert "of-file" in listed.stdout


def test_scores_of_all_classes_and_slices(run: str) -> None:
    predictor = load_predictor(f"run:{run}")
    exam = make_exam(open_dataset("shapes"), predictor, splits=["val"], slices=["split:val"])
    assert len(exam) == 36
    assert exam.slices.keys() == {DARKEST, BRIGHTEST, "split:val"}
    scores = score_model(exam, predictor)
    right = sum(
        row["objects"][0]["label"] == example.label
        for row, example in zip(scores.results.to_pylist(), exam.subject.examples, strict=True)
    )
    assert scores.overall == pytest.approx(right / 36)
    assert scores.per_slice["split:val"] == scores.overall
    assert scores.slice_images[DARKEST] == pytest.approx(36 / 5, abs=1)
    assert scores.per_class.keys() == {"cross", "disc", "square"}
    assert score_model(exam, predictor, prepared=True).metrics == scores.metrics
    assert drops(scores, scores).refusals(0.0, 0.0) == []
