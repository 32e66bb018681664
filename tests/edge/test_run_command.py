"""Whole runs: files and streams in, lines, videos and numbers out, and every way to end."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from curate.cli import app
from curate.demo import NetworkCamera
from curate.edge.harvest.entry import read_entry
from curate.edge.harvest.ring import stored_entries
from curate.edge.runtime.answers import Cascade, Pair, Single, open_runner
from curate.edge.runtime.keeper import FrameContext, Tally
from curate.edge.runtime.run import Settings, run
from curate.edge.runtime.session import Wanted
from curate.edge.runtime.sources import open_source
from curate.edge.runtime.things import Band
from curate.errors import UsageError
from curate.imaging import Pixels
from curate.runner import Result as Found
from tests.edge.streams import serving_mjpeg
from tests.edge.tiny import classifier, detector, frame, segmenter, with_reference


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["run", *map(str, arguments)])


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def video(path: Path, pictures: Sequence[Pixels], rate: float = 10) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), rate, (64, 64))
    for picture in pictures:
        writer.write(np.ascontiguousarray(picture[..., ::-1]))
    writer.release()
    return path


def folder(path: Path, pictures: Sequence[Pixels]) -> Path:
    path.mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(path / f"{number:03d}.png")
    return path


def passing(frames: int = 40) -> list[Pixels]:
    """Red goes right along the top, green goes left along the bottom."""
    return [frame((10 + number, 16), (50 - number, 48)) for number in range(frames)]


def test_things_are_found_followed_and_counted(tmp_path: Path) -> None:
    package = detector(tmp_path / "p", min_score=0.3)
    source = video(tmp_path / "a.avi", passing())

    result = invoke(
        package, "--source", source, "--line", "mid=50%,0,50%,100%", "--zone", "left=0,0,32,0,32,64,0,64", "--json"
    )

    assert result.exit_code == 0, result.stderr
    *told, summary = lines(result.stdout)
    assert [line["frame"] for line in told] == list(range(40))
    assert [thing["label"] for thing in told[20]["objects"]] == ["red", "green"]
    assert told[20]["objects"][0]["bbox"] == pytest.approx([24, 10, 12, 12], abs=2)
    tracks = {(thing["label"], thing["track"]) for line in told for thing in line["objects"]}
    assert len(tracks) == 2
    crossings = [each for line in told for each in line.get("crossings", ())]
    assert {(each["where"], each["label"], each["way"]) for each in crossings} == {
        ("mid", "red", "out"),
        ("mid", "green", "in"),
        ("left", "red", "out"),
        ("left", "green", "in"),
    }
    assert (summary["offered"], summary["processed"], summary["lost"], summary["abandoned"]) == (40, 40, 0, 0)
    assert summary["things"]["mid"]["by_class"] == {"red": {"in": 0, "out": 1}, "green": {"in": 1, "out": 0}}
    assert summary["ended"] == "source"


def test_a_folder_is_run_through_in_batches(tmp_path: Path) -> None:
    package = classifier(tmp_path / "p", gain=50)
    source = folder(tmp_path / "images", [frame((32, 32)), frame(None, (32, 32)), frame(None, None, (20, 20))])
    for number in range(25):
        (source / f"broken-{number:02d}.png").write_bytes(b"x")

    result = invoke(package, "--source", source, "--batch", "2", "--output", tmp_path / "out.jsonl")

    assert result.exit_code == 0, result.stderr
    told = lines((tmp_path / "out.jsonl").read_text())
    assert [line["label"] for line in told] == ["red", "green", "blue"]
    assert "25 images or frames could not be read: broken-00.png, " in result.stderr
    assert "broken-04.png and 20 more" in result.stderr
    assert re.search(r"found +red 1, green 1, blue 1\s", result.stdout)
    summary = lines(invoke(package, "--source", source, "--json").stdout)[-1]
    assert summary["unreadable"] == 25
    assert summary["unreadable_names"] == [f"broken-{number:02d}.png" for number in range(20)]


def test_a_summary_is_in_words_with_units(tmp_path: Path) -> None:
    package, source = detector(tmp_path / "p", min_score=0.3), video(tmp_path / "a.avi", passing())
    zones = ["--zone", "left=0,0,32,0,32,64,0,64", "--zone", "none=60,0,64,0,64,4"]

    told = invoke(package, "--source", source, "--line", "mid=50%,0,50%,100%", *zones).stdout
    plain = invoke(package, "--source", source).stdout

    assert re.search(r"mid: 1 in, 1 out \(red 0 in 1 out, green 1 in 0 out\);", " ".join(told.split()))
    assert re.search(r"none: 0 in, 0 out, 0 now(?!,)", " ".join(told.split()))
    assert re.search(r"left: .* s each on average \(", " ".join(told.split()))
    assert re.search(r"found +red 40, green 40", told)
    assert re.search(r"stages worked +read [\d.]+ s, prepare [\d.]+ s", told)
    assert re.search(r"latency +p50 [\d.]+ ms", told)
    assert not re.search(r"None|\{|lines and zones", plain)


def test_regions_are_measured_in_square_millimetres(tmp_path: Path) -> None:
    package = segmenter(tmp_path / "p")
    source = folder(tmp_path / "images", [frame((20, 20), None, (44, 44))])

    told = lines(invoke(package, "--source", source, "--scale", "0.5", "--json").stdout)[0]

    assert {thing["label"]: thing["area_mm2"] for thing in told["objects"]} == {"red": 36.0, "blue": 36.0}
    assert told["objects"][0]["area_px"] == 144


def test_small_regions_are_left_out(tmp_path: Path) -> None:
    package = segmenter(tmp_path / "p")
    source = folder(tmp_path / "images", [frame((20, 20), None, (44, 44))])
    run = (package, "--source", source, "--scale", "0.5", "--json")

    told = [lines(invoke(*run, "--min-area", area).stdout) for area in ("36mm2", "145px")]
    unknown = invoke(package, "--source", source, "--min-area", "1mm2")
    boxes = invoke(detector(tmp_path / "d"), "--source", source, "--min-area", "9px")

    assert [len(line["objects"]) for line, _ in told] == [2, 0]
    assert told[0][0]["uncertainty"] == told[1][0]["uncertainty"]
    assert unknown.exit_code == boxes.exit_code == 2
    assert "add --scale" in unknown.stderr
    assert "leave out --min-area" in boxes.stderr


def test_boxes_are_measured_by_their_sides(tmp_path: Path) -> None:
    source = folder(tmp_path / "images", [frame((20, 20))])

    told = lines(invoke(detector(tmp_path / "p"), "--source", source, "--scale", "0.1", "--json").stdout)[0]

    assert told["objects"][0]["size_mm"] == pytest.approx([1.2, 1.2], abs=0.01)


def test_a_person_is_asked_in_the_band(tmp_path: Path) -> None:
    package = detector(tmp_path / "p")
    faint, bright, dark = frame((32, 32), light=120), frame((32, 32)), frame((32, 32), light=40)
    source = folder(tmp_path / "images", [faint, bright, dark])

    *told, summary = lines(invoke(package, "--source", source, "--ask", "0.3:0.7", "--json").stdout)

    assert [line["asks"] for line in told] == [True, False, False]
    assert told[0]["objects"][0]["asks"]
    assert told[2]["objects"] == []  # below the band
    assert summary["asked"] == 1


def test_the_packages_own_band_counts(tmp_path: Path) -> None:
    package = detector(tmp_path / "p", ask=[0.3, 0.7])
    source = folder(tmp_path / "images", [frame((32, 32), light=120)])

    assert lines(invoke(package, "--source", source, "--json").stdout)[0]["asks"]


def test_a_cascade_asks_the_heavy_package_only_where_it_must(tmp_path: Path) -> None:
    light, heavy = classifier(tmp_path / "l", gain=60), classifier(tmp_path / "h", name="sure", gain=900)
    clear, muddled = frame((20, 20)), frame((20, 20), (44, 44), light=120)
    source = folder(tmp_path / "images", [clear, muddled, clear])

    *told, summary = lines(invoke(light, "--source", source, "--heavy", heavy, "--threshold", "0.5", "--json").stdout)

    assert [line.get("heavy", False) for line in told] == [False, True, False]
    assert [line["package"] for line in told] == ["colors-1.0.0", "sure-1.0.0", "colors-1.0.0"]
    assert summary["heavy"] == 1


def test_two_packages_are_compared_on_every_frame(tmp_path: Path) -> None:
    one, other = classifier(tmp_path / "a", gain=50), classifier(tmp_path / "b", name="tilted", gain=50, tilt=3)
    source = folder(tmp_path / "images", [frame((20, 20)), frame(None, (20, 20)), frame((9, 9))])

    *told, summary = lines(invoke(one, "--source", source, "--against", other, "--json").stdout)

    assert [line["agreement"] for line in told] == [1.0, 0.0, 1.0]
    assert told[1]["other"]["label"] == "red"
    assert summary["agreement"] == pytest.approx(2 / 3, abs=1e-5)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_new_package_answers_its_share_of_the_frames(tmp_path: Path, batch: int) -> None:
    usual, new = classifier(tmp_path / "a", gain=50), classifier(tmp_path / "b", name="tilted", gain=50, tilt=3)
    source = folder(tmp_path / "images", [frame(None, (20, 20))] * 60)
    split = ["--source", source, "--against", new, "--share", "0.25", "--batch", batch, "--json"]

    *told, summary = lines(invoke(usual, *split).stdout)
    again, other = (lines(invoke(usual, *split, "--seed", seed).stdout)[:-1] for seed in (0, 1))

    turns = [line["package"] for line in told]
    assert {(line["package"], line["label"]) for line in told} == {("colors-1.0.0", "green"), ("tilted-1.0.0", "red")}
    assert 8 <= turns.count("tilted-1.0.0") <= 22
    assert [line["package"] for line in again] == turns != [line["package"] for line in other]
    assert summary["answered"].keys() == set(turns)
    for package, answered in summary["answered"].items():
        own = [line["uncertainty"] for line in told if line["package"] == package]
        assert answered["frames"] == len(own)
        assert answered["uncertainty"] == pytest.approx(sum(own) / len(own), abs=1e-5)
    assert summary["agreement"] is None


def test_a_share_is_a_part(tmp_path: Path) -> None:
    source, package = folder(tmp_path / "images", [frame((20, 20))]), classifier(tmp_path / "a")

    result = invoke(package, "--source", source, "--against", classifier(tmp_path / "b", name="b"), "--share", "1")

    assert result.exit_code == 2
    assert "1 is no part of the frames" in result.stderr


def test_packages_of_other_classes_are_not_compared(tmp_path: Path) -> None:
    source = folder(tmp_path / "images", [frame((20, 20))])

    result = invoke(classifier(tmp_path / "a"), "--source", source, "--against", detector(tmp_path / "b"))

    assert result.exit_code == 2
    assert "the packages differ" in result.stderr


class Forgetful:
    """What a keeper that keeps no count says."""

    def settle(self) -> None:
        pass

    def tally(self) -> Tally:
        return Tally()


class Collector(Forgetful):
    """A keeper that keeps everything."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, Found, FrameContext]] = []

    def offer(self, pixels: Pixels, result: Found, context: FrameContext) -> None:
        self.seen.append((int(pixels.sum()), result, context))


