"""`curate import harvest://`: images, predictions and findings in one commit; only what is new, and copies left out."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from typer.testing import CliRunner

from curate.checks.duplicates.pairs import Pairs, certain_pairs, concatenate
from curate.checks.store import stored_findings
from curate.cli import app
from curate.dataset import open_dataset
from curate.edge.harvest.entry import HardFrame, encode
from curate.edge.harvest.importing import copies_to_leave_out, import_harvest
from curate.edge.harvest.ring import Ring, stored_entries
from curate.errors import FormatError, UsageError
from curate.formats.base import ReadOptions
from curate.formats.importing import ImportResult, import_source
from curate.runner import Result
from tests.edge.harvest_cases import CLASSES, FACTS, PACKAGE, boxes, context, picture
from tests.test_crash import calls, run


def keep(folder: Path, *frames: HardFrame, package: bool = True) -> None:
    with Ring(folder) as ring:
        if package:
            ring.add_package(PACKAGE, FACTS)
        for frame in frames:
            ring.put(frame)


def frame_of(seed: int, size: tuple[int, int] = (240, 320), **said: float) -> HardFrame:
    reasons = said or {"unsure": 0.5 + seed / 100}
    return HardFrame(picture(seed, size), boxes(0.5, size), context(seed), reasons)


def bring(folder: Path, name: str = "parts", *, strict: bool = False) -> ImportResult:
    return import_harvest(name, f"harvest://{folder}", options=ReadOptions(), strict=strict, command="curate import")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset 'parts' of four labelled pictures, seeds 100 to 103."""
    folder = tmp_path / "labelled"
    for seed in range(100, 104):
        path = folder / CLASSES[seed % 2] / f"{seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(seed, (240, 320))).save(path)
    import_source("parts", folder, format="imagefolder", command="curate import")
    return folder


def test_frames_become_images_predictions_and_findings(tmp_path: Path, dataset: Path) -> None:
    keep(tmp_path / "ring", frame_of(1), frame_of(2, drift=0.9, unsure=0.6))
    result = bring(tmp_path / "ring")
    stored = open_dataset("parts")
    assert result.losses.losses == []
    assert result.losses.carried_counts["images"] == result.counts["images added"] == 2
    assert stored.count("images") == 6
    new = stored.table("images", where="location LIKE 'harvest/%'").to_pylist()
    for row in new:
        assert Path(row["path"]).is_relative_to(stored.path)
        with Image.open(row["path"]) as image:
            assert (row["width"], row["height"]) == image.size == (320, 240)
        assert (row["group"].partition(" (")[0], json.loads(row["metadata"])["package"]) == ("camera:0", PACKAGE)
    assert len({row["group"] for row in new}) == 1  # 40 ms apart: one burst
    assert sorted(row["frame"] for row in new) == [1, 2]
    rows = stored.table("annotations", where="layer = 'predictions/parts@1.0.0'").to_pylist()
    assert sorted((row["label"], row["score"]) for row in rows) == [("bolt", 0.5)] * 2 + [("nut", 0.25)] * 2
    assert rows[0]["bbox"] == pytest.approx([10.25, 20.0, 30.0, 40.5])
    findings = stored_findings(stored, kind="hard")
    assert [finding.score for finding in findings] == [0.9, 0.51]
    assert findings[0].evidence["reasons"] == {"drift": 0.9, "unsure": 0.6}
    assert (findings[0].check, findings[0].status) == ("harvest", "open")
    assert findings[0].evidence["package"] == PACKAGE
    assert findings[1].evidence["why"] == "parts@1.0.0 is unsure (0.80)"
    assert stored.commit.number == 2  # one commit for all of it


def test_again_brings_only_what_is_new(tmp_path: Path, dataset: Path) -> None:
    keep(tmp_path / "ring", frame_of(1))
    first = bring(tmp_path / "ring")
    again = bring(tmp_path / "ring")
    assert (again.counts, again.commit) == ({}, first.commit)
    keep(tmp_path / "ring", frame_of(2))
    later = bring(tmp_path / "ring")
    assert later.counts["images added"] == 1
    assert len(stored_findings(open_dataset("parts"), kind="hard")) == 2


