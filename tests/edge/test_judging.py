"""On labelled images: the better package is found, and a cascade's threshold holds what it promises."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
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
from curate.edge.runtime.compare import Comparison
from curate.edge.runtime.judging import Cost, Judged, Tuned, _changes, _groups, _new_pairs, _threshold, judge, tune
from curate.edge.runtime.record import Pair, Record
from curate.edge.runtime.run import Settings, run
from curate.edge.runtime.sources import open_source
from curate.errors import InputError, UsageError
from curate.imaging import Pixels
from curate.report.judged import print_judged
from curate.runner import Prepared, Result, Runner
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

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("curate.edge.runtime.judging._groups", lambda dataset, ids: np.arange(len(ids)) // 3)
        assert judge(classes_set, good, tilted).comparison.count == -(-COUNT // 3)


def test_later_looks_add_pairs_after_those_that_were_counted(tmp_path: Path) -> None:
    """So all looks together are one test; neither the order of the packages nor a corrected label changes what was bet on."""
    good = open_runner(str(classifier(tmp_path / "good", gain=100)))
    tilted = open_runner(str(classifier(tmp_path / "tilted", gain=100, tilt=5)))
    rng = np.random.default_rng(0)

    def grown(numbers: range) -> Dataset:
        for number in numbers:
            target = tmp_path / "set" / CLASSES[number % 3] / f"{number:03d}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            pixels = picture(number % 3, False, rng)
            pixels[63, number] = 1  # no two are copies
            Image.fromarray(pixels).save(target)
        assert CliRunner().invoke(app, ["import", str(tmp_path / "set"), "-d", "grows"]).exit_code == 0
        return open_dataset("grows")

    def record() -> list[Any]:
        (path,) = (open_dataset("grows").path / "comparisons").glob("*.json")
        return list(json.loads(path.read_bytes())["pairs"])

    first = judge(grown(range(9)), tilted, good)
    counted = record()
    again = judge(open_dataset("grows"), tilted, good)
    assert (first.comparison.count, first.new, again.comparison.count, again.new) == (9, 9, 9, 0)
    assert record() == counted

    more = judge(grown(range(9, 15)), tilted, good)
    turned = judge(open_dataset("grows"), good, tilted)
    assert (more.comparison.count, more.new, turned.new) == (15, 6, 0)
    assert record()[:9] == counted
    assert turned.comparison.mean == pytest.approx(-(more.comparison.mean or 0))

    where = f"image_id <> '{counted[0][1][0]}'"
    assert (
        judge(open_dataset("grows"), tilted, good, where=where)
        .notes[-1]
        .startswith("these packages were compared under 1")
    )


def test_what_was_counted_stays_as_it_was() -> None:
    ids = [f"{number:02d}" for number in range(12)]
    before = _new_pairs([], ids[:6], np.array([0, 0, 1, 1, 2, 3]), np.linspace(-1, 1, 6))
    assert sorted(pair.images for pair in before) == [("00", "01"), ("02", "03"), ("04",), ("05",)]

    # The seventh image is one more of a group that was counted; the labels of all are other ones now.
    new = _new_pairs(before, ids, np.array([0, 0, 1, 1, 2, 3, 3, 4, 5, 6, 7, 8]), np.ones(12))
    assert sorted(pair.images for pair in new) == [("07",), ("08",), ("09",), ("10",), ("11",)]

    (note,) = _changes(before, ids[1:], np.ones(11), others=0)
    assert note.startswith("of the pairs that were counted before, 2 would differ now")


def test_a_record_that_cannot_be_read_is_not_begun_anew(classes_set: Dataset, tmp_path: Path) -> None:
    package = open_runner(str(classifier(tmp_path / "p"))).package
    record = Record(classes_set.path, package, package, {})
    with record.locked():
        record.append([], [Pair(0.5, ("a", "b"))])
    assert record.read() == [Pair(0.5, ("a", "b"))]
    record.path.write_text("{")

    with pytest.raises(InputError, match="cannot be read"):
        record.read()


def test_a_threshold_keeps_what_the_heavy_package_is_worth(classes_set: Dataset, tmp_path: Path) -> None:
    light = open_runner(str(classifier(tmp_path / "light", name="light", gain=60, tilt=0.8)))
    heavy = open_runner(str(classifier(tmp_path / "heavy", name="heavy", gain=500)))

    tuned = tune(classes_set, light, heavy, max_loss=0.005)

    assert tuned.heavy == 1.0
    assert tuned.light < 0.99
    assert tuned.lost <= 0.03  # the half that checks has not been chosen on
    assert tuned.lost_interval is not None
    assert tuned.lost_interval[0] <= tuned.lost <= tuned.lost_interval[1]
    assert 0 < tuned.heavy_share < 0.6
    assert sum(tuned.images) == COUNT


def test_the_threshold_mostly_holds_on_images_that_did_not_choose_it(classes_set: Dataset, tmp_path: Path) -> None:
    """The highest that just holds on those that choose fails on every second of these halves."""
    light = open_runner(str(classifier(tmp_path / "light", name="light", gain=10, tilt=0.8)))
    heavy = open_runner(str(classifier(tmp_path / "heavy", name="heavy", gain=500)))

    halves = [tune(classes_set, light, heavy, max_loss=0.05, seed=seed) for seed in range(10)]

    assert sum(tuned.lost > 0.05 for tuned in halves) <= 1
    assert max(tuned.heavy_share for tuned in halves) < 0.8  # safe, and not by asking always


@pytest.mark.parametrize(
    ("losses", "passed"), [([0.0, 0.01, 0.03, 0.01], 2), ([0.03, 0.0, 0.0, 0.0], 0), ([0.0, 0.0, 0.0, 0.0], 4)]
)
def test_no_threshold_after_the_first_that_fails_is_chosen(
    losses: list[float], passed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images are of four degrees of uncertainty; given is what is lost on every draw where so many degrees are passed."""
    uncertain = np.repeat([0.1, 0.2, 0.3, 0.4], 100)

    def resampled(exam: object, both: object, asks: npt.NDArray[np.bool_], *rest: object) -> npt.NDArray[np.float64]:
        return np.full(50, 0.9 - [0.0, *losses][len(np.unique(uncertain[~asks]))])

    monkeypatch.setattr("curate.edge.runtime.judging._resampled", resampled)
    nothing: Any = None
    found = _threshold(nothing, nothing, uncertain, np.ones(400, dtype=bool), np.arange(400), 0.02, 0)

    assert (found is None) is (passed == 0)
    assert len(np.unique(uncertain[uncertain <= (found or 0)])) == passed