def test_a_keeper_gets_every_frame_with_what_is_known_of_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    usual = [frame(tuple(rng.uniform(20, 44, 2)), light=int(rng.integers(180, 255))) for _ in range(60)]
    package = with_reference(classifier(tmp_path / "p", gain=20), usual)
    strange = rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)
    source = folder(tmp_path / "images", [usual[0], strange])
    keeper = Collector()
    other = classifier(tmp_path / "q", name="other")

    model = Pair(open_runner(str(package)), open_runner(str(other)))
    run(model, open_source(str(source)), Settings(Wanted(band=Band(0.2, 0.999))), keeper=keeper)

    (light, result, first), (_, _, second) = keeper.seen
    assert light == int(usual[0].sum())
    assert (first.name, first.number, first.package, first.other_package) == (
        "000.png",
        0,
        "colors-1.0.0",
        "other-1.0.0",
    )
    assert first.uncertainty == result.uncertainty
    assert first.asks
    assert first.agreement == 1.0
    assert first.other is not None
    assert first.drift is not None
    assert second.drift is not None
    assert first.drift < 0.95 < 0.98 < second.drift


def test_hard_frames_go_into_the_ring(tmp_path: Path) -> None:
    source = folder(tmp_path / "images", [frame((20, 20), light=100), frame((40, 40), light=255)])

    result = invoke(detector(tmp_path / "p"), "--source", source, "--ask", "0.3:0.7", "--harvest", tmp_path / "hard")

    assert result.exit_code == 0, result.stderr
    assert len(list((tmp_path / "hard").rglob("image.*"))) == 1
    assert (
        "frames are hard from an uncertainty of 0.5 on" in result.stderr
    )  # a package of before does not say what is usual
    assert re.search(r"harvest +hard 1, kept 1, why \((asked|unsure) 1\), skipped \(similar 0,", result.stdout)


