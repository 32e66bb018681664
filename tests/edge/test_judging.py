"""On labelled images: the better package is found, and a cascade's threshold holds what it promises."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from typer.testing import CliRunner

from curate.cli import app
from curate.dataset import Dataset, open_dataset
from curate.edge.runner import Prepared, Result, Runner
from curate.edge.runtime.answers import Cascade, Single, open_runner
from curate.edge.runtime.judging import _groups, judge, tune
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
        pixels = picture(label, number % 4 == 0, rng)
        pixels[63, number % 64] = 1 + number // 64  # no two are copies
        Image.fromarray(pixels).save(target)
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


def test_what_a_cascade_saves_is_measured(
    classes_set: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By clocks that only the packages move on: 1 ms for an image by the light one, 10 by the heavy one, half of it computing."""
    clocks = {"perf_counter": 0.0, "process_time": 0.0}
    light = open_runner(str(classifier(tmp_path / "light", name="light", gain=60, tilt=0.8)))
    heavy = open_runner(str(classifier(tmp_path / "heavy", name="heavy", gain=500)))
    answered = Runner.run_prepared

    def slow(self: Runner, prepared: Sequence[Prepared]) -> list[Result]:
        for _ in prepared:
            clocks["perf_counter"] += 0.001 if self is light else 0.01
            clocks["process_time"] += 0.0005 if self is light else 0.005
        return answered(self, prepared)

    monkeypatch.setattr(Runner, "run_prepared", slow)
    for name in clocks:
        monkeypatch.setattr(f"curate.edge.runtime.judging.time.{name}", lambda name=name: clocks[name])

    tuned = tune(classes_set, light, heavy, max_loss=0.005)

    assert (tuned.light_cost.wall_ms, tuned.light_cost.processor_ms) == pytest.approx((1, 0.5))
    assert (tuned.heavy_cost.wall_ms, tuned.heavy_cost.processor_ms) == pytest.approx((10, 5))
    assert tuned.cascade_cost.wall_ms == pytest.approx(1 + 10 * tuned.heavy_share)
    assert tuned.speed_up == pytest.approx(10 / (1 + 10 * tuned.heavy_share))
    assert tuned.saved == pytest.approx(1 - 1 / tuned.speed_up)
    assert tuned.to_json()["cascade_cost"]["wall_ms"] == pytest.approx(tuned.cascade_cost.wall_ms)


def test_groups_choose_or_check_and_never_both(
    classes_set: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    light = open_runner(str(classifier(tmp_path / "light", name="light", gain=60, tilt=0.8)))
    heavy = open_runner(str(classifier(tmp_path / "heavy", name="heavy", gain=500)))
    seen: list[Any] = []
    monkeypatch.setattr("curate.edge.runtime.judging._groups", lambda dataset, ids: np.arange(len(ids)) // 8)

    def remember(exam: object, both: object, uncertain: object, choosing: npt.NDArray[np.bool_], loss: float) -> float:
        seen.append(choosing)
        return 0.5

    monkeypatch.setattr("curate.edge.runtime.judging._threshold", remember)

    tuned = tune(classes_set, light, heavy, max_loss=0.005)

    assert tuned.images == (COUNT / 2, COUNT / 2)
    assert set(seen[0].reshape(-1, 8).mean(axis=1)) == {0.0, 1.0}
    monkeypatch.setattr("curate.edge.runtime.judging._groups", lambda dataset, ids: np.zeros(len(ids), np.int64))
    with pytest.raises(UsageError, match="1 group of images"):
        tune(classes_set, light, heavy, max_loss=0.005)


def test_copies_and_frames_of_a_burst_are_one_group(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "set" / "red").mkdir(parents=True)
    for number in range(4):
        Image.fromarray(picture(0, False, rng)).save(tmp_path / "set" / "red" / f"{number}.png")
    copy = tmp_path / "set" / "red" / "9.png"
    copy.write_bytes((tmp_path / "set" / "red" / "0.png").read_bytes())
    assert CliRunner().invoke(app, ["import", str(tmp_path / "set"), "-d", "copied"]).exit_code == 0
    dataset = open_dataset("copied")
    table = dataset.table("images", columns=["image_id", "location"]).sort_by("location")

    groups = _groups(dataset, table["image_id"].to_pylist()[::-1])

    assert groups[0] == groups[-1]
    assert len(set(groups.tolist())) == 4


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


def test_a_light_package_that_is_as_good_is_hardly_ever_helped(classes_set: Dataset, tmp_path: Path) -> None:
    light = open_runner(str(classifier(tmp_path / "light", gain=100)))

    # What it is less sure of than of any image that was chosen on is asked all the same.
    assert tune(classes_set, light, light, max_loss=0.0).heavy_share <= 0.05


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