def test_verdicts_on_earlier_frames_stay(tmp_path: Path, dataset: Path) -> None:
    from curate.checks.store import set_status

    keep(tmp_path / "ring", frame_of(1))
    bring(tmp_path / "ring")
    set_status("parts", "rejected", ids=[stored_findings(open_dataset("parts"))[0].id], command="curate reject")
    keep(tmp_path / "ring", frame_of(2))
    bring(tmp_path / "ring")
    assert sorted(finding.status for finding in stored_findings(open_dataset("parts"))) == ["open", "rejected"]


def test_copies_of_what_the_dataset_has_are_left_out_and_told(tmp_path: Path, dataset: Path) -> None:
    lighter = np.asarray(ImageEnhance.Brightness(Image.fromarray(picture(100, (240, 320)))).enhance(1.1))
    near = dataclasses.replace(frame_of(1), pixels=lighter)
    equal = dataclasses.replace(frame_of(2), pixels=picture(101, (240, 320)))
    with Ring(tmp_path / "ring", lossless=True) as ring:
        ring.add_package(PACKAGE, FACTS)
        for frame in (near, equal, frame_of(3)):
            ring.put(frame)
    result = bring(tmp_path / "ring")
    said = {loss.reason: (loss.what, loss.count) for loss in result.losses.losses}
    assert said == {
        "near copies of images that the dataset has": ("images", 1),
        "equal to images that the dataset has": ("images", 1),
    }
    assert any("bolt/100.png" in place for loss in result.losses.losses for place in loss.places)
    stored = open_dataset("parts")
    assert stored.count("images") == 5
    assert len(stored_findings(stored)) == 1
    left = {path.name for path in (stored.path / "files").rglob("*.png")}
    assert len(left) == 1  # the pictures that were left out take no room
    known = set(stored.table("images")["image_id"].to_pylist())
    for table in stored.commit.tables:
        if table.startswith(("measures/", "embeddings/")):
            assert set(stored.table(table)["id"].to_pylist()) <= known, table
    again = bring(tmp_path / "ring")  # what was left out is remembered
    assert (again.counts, again.losses.losses) == ({}, [])


def test_of_frames_that_look_alike_the_hardest_comes(tmp_path: Path, dataset: Path) -> None:
    base = picture(7, (240, 320)).astype(np.int16)
    random = np.random.default_rng(0)
    noisy = [(base + random.integers(-5, 6, base.shape)).clip(0, 255).astype(np.uint8) for _ in range(3)]
    frames = [
        HardFrame(pixels, boxes(0.5, (240, 320)), context(number), {"unsure": value})
        for number, (pixels, value) in enumerate(zip(noisy, (0.6, 0.9, 0.7), strict=True))
    ]
    keep(tmp_path / "ring", *frames)
    result = bring(tmp_path / "ring")
    assert {loss.reason: loss.count for loss in result.losses.losses} == {
        "near copies of harder frames of this harvest": 2
    }
    assert [finding.score for finding in stored_findings(open_dataset("parts"))] == [0.9]


def test_strict_writes_nothing_where_something_is_left_out(tmp_path: Path, dataset: Path) -> None:
    keep(tmp_path / "ring", dataclasses.replace(frame_of(2), pixels=picture(101, (240, 320))), frame_of(3))
    with pytest.raises(FormatError, match="dropped"):
        bring(tmp_path / "ring", strict=True)
    stored = open_dataset("parts")
    assert (stored.commit.number, stored.count("images")) == (1, 4)
    assert not list((stored.path / "files").rglob("*.jpg"))


def test_a_new_dataset_takes_the_package_s_classes(tmp_path: Path) -> None:
    with Ring(tmp_path / "ring") as ring:
        ring.add_package(PACKAGE, {**FACTS, "classes": [*CLASSES, "washer"]})  # of which there are none on the frames
        ring.put(frame_of(1))
        ring.put(frame_of(2))
    bring(tmp_path / "ring", "fresh")
    stored = open_dataset("fresh")
    assert [info["name"] for info in stored.commit.classes] == [*CLASSES, "washer"]
    assert stored.count("annotations", where="layer = 'predictions/parts@1.0.0'") == 4
    assert stored.count("annotations", where="layer = 'ground_truth'") == 0