def muddled(count: int, seed: int) -> list[Pixels]:
    """Frames of two colors that a classifier is unsure of, now more and now less."""
    rng = np.random.default_rng(seed)
    lights = rng.integers(90, 255, (count, 2)).tolist()
    return [
        np.maximum(
            frame(tuple(rng.uniform(10, 54, 2)), light=red), frame(None, tuple(rng.uniform(10, 54, 2)), light=green)
        )
        for red, green in lights
    ]


def test_a_usual_day_keeps_a_few_in_a_hundred_of_a_model_that_is_always_unsure(tmp_path: Path) -> None:
    package = with_reference(classifier(tmp_path / "p", gain=20), muddled(60, 0), muddled(200, 1))
    source = folder(tmp_path / "images", muddled(300, 2))

    def hard(number: int, *options: str) -> int:
        more = ["--harvest", tmp_path / f"hard{number}", "--harvest-drift", "1", *options, "--json"]
        result = invoke(package, "--source", source, *more)
        assert "frames are hard from" not in result.stderr
        return int(lines(result.stdout)[-1]["harvest"]["hard"])

    assert hard(0, "--harvest-unsure", "0.5", "--frames", "50") > 45
    assert 3 <= hard(1) <= 30  # 15 are expected, of 300
    assert hard(2, "--harvest-unsure", "1", "--frames", "50") == 0


