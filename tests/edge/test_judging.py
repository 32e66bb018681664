"""On labelled images: the better package is found, and a cascade's threshold holds what it promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from typer.testing import CliRunner

from curate.cli import app
from curate.dataset import Dataset, open_dataset
from curate.edge.runtime.answers import Cascade, Single, open_runner
from curate.edge.runtime.judging import judge, tune
from curate.edge.runtime.run import Settings, run
from curate.edge.runtime.sources import open_source
from curate.errors import UsageError
from curate.imaging import Pixels
from tests.edge.tiny import CLASSES, classifier, detector, frame

COUNT = 160


def picture(label: int, hard: bool, rng: np.random.Generator) -> Pixels:
    """A square of the label's color; a hard one has a fainter one of another beside it."""
    pixels = square(label, rng.uniform(12, 28, 2), 255)
    if hard:
        pixels = np.maximum(pixels, square((label + 1) % 3, rng.uniform(40, 54, 2), int(rng.integers(200, 245))))
    return pixels


def square(label: int, middle: npt.NDArray[np.float64], light: int) -> Pixels:
    places: list[tuple[float, float] | None] = [None, None, None]
    places[label] = (float(middle[0]), float(middle[1]))
    return frame(*places, light=light)


@pytest.fixture
def classes_set(tmp_path: Path) -> Dataset:
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        label = number % 3
        target = tmp_path / "set" / CLASSES[label] / f"{number:03d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(label, number % 4 == 0, rng)).save(target)
    assert CliRunner().invoke(app, ["import", str(tmp_path / "set"), "-d", "colors"]).exit_code == 0
    return open_dataset("colors")


@pytest.fixture
def boxes_set(tmp_path: Path) -> Dataset:
    rng = np.random.default_rng(1)
    images, annotations = [], []
    (tmp_path / "boxes").mkdir()
    for number in range(60):
        x, y = rng.integers(12, 50, 2).tolist()
        Image.fromarray(frame((x, y), light=255 if number % 2 else 120)).save(tmp_path / "boxes" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64})
        box = [x - 6, y - 6, 12, 12]
        annotations.append({"id": number, "image_id": number, "category_id": 0, "bbox": box, "area": 144, "iscrowd": 0})
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "boxes" / "annotations.json").write_text(json.dumps(content))
    assert CliRunner().invoke(app, ["import", str(tmp_path / "boxes"), "-d", "boxes"]).exit_code == 0
    return open_dataset("boxes")


def test_the_better_of_two_classifiers_is_found(classes_set: Dataset, tmp_path: Path) -> None:
    good = open_runner(str(classifier(tmp_path / "good", gain=100)))
    tilted = open_runner(str(classifier(tmp_path / "tilted", gain=100, tilt=5)))

    judged = judge(classes_set, tilted, good)

    assert judged.second == 1.0
    assert judged.images == COUNT
    assert judged.comparison.better == "second"
    assert judged.comparison.mean == pytest.approx(judged.first - judged.second)
    assert judge(classes_set, good, good).comparison.better is None


def test_the_better_of_two_detectors_is_found(boxes_set: Dataset, tmp_path: Path) -> None:
    good = open_runner(str(detector(tmp_path / "good", min_score=0.3)))
    blind = open_runner(str(detector(tmp_path / "blind", min_score=0.7)))

    judged = judge(boxes_set, good, blind)

    assert judged.first == pytest.approx(1.0)
    assert judged.second == pytest.approx(0.5)
    assert judged.comparison.better == "first"


def test_frames_of_one_group_are_one_pair(classes_set: Dataset, tmp_path: Path) -> None:
    """Three images a pair prove less than three pairs."""
    good = open_runner(str(classifier(tmp_path / "good", gain=100)))
    tilted = open_runner(str(classifier(tmp_path / "tilted", gain=100, tilt=5)))
    alone = judge(classes_set, good, tilted).comparison.count

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("curate.edge.runtime.judging._groups", lambda dataset, ids: np.arange(len(ids)) // 3)
        assert judge(classes_set, good, tilted).comparison.count == -(-alone // 3)


def test_a_threshold_keeps_what_the_heavy_package_is_worth(classes_set: Dataset, tmp_path: Path) -> None:
    light = open_runner(str(classifier(tmp_path / "light", name="light", gain=60, tilt=0.8)))
    heavy = open_runner(str(classifier(tmp_path / "heavy", name="heavy", gain=500)))

    tuned = tune(classes_set, light, heavy, max_loss=0.005)

    assert tuned.heavy == 1.0
    assert tuned.light < 0.99
    assert tuned.lost <= 0.03  # the half that checks has not been chosen on
    assert 0 < tuned.heavy_share < 0.6
    assert sum(tuned.images) == COUNT
    assert tuned.speed_up > 0


def test_a_cascade_runs_as_it_was_tuned(classes_set: Dataset, tmp_path: Path) -> None:
    light = open_runner(str(classifier(tmp_path / "light", name="light", gain=60, tilt=0.8)))
    heavy = open_runner(str(classifier(tmp_path / "heavy", name="heavy", gain=500)))
    tuned = tune(classes_set, light, heavy, max_loss=0.005)
    source = str(tmp_path / "set")

    cascade = run(Cascade(light, heavy, tuned.threshold), open_source(source), Settings(batch=4))
    always = run(Cascade(light, heavy, 0.0), open_source(source), Settings())
    never = run(Cascade(light, heavy, 1.0), open_source(source), Settings())

    assert cascade.heavy / COUNT == pytest.approx(tuned.heavy_share, abs=0.1)
    assert never.heavy == 0
    assert always.heavy >= COUNT * 0.9
    assert run(Single(light), open_source(source), Settings()).heavy == 0


def test_a_light_package_that_is_as_good_is_never_helped(classes_set: Dataset, tmp_path: Path) -> None:
    light = open_runner(str(classifier(tmp_path / "light", gain=100)))

    assert tune(classes_set, light, light, max_loss=0.0).heavy_share == 0.0


def test_few_images_choose_no_threshold(classes_set: Dataset, tmp_path: Path) -> None:
    light = open_runner(str(classifier(tmp_path / "light")))

    with pytest.raises(UsageError, match="too few"):
        tune(classes_set, light, light, max_loss=0.0, limit=10)


@pytest.mark.parametrize(("option", "kind"), [("--against", "judged"), ("--heavy", "tuned")])
def test_the_command_says_so(classes_set: Dataset, tmp_path: Path, option: str, kind: str) -> None:
    one, other = classifier(tmp_path / "a", gain=100), classifier(tmp_path / "b", name="other", gain=200)
    arguments = ["run", str(one), option, str(other), "--labels", "colors"]

    result = CliRunner().invoke(app, [*arguments, "--json"])
    told: dict[str, Any] = json.loads(result.stdout)
    table = CliRunner().invoke(app, arguments)

    assert told["kind"] == kind
    assert table.exit_code == 0, table.stderr