def test_classes_that_the_dataset_lacks_are_told(tmp_path: Path, dataset: Path) -> None:
    with Ring(tmp_path / "ring") as ring:
        ring.add_package(PACKAGE, {**FACTS, "classes": ["bolt", "washer"]})
        ring.put(frame_of(1))
    with Ring(tmp_path / "other") as ring:
        ring.add_package(PACKAGE, {**FACTS, "classes": ["cat", "dog"]})
        ring.put(frame_of(2))
    some, none = bring(tmp_path / "ring"), bring(tmp_path / "other")
    assert [(loss.what, loss.reason) for loss in some.losses.losses] == [
        ("annotations", "the dataset has no such class")
    ]
    assert [(loss.what, loss.reason) for loss in none.losses.losses] == [
        ("predictions", "the package and the dataset have no class in common")
    ]
    assert len(stored_findings(open_dataset("parts"))) == 2  # the frames are worth a look all the same


def test_other_tasks_and_two_packages(tmp_path: Path) -> None:
    size = (240, 320)
    where = np.full(size, -1, np.int16)
    where[40:80, 100:160] = 1
    mapped = Result("segment", size, class_map=where, confidence=np.full(size, 0.75, np.float32))
    said = Result("classify", size, probabilities=np.array([0.4, 0.6], np.float32))
    frame = HardFrame(
        picture(1, size), mapped, context(1, other=said, other_package="judge@2.0.0"), {"disagreement": 0.8}
    )
    with Ring(tmp_path / "ring") as ring:
        ring.add_package(PACKAGE, FACTS)
        ring.add_package("judge@2.0.0", {**FACTS, "name": "judge"})
        ring.put(frame)
    bring(tmp_path / "ring")
    stored = open_dataset("parts")
    (mask,) = stored.table("annotations", where="layer = 'predictions/parts@1.0.0'").to_pylist()
    (label,) = stored.table("annotations", where="layer = 'predictions/judge@2.0.0'").to_pylist()
    assert (mask["label"], mask["type"], mask["bbox"]) == ("nut", "mask", [100, 40, 60, 40])
    assert mask["score"] == pytest.approx(0.75, abs=0.01)
    assert (label["label"], label["type"]) == ("nut", "label")


def test_damaged_entries_are_left_out_and_told(tmp_path: Path) -> None:
    keep(tmp_path / "ring", frame_of(1), frame_of(2), frame_of(3))
    first, second, _ = stored_entries(tmp_path / "ring")
    (first.folder / "image.jpg").write_bytes(b"broken")
    (second.folder / "image.jpg").unlink()
    result = bring(tmp_path / "ring")
    assert sorted((loss.reason, loss.count) for loss in result.losses.losses) == [
        ("the entry is damaged: a file is missing", 1),
        ("the entry is damaged: image.jpg is not what was written", 1),
    ]
    assert open_dataset("parts").count("images") == 1