def cell(light: float, rng: np.random.Generator, tint: tuple[float, float, float] = (1.0, 0.8, 0.6)) -> Pixels:
    """What a camera sees of a cluttered place, after JPEG: reddish, unless it is tinted otherwise."""
    clutter = cv2.resize(rng.uniform(0.5, 1, (9, 9)), (64, 64))[..., None] * light * np.array(tint)
    pixels = (clutter + rng.normal(0, 3, (64, 64, 1))).clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1], cv2.IMREAD_COLOR))


def test_a_stream_that_darkens_and_packages_that_disagree_reach_the_ring(tmp_path: Path) -> None:
    """Of a camera: usual light, then ever darker, and then a green that only the second package takes for red."""
    rng = np.random.default_rng(0)
    package = with_reference(
        classifier(tmp_path / "p", gain=50), [cell(light, rng) for light in rng.uniform(150, 250, 90)]
    )
    other = classifier(tmp_path / "q", name="tilted", gain=50, tilt=9)
    usual = [cell(light, rng) for light in rng.uniform(160, 240, 20)]
    darker = [cell(light, rng) for light in range(140, 20, -6)]
    green = [cell(200, rng, (0.8, 1.0, 0.6)) for _ in range(20)]
    ring = tmp_path / "hard"

    with serving_mjpeg([*usual, *darker, *green]) as camera:
        options = ["--frames", "60", "--harvest", ring, "--harvest-unsure", "1", "--harvest-rate", "100000", "--json"]
        result = invoke(package, "--source", camera.url, "--against", other, *options)

    assert result.exit_code == 0, result.stderr
    entries = [read_entry(each.folder) for each in stored_entries(ring)]
    drifted = [each.context.number for each in entries if "drift" in each.reasons]
    disputed = [each.context.number for each in entries if "disagreement" in each.reasons]
    assert any(30 <= number < 40 for number in drifted)
    assert len([number for number in drifted if number < 20]) <= 2
    assert disputed
    assert min(disputed) >= 20
    assert all(entry.other is not None for entry in entries)
    harvest = lines(result.stdout)[-1]["harvest"]
    assert harvest["kept"] == len(entries) == sum(harvest["why"].values())
    assert set(harvest["why"]) == {"drift", "disagreement"}
    assert harvest["hard"] == harvest["kept"] + sum(harvest["skipped"].values()) + harvest["failed"]


def test_an_overlay_video_shows_every_frame(tmp_path: Path) -> None:
    source = video(tmp_path / "a.avi", passing(12))

    for name in ("out.mp4", "out.avi"):
        result = invoke(
            detector(tmp_path / "p" / name, min_score=0.3), "--source", source, "--track", "--overlay", tmp_path / name
        )
        assert result.exit_code == 0, result.stderr
        capture = cv2.VideoCapture(str(tmp_path / name))
        assert capture.get(cv2.CAP_PROP_FPS) == 10
        pictures = [capture.read()[1] for _ in range(12)]
        assert not capture.read()[0]
        assert all(picture.shape == (64, 64, 3) for picture in pictures)
        assert pictures[5].mean() > passing(12)[5].mean()  # something is drawn on it
    assert not list(tmp_path.glob("*.part.*"))


