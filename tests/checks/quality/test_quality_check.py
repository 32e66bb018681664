"""The quality check on pictures with planted faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from curate.checks.base import Result, Settings, run_check
from curate.checks.findings import Finding
from curate.checks.quality.check import CHECK
from curate.errors import UsageError
from curate.formats.importing import import_source
from curate.imaging import Pixels


def scene(seed: int) -> Pixels:
    rng = np.random.default_rng(seed)
    canvas = np.full((180, 240, 3), rng.integers(100, 140), np.uint8)
    for _ in range(25):
        center, size = rng.uniform(0, 1, 2) * (240, 180), rng.uniform(12, 60, 2)
        corners = cv2.boxPoints((center.tolist(), size.tolist(), float(rng.uniform(0, 180))))
        cv2.fillPoly(canvas, [np.rint(corners).astype(np.int32)], rng.integers(20, 235, 3).tolist())
    return np.clip(canvas + rng.normal(0, 1.5, canvas.shape), 0, 255).astype(np.uint8)


def planted(pixels: Pixels, how: str) -> Pixels:
    rng = np.random.default_rng(0)
    light = pixels.astype(np.float64)
    rows = np.arange(len(light))[:, None, None]
    ways: dict[str, Callable[[], npt.NDArray[np.float64]]] = {
        "dark": lambda: light * 0.08,
        "overexposed": lambda: light * 5 + 60,
        "low_contrast": lambda: 120 + (light - 120) * 0.08,
        "color_cast": lambda: light * (1.5, 1.0, 0.3),
        "blurry": lambda: np.asarray(cv2.GaussianBlur(light, (0, 0), 5), np.float64),
        "noisy": lambda: light + rng.normal(0, 40, light.shape),
        "low_information": lambda: np.full_like(light, 90),
        "grey": lambda: np.repeat(light.mean(axis=2, keepdims=True), 3, axis=2),
        "ended": lambda: np.where(rows < 0.6 * len(light), light, 128.0),
    }
    return np.clip(ways[how](), 0, 255).astype(np.uint8)


FAULTS = ("dark", "overexposed", "low_contrast", "color_cast", "blurry", "noisy", "low_information", "grey", "ended")

# What is flagged of each: a dark picture has little contrast, light that is amplified has its grain amplified.
EXPECTED = {
    "dark": {"dark", "low_contrast", "low_information"},
    "overexposed": {"overexposed", "low_contrast", "low_information", "noisy"},
    "low_contrast": {"low_contrast", "low_information"},
    "color_cast": {"color_cast"},
    "blurry": {"blurry"},
    "noisy": {"noisy"},
    "low_information": {"low_information", "low_contrast"},
    "grey": {"color_cast"},
    "ended": {"corrupt"},
    "both": {"noisy"},
    "truncated": {"corrupt"},
    "small": {"odd_size"},
    "long": {"odd_aspect"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """60 good pictures, one more turned and one with one colored part, and one with each fault."""
    place = tmp_path / "set" / "things"
    place.mkdir(parents=True)
    for number in range(60):
        Image.fromarray(scene(number)).save(place / f"good_{number:02d}.png")
    for number, how in enumerate(FAULTS):
        Image.fromarray(planted(scene(100 + number), how)).save(place / f"{how}.png")
    Image.fromarray(scene(200)).save(place / "truncated.jpg", quality=95)
    data = (place / "truncated.jpg").read_bytes()
    Image.fromarray(planted(scene(203), "noisy") // 32 * 32).save(place / "both.png")
    one_part = planted(scene(204), "grey")
    one_part[:24, :24] = (220, 120, 30)
    Image.fromarray(one_part).save(place / "good_part.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(scene(205)).save(place / "good_turned.jpg", quality=95, exif=exif)
    Image.fromarray(scene(201)).resize((40, 30)).save(place / "small.png")
    Image.fromarray(scene(202)).resize((900, 60)).save(place / "long.png")
    import_source("set", tmp_path / "set", command="import")
    (place / "truncated.jpg").write_bytes(data[: len(data) // 2])
    return place


def check(**settings: Any) -> Result:
    return run_check(CHECK, "set", Settings(**settings), command="quality")


def flagged(result: Result) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for finding in result.findings:
        if finding.score >= 0.5:
            found.setdefault(Path(finding.image).stem, set()).add(finding.kind)
    return found


def test_every_planted_fault_is_found_and_nothing_else(folder: Path) -> None:
    result = check()
    found = flagged(result)
    assert found == EXPECTED
    faults = {(Path(each.image).stem, each.kind): each.evidence for each in result.findings if each.score >= 0.5}
    assert faults["grey", "color_cast"]["fault"] == "grey"
    assert {faults["both", "noisy"]["fault"], *faults["both", "noisy"]["also"]} >= {"noise", "banding"}
    (turned,) = result.tables["Stored turned, no fault"]
    assert turned["image"].endswith("good_turned.jpg")
    assert [turned[name] for name in ("orientation", "stored", "shown")] == [6, "240 x 180", "180 x 240"]
    for finding in result.findings:
        assert finding.evidence["why"]
        assert finding.evidence["fault"]
        json.dumps(finding.evidence, allow_nan=False)


def test_light_from_the_side_is_told_and_is_no_fault(folder: Path) -> None:
    fall = 2.0 ** (-1.5 + np.linspace(-1.5, 1.5, 240))[None, :, None]
    Image.fromarray((scene(300) * fall).astype(np.uint8)).save(folder / "good_lit.png")
    import_source("lit", folder.parent, command="import")
    result = run_check(CHECK, "lit", Settings(), command="quality")
    rows = {Path(row["image"]).stem: row for row in result.tables["Unusual light, no fault"]}
    assert rows["good_lit"]["light from"] == "right"
    assert rows["good_lit"]["octaves"] == pytest.approx(1.5, abs=0.5)
    assert "dark" not in flagged(result).get("good_lit", set())
    assert not [name for name in rows if name.startswith("good") and name != "good_lit"]


def test_running_again_changes_nothing(folder: Path) -> None:
    first, second = check(), check()
    assert [finding.to_json() for finding in first.findings] == [finding.to_json() for finding in second.findings]


def test_files_that_are_not_there_are_corrupt_and_counted_apart(folder: Path) -> None:
    check()
    (folder / "good_00.png").unlink()
    for _ in range(2):  # what was measured of it before is not believed
        result = check()
        (finding,) = [finding for finding in result.findings if Path(finding.image).stem == "good_00"]
        assert (finding.kind, finding.score, finding.evidence["fault"]) == ("corrupt", 1.0, "missing file")
        assert "73 images and 0 objects measured, 1 file not there, 1 file cannot be read" in result.summary


def test_a_set_without_a_file_is_all_corrupt(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    result = check()
    corrupt = [finding for finding in result.findings if finding.kind == "corrupt"]
    assert [finding.evidence["fault"] for finding in corrupt] == ["missing file"] * 75
    assert "0 images and 0 objects measured, 75 files not there" in result.summary


def deep(pixels: Pixels, gain: int) -> Image.Image:
    return Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.uint16) * np.uint16(gain))


def test_light_is_not_judged_where_pixels_are_scaled_by_their_own_range(tmp_path: Path) -> None:
    place = tmp_path / "set" / "things"
    place.mkdir(parents=True)
    for number in range(30):
        deep(scene(number), 200).save(place / f"good_{number:02d}.png")
    deep(planted(scene(40), "noisy"), 3).save(place / "dim.png")
    deep(planted(scene(41), "blurry"), 200).save(place / "blurry.png")
    import_source("set", tmp_path / "set", command="import")
    result = check()
    assert flagged(result) == {"blurry": {"blurry"}}
    assert any(note.startswith("32 images of more than 8 bits") for note in result.notes)


def test_no_image_is_an_error(folder: Path) -> None:
    with pytest.raises(UsageError, match="no image"):
        check(where="split = 'nothing'")


def coco(folder: Path) -> Path:
    """Twelve boxes on each of 20 pictures; one of them dark, one blurred, on pictures that are not."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(20):
        rng = np.random.default_rng(number)
        pixels = np.full((180, 240, 3), 120, np.uint8)
        for k in range(12):
            x, y = 2 + k % 4 * 60, 2 + k // 4 * 60
            part = np.kron(rng.integers(30, 230, (8, 8, 3)), np.ones((7, 7, 1))).astype(np.uint8)
            if (number, k) == (3, 4):
                part //= 16
            if (number, k) == (7, 2):
                part = planted(part, "blurry")
            pixels[y : y + 56, x : x + 56] = part
            box = {"id": 100 * number + k, "image_id": number, "category_id": 1, "bbox": [x, y, 56, 56]}
            annotations.append(box | {"area": 56 * 56, "iscrowd": 0})
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 240, "height": 180})
    file = folder / "boxes.json"
    categories = [{"id": 1, "name": "part"}]
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return file