def spoil(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change an entry's facts as somebody would who leaves the checksum out."""
    facts = json.loads((folder / "entry.json").read_text())
    del facts["checksum"]
    change(facts)
    (folder / "entry.json").write_text(json.dumps(facts))


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts["prediction"].update(labels=[0, 7]),
        lambda facts: facts["prediction"].update(labels=[0, -1]),
        lambda facts: facts["prediction"].update(labels=[0, 1.5]),
        lambda facts: facts["prediction"].update(labels=[0, 2**80]),
        lambda facts: facts["prediction"].update(scores=[0.5]),
        lambda facts: facts["prediction"].update(scores=[0.5, float("nan")]),
        lambda facts: facts["prediction"].update(scores=["a", "b"]),
        lambda facts: facts["prediction"].update(boxes=[[1, 2, 3, float("inf")], [1, 2, 3, 4]]),
        lambda facts: facts["prediction"].update(size=[10, 20]),
        lambda facts: facts["prediction"].update(size=[240.0, "x"]),
        lambda facts: facts["prediction"].pop("boxes"),
        lambda facts: facts["prediction"].update(task="guess"),
        lambda facts: facts.update(prediction={"task": "segment", "size": [240, 320], "file": "none.npz"}),
        lambda facts: facts.update(prediction={"task": "classify", "size": [240, 320], "probabilities": [0.1] * 9}),
        lambda facts: facts.update(prediction=None),
        lambda facts: facts.update(time="yesterday"),
        lambda facts: facts.update(time=float("nan")),
        lambda facts: facts.update(time=-1e10),
        lambda facts: facts.update(number=-3),
        lambda facts: facts.update(number=2**70),
        lambda facts: facts.update(seconds=[]),
        lambda facts: facts.update(source=None),
        lambda facts: facts.update(source="\ud800"),
        lambda facts: facts.update(package=5),
        lambda facts: facts.update(uncertainty="much"),
        lambda facts: facts.update(drift=[0.5]),
        lambda facts: facts.update(asks="no"),
        lambda facts: facts.update(score=float("nan")),
        lambda facts: facts.update(reasons={"unsure": None}),
        lambda facts: facts.update(id="000000000001-00000000"),
        lambda facts: facts.update(files=[]),
        lambda facts: facts.update(other_package="judge"),
    ],
)
def test_one_damaged_entry_does_not_stop_the_import(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    keep(tmp_path / "ring", frame_of(1), frame_of(2))
    first, second = stored_entries(tmp_path / "ring")
    spoil(second.folder, lambda facts: None)  # entries of before have no checksum, and are whole
    spoil(first.folder, change)
    result = bring(tmp_path / "ring")
    ((reason, count),) = [(loss.reason, loss.count) for loss in result.losses.losses]
    assert reason.startswith("the entry is damaged: ")
    assert count == 1
    assert open_dataset("parts").count("images") == 1


@pytest.mark.parametrize("facts", [b"[" * 100_000, b"\xff\xfe", b"null", b"{}"])
def test_facts_that_are_none_do_not_stop_the_import(tmp_path: Path, facts: bytes) -> None:
    keep(tmp_path / "ring", frame_of(1), frame_of(2))
    (stored_entries(tmp_path / "ring")[0].folder / "entry.json").write_bytes(facts)
    result = bring(tmp_path / "ring")
    assert [loss.count for loss in result.losses.losses] == [1]


def test_a_changed_fact_is_seen_by_its_checksum(tmp_path: Path) -> None:
    keep(tmp_path / "ring", frame_of(1), frame_of(2))
    path = stored_entries(tmp_path / "ring")[0].folder / "entry.json"
    path.write_bytes(path.read_bytes().replace(b"10.25", b"90.25"))
    result = bring(tmp_path / "ring")
    assert "entry.json is not what was written" in result.losses.losses[0].reason


def test_each_version_of_a_package_has_a_layer(tmp_path: Path) -> None:
    """Both of two that were compared, and a later one."""
    with Ring(tmp_path / "ring") as ring:
        for version in ("1.0.0", "1.1.0"):
            ring.add_package(f"parts-{version}", {**FACTS, "version": version})
        said = context(1, package="parts-1.0.0", other=boxes(0.9, (240, 320)), other_package="parts-1.1.0")
        ring.put(HardFrame(picture(1, (240, 320)), boxes(0.5, (240, 320)), said, {"disagreement": 0.8}))
    bring(tmp_path / "ring")
    stored = open_dataset("parts")
    for layer, score in (("parts-1.0.0", 0.5), ("parts-1.1.0", 0.9)):
        rows = stored.table("annotations", where=f"layer = 'predictions/{layer}' AND label = 'bolt'").to_pylist()
        assert [row["score"] for row in rows] == [score]


def test_a_package_that_no_layer_can_be_called_after_is_told(tmp_path: Path) -> None:
    with Ring(tmp_path / "ring") as ring:
        ring.add_package("../../x", FACTS)
        ring.put(dataclasses.replace(frame_of(1), context=context(1, package="../../x")))
    result = bring(tmp_path / "ring")
    assert [loss.reason for loss in result.losses.losses] == ["no layer can be called as the package is"]


def test_classes_of_a_damaged_package_are_not_taken(tmp_path: Path) -> None:
    with Ring(tmp_path / "ring") as ring:
        ring.add_package(PACKAGE, {**FACTS, "classes": ["bolt", None]})
        ring.put(frame_of(1))
    result = bring(tmp_path / "ring")
    assert [loss.what for loss in result.losses.losses] == ["predictions"]


def groups_of(name: str = "parts") -> dict[int, str]:
    rows = open_dataset(name).table("images", where="location LIKE 'harvest/%'").to_pylist()
    return {row["frame"]: row["group"] for row in rows}


def at(seed: int, time: float, **values: object) -> HardFrame:
    return dataclasses.replace(frame_of(seed), context=context(seed, **{"time": 1.7e9 + time, **values}))


def test_frames_of_one_burst_are_one_group(tmp_path: Path) -> None:
    """In one import as in several."""
    times = (0.0, 5.0, 14.9, 25.0, 100.0)
    for seed, time in enumerate(times):
        keep(tmp_path / "bit by bit", at(seed, time))
        bring(tmp_path / "bit by bit", "slow")
    keep(tmp_path / "ring", *(at(seed, time) for seed, time in enumerate(times)))
    bring(tmp_path / "ring")
    for found in (groups_of(), groups_of("slow")):
        assert found[0] == found[1] == found[2]
        assert len({found[2], found[3], found[4]}) == 3
        assert found[0].startswith("camera:0 (")


def test_a_scene_that_stays_hard_is_more_than_one_burst(tmp_path: Path) -> None:
    keep(tmp_path / "ring", *(at(seed, 8.0 * seed) for seed in range(17)))
    bring(tmp_path / "ring")
    assert sorted(Counter(groups_of().values()).values()) == [1, 8, 8]


def test_devices_and_sources_are_told_apart(tmp_path: Path) -> None:
    keep(tmp_path / "a", at(1, 0), at(2, 0.5, source="rtsp://door/1"))
    keep(tmp_path / "b", at(3, 1))
    bring(tmp_path / "a")
    bring(tmp_path / "b")
    assert len(set(groups_of().values())) == 3


def test_frames_of_a_video_are_one_group_and_images_of_a_folder_none(tmp_path: Path) -> None:
    keep(tmp_path / "ring", at(1, 0, source="/v/a.mp4"), at(2, 900, source="/v/a.mp4"), at(3, 0, seconds=None))
    bring(tmp_path / "ring")
    rows = open_dataset("parts").table("images").to_pylist()
    groups = [row["group"] for row in rows]
    assert sorted(Counter(groups).items(), key=str) == sorted({groups[0]: 2, None: 1}.items(), key=str)
    assert groups[0] is not None
    assert groups[0].startswith("/v/a.mp4 (")


def test_nothing_to_import(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no harvest here"):
        bring(tmp_path)
    with pytest.raises(UsageError, match="an address without a folder"):
        import_harvest("parts", "harvest://", options=ReadOptions(), command="curate import")
    keep(tmp_path / "ring")
    with pytest.raises(FormatError, match="no frames yet"):
        bring(tmp_path / "ring")
    keep(tmp_path / "ring", frame_of(1))
    (stored_entries(tmp_path / "ring")[0].folder / "image.jpg").write_bytes(b"broken")
    with pytest.raises(FormatError, match="not one frame can be read"):
        bring(tmp_path / "ring")


def test_a_ring_that_is_copied_is_the_same_ring(tmp_path: Path) -> None:
    keep(tmp_path / "ring", frame_of(1))
    bring(tmp_path / "ring")
    shutil.copytree(tmp_path / "ring", tmp_path / "copied")
    assert bring(tmp_path / "copied").counts == {}


@pytest.mark.slow
def test_importing_while_the_device_writes(tmp_path: Path) -> None:
    """The ring lets go of entries while they are read: what is imported is whole, and nothing else is lost."""
    folder = tmp_path / "ring"
    size = sum(map(len, encode(frame_of(0), "0" * 21).values()))
    command = [sys.executable, "-m", "tests.edge.harvest_cases", str(folder), "3", str(10 * size)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    try:
        assert child.stdout is not None
        child.stdout.readline()
        for _ in range(3):
            result = bring(folder)
            assert {loss.reason for loss in result.losses.losses} <= {
                "the device let go of it meanwhile",
                "near copies of harder frames of this harvest",
                "near copies of images that the dataset has",
                "equal to images that the dataset has",
            }
    finally:
        child.kill()
        child.communicate()
    stored = open_dataset("parts")
    assert stored.count("images") == len(stored_findings(stored)) > 0
    for path in stored.table("images")["path"].to_pylist():
        with Image.open(path) as image:
            image.load()


@pytest.mark.slow
def test_kill_9_while_importing(tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever moment the import dies at, the dataset has all of the harvest or nothing, and the next import mends it."""
    keep(tmp_path / "ring", *(frame_of(seed) for seed in range(3)))
    arguments = ("import", f"harvest://{tmp_path / 'ring'}", "-d", "parts")
    clean = tmp_path / "curate-home"
    shutil.copytree(clean, tmp_path / "whole")
    monkeypatch.setenv("CURATE_HOME", str(tmp_path / "whole"))
    total = calls(run(*arguments))
    seen = set()
    for at, limit in enumerate(np.linspace(0.6 * total, total - 1, 3).astype(int).tolist()):
        home = tmp_path / f"home-{at}"
        shutil.copytree(clean, home)
        monkeypatch.setenv("CURATE_HOME", str(home))
        assert run(*arguments, kill_at=limit).returncode == -9
        count = open_dataset("parts").count("images")
        assert count == 4 + len(stored_findings(open_dataset("parts")))
        seen.add(count)
        again = CliRunner().invoke(app, list(arguments))
        assert again.exit_code == 0, again.output
        stored = open_dataset("parts")
        assert stored.count("images") == 7
        left = {str(path) for path in (stored.path / "files").rglob("*.jpg")}
        assert left == set(stored.table("images", where="location LIKE 'harvest/%'")["path"].to_pylist())
    assert seen <= {4, 7}


def test_the_command(tmp_path: Path, dataset: Path) -> None:
    keep(tmp_path / "ring", frame_of(1), dataclasses.replace(frame_of(2), pixels=picture(101, (240, 320))))
    result = CliRunner().invoke(app, ["import", f"harvest://{tmp_path / 'ring'}", "-d", "parts", "--json"])
    said = json.loads(result.stdout)
    assert (said["format"], said["changes"]["images added"], said["commit"]) == ("harvest", 1, 2)
    assert said["losses"][0]["count"] == 1
    refused = CliRunner().invoke(app, ["import", f"harvest://{tmp_path / 'ring'}", "-d", "parts", "--fps", "2"])
    assert refused.exit_code == 2


@pytest.mark.slow
def test_select_finds_them(tmp_path: Path, dataset: Path) -> None:
    keep(tmp_path / "ring", *(frame_of(seed) for seed in range(4)))
    bring(tmp_path / "ring")
    result = CliRunner().invoke(app, ["select", "--budget", "2", "-d", "parts", "--json"])
    assert result.exit_code == 0, result.output
    chosen = [json.loads(line) for line in result.stdout.splitlines()]
    assert len([row for row in chosen if str(row.get("image", "")).startswith("harvest/")]) == 2


def near_pairs(*links: tuple[int, int]) -> Pairs:
    first, second = (np.array(side, np.int64) for side in zip(*links, strict=True))
    return dataclasses.replace(certain_pairs(first, second, 2), kind=np.full(len(links), 2, np.int8))


@pytest.mark.parametrize(
    ("equal", "near", "order", "gone"),
    [
        ([], [(0, 1)], [-np.inf, 0.0], {1: (0, True)}),
        ([(0, 1)], [], [-np.inf, 0.0], {1: (0, False)}),
        ([(0, 1)], [], [-np.inf, -np.inf], {}),  # both were there before
        ([], [(0, 1), (1, 2)], [1.0, 2.0, 3.0], {1: (0, True)}),  # a chain is thinned
        ([], [(0, 1), (1, 2)], [2.0, 1.0, 3.0], {0: (1, True), 2: (1, True)}),
        # 1 equals 0, by which alone the pair with the old image 2 is known.
        ([(0, 1)], [(0, 2)], [1.0, 2.0, -np.inf], {0: (2, True), 1: (2, True)}),
        ([(0, 1)], [], [2.0, 1.0], {0: (1, False)}),
    ],
)
def test_what_is_left_out(
    equal: list[tuple[int, int]], near: list[tuple[int, int]], order: list[float], gone: dict[int, tuple[int, bool]]
) -> None:
    parts = [near_pairs(*near)] if near else []
    if equal:
        first, second = (np.array(side, np.int64) for side in zip(*equal, strict=True))
        parts.append(certain_pairs(first, second, 0))
    assert copies_to_leave_out(concatenate(parts), np.array(order)) == gone