def test_lines_without_news_can_be_left_out(tmp_path: Path) -> None:
    source = folder(tmp_path / "images", [frame(), frame((20, 20)), frame()])

    *told, summary = lines(invoke(detector(tmp_path / "p"), "--source", source, "--only-found", "--json").stdout)

    assert [line["name"] for line in told] == ["001.png"]
    assert summary["processed"] == 3


@pytest.fixture
def camera() -> Any:
    with serving_mjpeg(passing()) as server:
        yield server


def test_a_camera_in_the_network_is_followed(camera: NetworkCamera, tmp_path: Path) -> None:
    result = invoke(
        detector(tmp_path / "p", min_score=0.3), "--source", camera.url, "--frames", "25", "--track", "--json"
    )

    assert result.exit_code == 0, result.stderr
    *told, summary = lines(result.stdout)
    assert summary["ended"] == "frames"
    assert summary["processed"] == len(told) == 25
    assert summary["offered"] == 25 + summary["lost"] + summary["abandoned"]
    assert any("track" in thing for line in told for thing in line["objects"])


def test_a_camera_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    result = invoke(detector(tmp_path / "p"), "--source", "camera:93")

    assert result.exit_code == 3
    assert result.stderr.count("error:") == 1
    assert "camera:93" in result.stderr
    assert "Traceback" not in result.stderr


