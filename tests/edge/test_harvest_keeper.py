"""Which frames are kept, and that keeping them never holds up a run or grows."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.edge.harvest.entry import HardFrame, read_entry
from curate.edge.harvest.keeper import (
    USUAL_UNSURE,
    Criteria,
    Harvester,
    difference_hash,
    own_criteria,
    read_unsure,
    reasons_to_keep,
)
from curate.edge.harvest.ring import Ring, stored_entries
from curate.edge.runtime.answers import open_runner, tell_apart
from curate.edge.runtime.keeper import Keeper
from curate.errors import UsageError
from curate.runner import Package, Reference
from tests.edge.harvest_cases import boxes, context, picture
from tests.edge.tiny import classifier

ALL = Criteria(per_minute=1e9, apart=0)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"uncertainty": 0.4}, {}),
        ({"uncertainty": 0.5}, {"unsure": 0.5}),
        ({"uncertainty": 1.0}, {"unsure": 1.0}),
        ({"uncertainty": 0.1, "drift": 0.98}, {}),
        ({"uncertainty": 0.1, "drift": 0.995}, {"drift": 0.75}),
        ({"uncertainty": 0.1, "agreement": 0.6}, {}),
        ({"uncertainty": 0.1, "agreement": 0.25}, {"disagreement": 0.75}),
        ({"uncertainty": 0.2, "asks": True}, {"asked": 0.6}),
        ({"uncertainty": 0.75, "drift": 0.99, "agreement": 0.0}, {"unsure": 0.75, "drift": 0.5, "disagreement": 1.0}),
    ],
)
def test_reasons(said: dict[str, Any], expected: dict[str, float]) -> None:
    assert reasons_to_keep(context(**said), Criteria()) == pytest.approx(expected)


def test_one_switches_a_reason_off() -> None:
    said = context(uncertainty=1.0, drift=0.999999, agreement=0.0)
    assert reasons_to_keep(said, Criteria(unsure=1, drift=1, disagreement=1)) == {}


def reference(uncertainties: list[float] | None) -> Reference:
    known = None if uncertainties is None else np.array(uncertainties)
    return Reference(np.zeros(1), np.eye(1), np.ones(1), known)


def test_each_package_says_what_it_is_unsure_of() -> None:
    weak = own_criteria(Criteria(), reference(np.linspace(0.8, 0.999, 199).tolist()))
    assert weak.unsure == pytest.approx(0.989, abs=1e-3)
    assert reasons_to_keep(context(uncertainty=0.98), weak) == {}
    assert reasons_to_keep(context(uncertainty=1.0), weak) == {"unsure": 1.0}


def test_frames_like_most_are_not_hard() -> None:
    """A package that is entirely sure of nearly everything, or of nothing, has many frames at one number."""
    for usual in (0.0, 1.0):
        own = own_criteria(Criteria(), reference([usual] * 100))
        assert reasons_to_keep(context(uncertainty=usual), own) == {}


def test_what_a_person_says_counts_for_every_package() -> None:
    assert own_criteria(Criteria(unsure=0.3), reference([0.9] * 100)).unsure == 0.3
    for unknown in (None, reference(None)):
        assert own_criteria(Criteria(), unknown).unsure == USUAL_UNSURE


def test_how_a_person_says_it() -> None:
    assert read_unsure("0.5") == (0.5, Criteria.hardest)
    assert read_unsure("2%") == (None, 0.02)
    for text in ("", "%", "much"):
        with pytest.raises(UsageError, match="no uncertainty"):
            read_unsure(text)


@pytest.mark.parametrize(
    "wrong",
    [{"unsure": 1.5}, {"drift": -0.1}, {"hardest": 0}, {"hardest": float("nan")}, {"per_minute": 0}, {"apart": 65}],
)
def test_criteria_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Criteria(**wrong)  # type: ignore[arg-type]


def test_hard_frames_are_kept_and_easy_ones_not(tmp_path: Path) -> None:
    keeper: Keeper
    with Harvester(Ring(tmp_path, lossless=True), {}, ALL) as harvester:
        keeper = harvester
        for number in range(3):
            keeper.offer(picture(number), boxes(), context(number, uncertainty=(0.9, 0.1, 0.6)[number]))
    assert (harvester.counts.offered, harvester.counts.hard, harvester.counts.kept) == (3, 2, 2)
    kept = [read_entry(stored.folder) for stored in stored_entries(tmp_path)]
    assert [entry.context.number for entry in kept] == [0, 2]


def test_what_is_kept_is_a_copy(tmp_path: Path) -> None:
    """The run may use the memory of a frame again as soon as it was offered."""
    pixels, result = picture(1), boxes()
    ring = Ring(tmp_path, lossless=True)
    go = threading.Event()
    put = ring.put

    def wait_and_put(frame: HardFrame) -> str | None:
        go.wait()
        return put(frame)

    ring.put = wait_and_put  # type: ignore[method-assign]
    with Harvester(ring, {}, ALL) as harvester:
        harvester.offer(pixels, result, context())
        pixels[:] = 0
        assert result.boxes is not None
        result.boxes[:] = 0
        go.set()
    entry = read_entry(stored_entries(tmp_path)[0].folder)
    np.testing.assert_array_equal(entry.result.boxes, boxes().boxes)
    assert len(entry.image) > 1000


def test_a_slow_disk_costs_frames_but_no_time(tmp_path: Path) -> None:
    ring = Ring(tmp_path)
    go = threading.Event()
    put = ring.put

    def wait_and_put(frame: HardFrame) -> str | None:
        go.wait()
        return put(frame)

    ring.put = wait_and_put  # type: ignore[method-assign]
    with Harvester(ring, {}, ALL) as harvester:
        for number in range(20):
            harvester.offer(picture(number), boxes(), context(number))
        assert harvester.counts.busy >= 14  # four wait, one is in hand
        go.set()
    counts = harvester.counts
    assert counts.kept + counts.busy == counts.hard == 20


def test_frames_of_files_wait_for_the_disk(tmp_path: Path) -> None:
    with Harvester(Ring(tmp_path), {}, Criteria(per_minute=1, apart=0), live=False) as harvester:
        for number in range(10):
            harvester.offer(picture(number), boxes(), context(number))
    assert (harvester.counts.kept, harvester.counts.busy, harvester.counts.limited) == (10, 0, 0)


def test_a_scene_that_stands_still_is_kept_once(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    still = picture(0).astype(np.int16)
    criteria = Criteria(per_minute=1e9)
    with Harvester(Ring(tmp_path), {}, criteria) as harvester:
        for number in range(10):
            noisy = (still + random.integers(-4, 5, still.shape)).clip(0, 255).astype(np.uint8)
            harvester.offer(noisy, boxes(), context(number))
        harvester.offer(picture(1), boxes(), context(11))
    assert (harvester.counts.similar, harvester.counts.kept) == (9, 2)


def test_the_limit_for_a_minute_refills(tmp_path: Path) -> None:
    now = [0.0]
    criteria = Criteria(per_minute=2, apart=0)
    ring = Ring(tmp_path)
    ring.put = lambda frame: "written"  # type: ignore[method-assign]  # so that the disk is never behind
    with Harvester(ring, {}, criteria, clock=lambda: now[0]) as harvester:
        kept = []
        for seconds in (0, 1, 2, 31, 32, 62, 1000, 1000, 1000):
            now[0] = float(seconds)
            while not harvester._waiting.empty():
                pass
            before = harvester.counts.limited
            harvester.offer(picture(seconds), boxes(), context(seconds))
            kept.append(harvester.counts.limited == before)
    assert kept == [True, True, False, True, False, True, True, True, False]


def test_a_failing_disk_does_not_end_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ring = Ring(tmp_path)
    put, fails = ring.put, [True, True, False]

    def fail(frame: HardFrame) -> str | None:
        if fails.pop(0):
            raise OSError(28, "No space left on device")
        return put(frame)

    ring.put = fail  # type: ignore[method-assign]
    with Harvester(ring, {}, ALL) as harvester:
        for number in range(3):
            harvester.offer(picture(number), boxes(), context(number))
    assert (harvester.counts.failed, harvester.counts.kept, harvester.last_error) == (2, 1, None)
    assert caplog.text.count("No space left") == 1  # told once, not for every frame


def test_a_full_disk_is_told_once_to_whoever_listens(tmp_path: Path) -> None:
    ring, told = Ring(tmp_path), list[str]()

    def fail(frame: HardFrame) -> str | None:
        raise OSError(28, "No space left on device")

    ring.put = fail  # type: ignore[method-assign]
    with Harvester(ring, {}, ALL, note=told.append) as harvester:
        for number in range(3):
            harvester.offer(picture(number), boxes(), context(number))
    assert harvester.counts.failed == 3
    (line,) = told
    assert "No space left" in line
    assert str(tmp_path) in line


def test_a_tally_is_final_when_all_is_written(tmp_path: Path) -> None:
    """Each hard frame is kept, skipped or failed; a frame of two reasons is counted under the stronger."""
    with Harvester(Ring(tmp_path), {}, Criteria(per_minute=1e9), live=False) as harvester:
        for number in range(3):
            harvester.offer(picture(number), boxes(), context(number, uncertainty=0.9, drift=0.991))
        harvester.offer(picture(3), boxes(), context(3, uncertainty=0.1, drift=0.999))
        harvester.offer(picture(3), boxes(), context(4, uncertainty=0.1, drift=0.999))
        harvester.offer(picture(5), boxes(), context(5, uncertainty=0.1))
        harvester.settle()
        tally = harvester.tally()
    assert tally.to_json() == {
        "hard": 5,
        "kept": 4,
        "why": {"unsure": 3, "drift": 1},
        "skipped": {"similar": 1, "limited": 0, "busy": 0, "oversized": 0},
        "failed": 0,
        "evicted": 0,
    }


def test_settling_after_closing_is_no_fault(tmp_path: Path) -> None:
    harvester = Harvester(Ring(tmp_path), {}, ALL)
    harvester.close()
    harvester.settle()


def test_each_frame_is_measured_by_its_own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a cascade the heavy package answers for what the light one is unsure of."""
    monkeypatch.setattr("curate.edge.harvest.keeper.package_facts", lambda package: {})
    packages: dict[str, Any] = {"light": Package, "heavy": Package}
    references = {"light": reference([0.8] * 100), "heavy": reference([0.1] * 100)}
    with Harvester(Ring(tmp_path), packages, ALL, references=references, live=False) as harvester:
        for number, (package, unsure) in enumerate([("light", 0.5), ("heavy", 0.5), ("light", 0.9), ("heavy", 0.1)]):
            harvester.offer(picture(number), boxes(), context(number, package=package, uncertainty=unsure))
    kept = [read_entry(stored.folder).context for stored in stored_entries(tmp_path)]
    assert [(each.number, each.package) for each in kept] == [(1, "heavy"), (2, "light")]