def of_objects(result: Result) -> list[Finding]:
    return [finding for finding in result.findings if finding.annotation_id and finding.score >= 0.5]


def test_objects_that_are_dark_or_blurred_on_good_pictures(tmp_path: Path) -> None:
    import_source("set", coco(tmp_path / "boxes"), command="import")
    found = {(finding.source_annotation_id, finding.kind) for finding in of_objects(check())}
    assert ("304", "dark") in found
    assert ("702", "blurry") in found
    assert {source for source, _ in found} == {"304", "702"}
    (finding,) = [finding for finding in of_objects(check()) if finding.kind == "dark"]
    assert finding.bbox == [2, 62, 56, 56]
    assert finding.given == "part"
    # Without objects their findings stay: they were not judged.
    assert not of_objects(check(options={"objects": False}))
    assert of_objects(check())


def test_a_file_of_another_size_than_recorded(tmp_path: Path) -> None:
    import_source("set", coco(tmp_path / "boxes"), command="import")
    Image.new("RGB", (120, 90)).save(tmp_path / "boxes" / "images" / "5.png")
    found = [finding for finding in check().findings if finding.evidence.get("recorded")]
    assert [(Path(f.image).name, f.kind, f.evidence["file"]) for f in found] == [("5.png", "odd_size", [120, 90])]