def test_metrics_tell_what_the_run_does(camera: NetworkCamera, tmp_path: Path) -> None:
    texts: list[str] = []

    class Asks(Forgetful):
        def tally(self) -> Tally:
            return Tally(hard=4, kept={"unsure": 2}, skipped={"similar": 1}, failed=1)

        def offer(self, pixels: Pixels, result: Found, context: FrameContext) -> None:
            if context.number >= 10 and not texts:
                for path in ("metrics", "healthz"):
                    with urllib.request.urlopen(f"{addresses[0].rpartition('/')[0]}/{path}") as answer:
                        texts.append(answer.read().decode())

    addresses: list[str] = []
    summary = run(
        Single(open_runner(str(detector(tmp_path / "p", min_score=0.3)))),
        open_source(camera.url),
        Settings(metrics="0", most=40),
        keeper=Asks(),
        note=lambda text: addresses.append(text.removeprefix("metrics: ")),
    )

    values = dict(line.rsplit(" ", 1) for line in texts[0].splitlines() if not line.startswith("#"))
    assert float(values["curate_frames_processed_total"]) >= 1
    assert float(values["curate_frames_offered_total"]) >= float(values["curate_frames_processed_total"])
    assert float(values['curate_things_total{label="red"}']) >= 1
    assert float(values['curate_stage_seconds_total{stage="infer"}']) > 0
    assert float(values["curate_resident_bytes"]) > 1e7
    assert int(values["curate_latency_seconds_count"]) >= 1
    assert texts[1] == "ok\n"
    assert values["curate_harvest_hard_total"] == "4"
    assert values['curate_harvest_kept_total{reason="unsure"}'] == "2"
    assert values['curate_harvest_skipped_total{why="similar"}'] == "1"
    assert values["curate_harvest_failed_total"] == "1"
    assert summary.harvest == Asks().tally().to_json()
    assert summary.offered == summary.processed + summary.lost + summary.abandoned


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "either a source or labels"),
        (["--source", "nowhere"], "no such file"),
        (["--source", ".", "--line", "a=1"], "no name with points"),
        (["--source", ".", "--line", "a=1,1,2,2", "--no-track"], "count tracks"),
        (["--source", ".", "--ask", "0.9:0.1"], "no band"),
        (["--source", ".", "--scale", "0"], "0 mm"),
        (["--source", ".", "--fps", "0"], "cannot be kept"),
        (["--source", ".", "--overlay", "a.gif"], "no video that can be written"),
        (["--source", ".", "--metrics", "here"], "no address"),
        (["--labels", "x"], "labels are for two packages"),
        (["--source", ".", "--harvest", "h", "--harvest-unsure", "much"], "no uncertainty"),
        (["--source", ".", "--harvest", "h", "--harvest-unsure", "100%"], "all of them"),
        (["--source", ".", "--harvest", "h", "--harvest-drift", "2"], "not from 0 to 1"),
        (["--source", ".", "--harvest", "h", "--harvest-rate", "0"], "cannot be kept"),
        (["--source", ".", "--harvest", "h", "--harvest-size", "0"], "holds nothing"),
        (["--source", ".", "--harvest", "h", "--harvest-size", "nan"], "nan is no number"),
        (["--source", ".", "--harvest", "h", "--harvest-rate", "inf"], "inf is no number"),
        (["--source", ".", "--output", "o", "--output-limit", "inf"], "inf is no number"),
        (["--source", ".", "--track-score", "nan"], "nan is no number"),
        (["--source", ".", "--scale", "nan"], "nan is no number"),
        (["--source", ".", "--stall", "nan"], "nan is no number"),
        (["--source", "camera:0", "--patience", "-1"], "-1 is not above 0"),
        (["--source", ".", "--patience", "5"], "only a camera or stream"),
        (["--source", ".", "--fps", "5"], "have no times"),
        (["--source", ".", "--alpha", "0.1"], "of a run on labels"),
        (["--source", ".", "--max-loss", "0.1"], "of a run on labels"),
        (["--source", ".", "--splits", "val"], "of a run on labels"),
        (["--source", ".", "--where", "TRUE"], "of a run on labels"),
        (["--source", ".", "--seed", "1"], "nothing is drawn"),
        (["--source", ".", "--share", "0.1"], "nobody to share frames with"),
        (["--labels", "x", "--against", "p", "--share", "0.1"], "of a run on a source"),
        (
            ["--source", ".", "--against", "p", "--share", "0.1", "--harvest", "h", "--harvest-disagreement", "0.1"],
            "one answer",
        ),
        (["--source", ".", "--threshold", "0.1"], "of a cascade"),
        (["--source", ".", "--harvest-rate", "3"], "no frames are kept"),
        (["--source", ".", "--harvest", "h", "--harvest-disagreement", "0.1"], "nobody to disagree"),
        (["--labels", "x", "--harvest", "h"], "of a run on a source"),
        (["--labels", "x", "--output", "o"], "of a run on a source"),
        (["--labels", "x", "--frames", "3"], "of a run on a source"),
        (["--labels", "x", "--against", "p", "--seed", "1"], "of a cascade"),
        (["--labels", "x", "--against", "p", "--max-loss", "0.1"], "of a cascade"),
        (["--labels", "x", "--heavy", "p", "--alpha", "0.1"], "that are compared"),
        (["--labels", "x", "--heavy", "p", "--max-loss", "-1"], "-1 is below 0"),
        (["--labels", "x", "--heavy", "p", "--max-loss", "nan"], "nan is no number"),
        (["--source", ".", "--zone", "a=5,5,5,5,5,5"], "on one line"),
        (["--source", ".", "--zone", "a=1,1,2,2,3,3"], "on one line"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    package = detector(tmp_path / "p")
    monkeypatch.chdir(folder(tmp_path / "images", [frame((20, 20))]))

    result = invoke(package, *options)

    assert result.exit_code == 2
    assert said in result.stderr


def test_a_classifier_cannot_count(tmp_path: Path) -> None:
    source = folder(tmp_path / "images", [frame((20, 20))])

    result = invoke(classifier(tmp_path / "p"), "--source", source, "--line", "a=1,1,2,2")

    assert result.exit_code == 2
    assert "finds no things to follow" in result.stderr


def test_a_folder_that_is_no_package_is_refused(tmp_path: Path) -> None:
    result = invoke(tmp_path, "--source", tmp_path)

    assert result.exit_code == 2
    assert "no package" in result.stderr
    assert f"at: {tmp_path / 'package.json'}\n" in result.stderr
    assert re.search(r"do: give the folder", result.stderr)


@pytest.mark.parametrize(
    ("option", "value"), [("--stall", "0"), ("--stall", "nan"), ("--seconds", "-1"), ("--seconds", "inf")]
)
def test_a_time_that_is_none_is_told_by_its_option(tmp_path: Path, option: str, value: str) -> None:
    settings = {option.removeprefix("--"): float(value)}

    with pytest.raises(UsageError, match="no time to wait") as caught:
        Settings(**settings)  # type: ignore[arg-type]

    assert caught.value.where == option
    result = invoke(detector(tmp_path / "p"), "--source", tmp_path, option, value)
    assert result.exit_code == 2
    assert option in result.stderr


# ------------------------------------------------------------------------------------------------------------ how runs end


def start(*arguments: object) -> subprocess.Popen[str]:
    """The command in a process of its own, in which Ctrl-C is not ignored as it is in jobs in the background."""
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\nfrom curate.cli import main; main()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, "run", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rest_of(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it still says; `communicate` would miss what `readline` has read ahead."""
    assert process.stdout is not None
    assert process.stderr is not None
    rest, said = process.stdout.read(), process.stderr.read()
    process.wait(timeout=60)
    return rest, said


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_live_run_in_order(camera: NetworkCamera, tmp_path: Path, number: signal.Signals) -> None:
    package = detector(tmp_path / "p", min_score=0.3)
    output, overlay = tmp_path / "out.jsonl", tmp_path / "out.mp4"
    with start(package, "--source", camera.url, "--output", output, "--overlay", overlay, "--json") as process:
        assert process.stdout is not None
        first = [process.stdout.readline() for _ in range(10)]
        process.send_signal(number)
        rest, said = rest_of(process)

    assert process.returncode == 0, said
    *told, summary = lines("".join(first) + rest)
    assert summary["ended"] == "signal"
    assert summary["offered"] == summary["processed"] + summary["lost"] + summary["abandoned"]
    assert [line["frame"] for line in lines(output.read_text())] == [line["frame"] for line in told]
    assert len(told) == summary["processed"]
    assert cv2.VideoCapture(str(overlay)).get(cv2.CAP_PROP_FRAME_COUNT) == len(told)
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_signal_ends_a_folder_as_interrupted(tmp_path: Path) -> None:
    source = folder(tmp_path / "images", [frame((20, 20))] * 20)
    for number in range(5000):
        (source / f"more-{number:05d}.png").hardlink_to(source / "000.png")
    with start(detector(tmp_path / "p"), "--source", source, "--json") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        rest, said = rest_of(process)

    assert process.returncode == 130, said
    *told, summary = lines(first + rest)
    assert summary["processed"] == len(told) < 5020
    assert summary["lost"] == 0


@pytest.mark.slow
def test_a_killed_run_leaves_whole_lines(camera: NetworkCamera, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with start(detector(tmp_path / "p"), "--source", camera.url, "--output", output, "--json") as process:
        assert process.stdout is not None
        for _ in range(10):
            process.stdout.readline()
        process.kill()

    assert len(lines(output.read_text())) >= 10


@pytest.mark.slow
def test_a_last_stage_that_hangs_ends_the_process(camera: NetworkCamera, tmp_path: Path) -> None:
    program = f"""
import time
from curate.edge.runtime.answers import Single, open_runner
from curate.edge.runtime.run import Settings, run
from curate.edge.runtime.sources import open_source
class Hangs:
    def offer(self, *_):
        time.sleep(600)
run(Single(open_runner({str(detector(tmp_path / "p"))!r})), open_source({camera.url!r}), Settings(stall=1.0), keeper=Hangs())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 3
    assert "the stage 'finish' has been at one frame" in done.stderr


def test_a_stage_that_hangs_is_told_and_left(tmp_path: Path) -> None:
    class Hangs(Single):
        def prepare(self, pixels: Pixels) -> Any:
            time.sleep(3)
            return super().prepare(pixels)

    model = Hangs(open_runner(str(detector(tmp_path / "p"))))
    source = open_source(str(folder(tmp_path / "images", [frame((20, 20))])))

    with pytest.raises(Exception, match="the stage 'prepare' has been at one frame") as caught:
        run(model, source, Settings(stall=0.4))

    assert getattr(caught.value, "exit_code", None) == 3


def test_a_time_limit_ends_a_run(camera: NetworkCamera, tmp_path: Path) -> None:
    result = invoke(detector(tmp_path / "p"), "--source", camera.url, "--seconds", "0.7", "--json")

    assert result.exit_code == 0, result.stderr
    assert lines(result.stdout)[-1]["ended"] == "seconds"


def test_cascades_need_a_threshold_that_is_one(tmp_path: Path) -> None:
    runner = open_runner(str(classifier(tmp_path / "p")))

    with pytest.raises(Exception, match="no uncertainty"):
        Cascade(runner, runner, 1.5)