def test_closing_twice_is_no_fault(tmp_path: Path) -> None:
    harvester = Harvester(Ring(tmp_path), {}, ALL)
    harvester.close()
    harvester.close()
    Ring(tmp_path).close()  # and the lock is free


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (40, 40), (480, 640)])
def test_difference_hash_of_any_size(size: tuple[int, int]) -> None:
    look = difference_hash(picture(0, size))
    assert 0 <= look < 1 << 64


def test_difference_hash_tells_pictures_apart() -> None:
    looks = [difference_hash(picture(seed)) for seed in range(20)]
    apart = [(a ^ b).bit_count() for row, a in enumerate(looks) for b in looks[:row]]
    assert min(apart) > Criteria.apart
    assert difference_hash(picture(0, (96, 128))) == difference_hash(picture(0, (96, 128)).copy())


def test_two_packages_of_one_name_and_version_are_told_apart_or_refused(tmp_path: Path) -> None:
    one, other, third = (open_runner(str(classifier(tmp_path / name))) for name in "abc")
    with pytest.raises(UsageError, match=r"both packages are called colors-1\.0\.0, and are for onnx"):
        tell_apart([one, other])
    other.package = dataclasses.replace(other.package, target="openvino")
    tell_apart([one, other])
    assert [each.package.id for each in (one, other)] == ["colors-1.0.0 (onnx)", "colors-1.0.0 (openvino)"]
    tell_apart([third])
    assert third.package.id == "colors-1.0.0"
