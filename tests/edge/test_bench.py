"""Packages measured side by side: what is told adds up, and limits of a smaller device hold. Nothing asks how fast it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from curate.cli import app
from curate.commands.bench import parse_size
from curate.edge.bench.job import STAGES, Job, Outcome, Samples, Subject
from curate.edge.bench.measure import LEAST, Limits, Measured, bench, percentiles
from curate.edge.bench.pictures import make_pictures
from curate.edge.bench.run import Request, run_bench
from curate.errors import InputError, UsageError
from tests.edge.tiny import classifier, detector


def samples(infer: list[float]) -> Samples:
    return Samples({name: infer if name == "infer" else [0.0] * len(infer) for name in STAGES}, infer)


def measured(infer: list[float], first: list[float], batch: int = 1) -> Measured:
    one = (Subject("first", "onnxruntime"), samples(first))
    return Measured(Subject("p", "onnxruntime", batch=batch), samples(infer), None, None, True, one)


def test_percentiles_and_throughput() -> None:
    each = measured([0.1 * number for number in range(1, 101)], [1.0] * 100, batch=2)
    assert percentiles(each.latency)["p50"] == pytest.approx(5050)
    assert percentiles(each.latency)["p99"] == pytest.approx(9901, rel=1e-3)
    assert percentiles(each.latency)["min"] == pytest.approx(100)
    assert each.throughput == pytest.approx(200 / 505)
    assert measured([6.0] * 9, [4.0] * 9, batch=3).against_first() == (0.5, 0.5, 0.5)  # of an image, not of a call


def test_the_comparison_is_of_the_same_rounds() -> None:
    """Half of the rounds were disturbed, all subjects alike: the ratio does not mind."""
    random = np.random.default_rng(0)
    disturbed = np.where(random.random(200) < 0.5, 5.0, 1.0)
    first, second = disturbed * random.normal(1, 0.05, 200), 0.5 * disturbed * random.normal(1, 0.05, 200)
    middle, low, high = measured(second.tolist(), first.tolist()).against_first()
    assert low < middle < high
    assert middle == pytest.approx(0.5, rel=0.02)
    assert high - low < 0.03


def test_the_interval_holds_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        ratios = random.lognormal(0, 0.5, 30)
        _, low, high = measured(ratios.tolist(), [1.0] * 30).against_first()
        held += low <= 1 <= high
    assert 0.92 < held / 400 < 0.99


def test_jobs_and_outcomes_survive_json() -> None:
    job = Job([Subject("p", "openvino", 2, 4)], ["a.jpg"], 1.5, 3, cores=1, memory=10, seed=7)
    said = Job.from_json(json.loads(json.dumps(job.to_json())))
    assert said == Job((Subject("p", "openvino", 2, 4),), ["a.jpg"], 1.5, 3, cores=1, memory=10, seed=7)
    outcome = Outcome([samples([1.0])], 1, None, 2)
    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))).samples[0] == samples([1.0])


@pytest.mark.parametrize(
    ("text", "size"), [("512MB", 512 << 20), ("1.5 GB", 3 << 29), ("64k", 65536), ("300000", 300000), ("2GiB", 2 << 30)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "big", "0", "-1MB", "1TB", "1 M B"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        parse_size(text)


def test_pictures_are_the_same_on_every_run(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        make_pictures(tmp_path / name, (72, 128), count=2)
    assert (tmp_path / "a/01.jpg").read_bytes() == (tmp_path / "b/01.jpg").read_bytes()
    assert (tmp_path / "a/00.jpg").read_bytes() != (tmp_path / "a/01.jpg").read_bytes()


@pytest.mark.slow
def test_packages_side_by_side(tmp_path: Path) -> None:
    """Two packages, one with two sizes of batches, on one core."""
    first, second = classifier(tmp_path / "first"), detector(tmp_path / "second")
    (tmp_path / "images").mkdir()
    images = make_pictures(tmp_path / "images", (72, 128), count=3)
    subjects = [Subject(str(first), "onnxruntime"), Subject(str(second), "onnxruntime", batch=2)]
    told: list[tuple[int, int]] = []
    found = bench(subjects, images, seconds=0.05, limits=Limits(cores=1), progress=lambda *done: told.append(done))
    assert [each.subject for each in found] == subjects
    assert told == [(1, 3), (2, 3), (3, 3)]
    for each in found:
        assert len(each.latency) >= LEAST
        assert all((values > 0).all() for values in each.stages.values())
        assert each.latency == pytest.approx(sum(each.stages.values()))
        assert each.fits
        assert each.peak is not None
        assert each.before is not None
        assert 10 << 20 < each.before < each.peak < 2 << 30
    assert found[0].against_first() == found[0].against_first(("infer",)) == (1.0, 1.0, 1.0)


@pytest.mark.slow
def test_a_device_of_little_memory(tmp_path: Path) -> None:
    package = classifier(tmp_path / "first")
    (tmp_path / "images").mkdir()
    images = make_pictures(tmp_path / "images", (720, 1280), count=1)
    subjects = [Subject(str(package), "onnxruntime")]
    (small,) = bench(subjects, images, seconds=0.01, limits=Limits(memory=8 << 20))
    (large,) = bench(subjects, images, seconds=0.01, limits=Limits(memory=2 << 30))
    assert (small.fits, small.peak) == (False, None)
    assert large.fits


def test_what_cannot_be_measured_is_told(tmp_path: Path) -> None:
    package = classifier(tmp_path / "first")
    for request, what in (
        (Request([tmp_path / "nothing"]), "this is no package"),
        (Request([package], backends=["cuda"]), "no backend 'cuda'"),
        (Request([package], backends=["tflite"]), "nothing that is asked for"),
        (Request([package], threads=[0]), "a number from 1 on"),
        (Request([package], seconds=0), "0 seconds"),
        (Request([package], limits=Limits(cores=0)), "without a core"),
        (Request([package], images=tmp_path / "none"), "no such file"),
        (Request([package], images=tmp_path / "first"), "no images"),
    ):
        with pytest.raises((InputError, UsageError), match=what):
            run_bench(request)


def test_a_broken_image_is_told(tmp_path: Path) -> None:
    package = classifier(tmp_path / "first")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"broken\.jpg: the image cannot be read"):
        bench([Subject(str(package), "onnxruntime")], [tmp_path / "broken.jpg"], seconds=0.01)


def test_files_that_are_no_images_are_left_out_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, folder = classifier(tmp_path / "first"), tmp_path / "images"
    folder.mkdir()
    (image,) = make_pictures(folder, (72, 128), count=1)
    taken: list[Path] = []

    def measure(subjects: list[Subject], images: list[Path], **options: object) -> list[Measured]:
        taken.extend(images)
        return [measured([1.0], [1.0])]

    monkeypatch.setattr("curate.edge.bench.run.bench", measure)
    for number in range(7):
        (folder / f"broken{number}.jpg").write_bytes(b"no image")
    report = run_bench(Request([package], backends=["onnxruntime"], images=folder))
    assert taken == [image]
    (note,) = [note for note in report.notes if "left out" in note]
    assert "broken0.jpg" in note
    assert note.endswith("broken4.jpg and 2 more")
    image.unlink()
    with pytest.raises(InputError, match="not one image can be read"):
        run_bench(Request([package], images=folder))
    with pytest.raises(InputError, match=r"broken0\.jpg: the image cannot be read"):
        run_bench(Request([package], images=folder / "broken0.jpg"))


@pytest.mark.parametrize("json_lines", [False, True])
def test_a_package_that_does_not_fit_shows_in_the_exit_status(
    json_lines: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = classifier(tmp_path / "first")
    for fits in (True, False):
        outcome = replace(measured([1.0], [1.0]), fits=fits)
        monkeypatch.setattr("curate.edge.bench.run.bench", lambda *given, outcome=outcome, **options: [outcome])
        arguments = ["bench", str(package), "--backend", "onnxruntime", *(["--json"] if json_lines else [])]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == (0 if fits else 1), done.output
        assert ("does not fit" in done.stdout) == (not fits and not json_lines)
        if json_lines:
            assert json.loads(done.stdout.splitlines()[0])["fits"] is fits


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    package = classifier(tmp_path / "first")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "image.png")
    arguments = ["bench", str(package), "--images", str(tmp_path / "image.png"), "--seconds", "0.01"]
    arguments += ["--backend", "onnxruntime", "--batch", "1", "--batch", "4"]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["batch"] for row in rows if "latency_ms" in row] == [1, 4]
    assert any("no convolutions" in row.get("note", "") for row in rows)
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    assert "images/s" in shown.output