def test_draws_that_cannot_be_told_choose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.edge.runtime.judging._resampled", lambda *arguments: np.full(50, np.nan))
    nothing: Any = None
    assert _threshold(nothing, nothing, np.arange(9.0), np.ones(9, dtype=bool), np.arange(9), 1.0, 0) is None


def test_few_images_are_told_and_no_threshold_is_a_refusal(classes_set: Dataset, tmp_path: Path) -> None:
    """A light model that is wrong where it is sure: nothing is safe."""
    light = open_runner(str(classifier(tmp_path / "light", name="light", gain=60, tilt=0.8)))
    wrong = open_runner(str(classifier(tmp_path / "wrong", name="wrong", gain=100, tilt=50)))
    heavy = open_runner(str(classifier(tmp_path / "heavy", name="heavy", gain=500)))

    few = tune(classes_set, light, heavy, max_loss=0.005)
    enough = tune(classes_set, light, heavy, max_loss=0.05)
    unsafe = tune(classes_set, wrong, heavy, max_loss=0.005)

    assert (few.held, enough.held, unsafe.held) == (True, True, False)
    assert "0.0375 may be lost where none shows a loss" in few.notes[-1]
    assert not any("may be lost" in note for note in enough.notes)
    assert unsafe.refusals[0] == "none is likely to lose no more than 0.005 of top1 on the images that choose"
    assert unsafe.to_json()["threshold"] is None


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


def test_a_cascade_that_does_not_help_is_not_advised(capsys: pytest.CaptureFixture[str]) -> None:
    def tuned(lost: float, wall: float) -> Tuned:
        costs = Cost(1, 1), Cost(4, 4), Cost(wall, wall)
        return Tuned(0.3, True, 0.5, "top1", 0.7, 0.9, 0.9 - lost, *costs, (lost - 0.1, lost + 0.1), 0.01, (40, 40), ())

    good, slow, loses = tuned(0.005, 2), tuned(0.0, 4.5), tuned(0.05, 2)

    assert (good.refusals, good.to_json()["threshold"], good.to_json()["helps"]) == ([], 0.3, True)
    for bad, why in ((slow, "4.50 ms an image"), (loses, "loses 0.0500 of top1")):
        assert why in bad.refusals[0]
        told = bad.to_json()
        assert (told["threshold"], told["tried"], told["helps"]) == (None, 0.3, False)
        print_judged(bad, "light", "heavy")
        assert "no cascade helps" in " ".join(capsys.readouterr().out.split())
    assert loses.to_json()["lost_interval"] == [-0.05, 0.15]
    just = replace(good, heavy=0.98, cascade=0.96, max_loss=0.02)
    assert (just.lost > 0.02, just.refusals) == (True, [])  # by a rounding error


@pytest.mark.parametrize("loss", [-0.1, float("nan"), float("inf")])
def test_a_loss_is_a_part_of_the_metric(classes_set: Dataset, tmp_path: Path, loss: float) -> None:
    light = open_runner(str(classifier(tmp_path / "light")))

    with pytest.raises(UsageError, match="not from 0 to 1"):
        tune(classes_set, light, light, max_loss=loss)


def test_without_a_winner_the_table_says_that_it_cannot_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    comparison = Comparison()
    comparison.add(0.5)

    print_judged(Judged(0.75, 0.5, 4, 0.5, comparison, 1, ()), "new-1.0.0", "old-1.0.0")

    out = capsys.readouterr().out
    assert "cannot be told yet" in out
    assert "mean over groups" in out


def test_groups_choose_or_check_and_never_both(
    classes_set: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    light = open_runner(str(classifier(tmp_path / "light", name="light", gain=60, tilt=0.8)))
    heavy = open_runner(str(classifier(tmp_path / "heavy", name="heavy", gain=500)))
    seen: list[Any] = []
    monkeypatch.setattr("curate.edge.runtime.judging._groups", lambda dataset, ids: np.arange(len(ids)) // 8)

    def remember(
        exam: object, both: object, uncertain: object, choosing: npt.NDArray[np.bool_], *rest: object
    ) -> float:
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
