from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from duplicate_pictures import picture, transforms
from PIL import Image

from curate.checks.base import Result, Settings, run_check
from curate.checks.duplicates.check import CHECK
from curate.dataset import open_dataset
from curate.errors import UsageError
from curate.formats.importing import import_source
from curate.imaging import Pixels


def write(folder: Path, pictures: dict[str, Pixels]) -> Path:
    for name, pixels in pictures.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=92)
    return folder


def check(folder: Path, **options: object) -> Result:
    import_source("set", folder, command="import")
    return run_check(CHECK, "set", Settings(encoder="builtin", options=options), command="duplicates")


def kinds(result: Result) -> dict[str, str]:
    return {finding.image: finding.kind for finding in result.findings}


def test_copies_are_found_with_their_keeper(tmp_path: Path) -> None:
    original = picture(0)
    pictures = {f"other{seed}.jpg": picture(seed) for seed in range(1, 12)}
    pictures |= {f"copy-{kind}.jpg": pixels for kind, pixels in transforms(original).items()}
    folder = write(tmp_path / "set", pictures | {"original.png": original})
    (folder / "again.png").write_bytes((folder / "original.png").read_bytes())
    Image.open(folder / "original.png").save(folder / "other-type.bmp")
    result = check(folder)
    found = kinds(result)
    copies = {"again.png", "original.png", "other-type.bmp", *(name for name in pictures if name.startswith("copy"))}
    (group,) = result.tables["Groups of copies"]
    assert found.keys() | {group["keeper"]} == copies
    assert group["images"] == len(copies)
    exact = {name for name, kind in found.items() if kind == "exact_duplicate"}
    assert len(exact) == 2
    assert exact <= {"again.png", "original.png", "other-type.bmp"}
    why = {finding.image: finding.evidence for finding in result.findings}
    assert "mirrored" in why["copy-flip.jpg"]["transform"]
    assert all(finding.score >= 0.5 for finding in result.findings)
    assert "the same pixels as" in str([each["why"] for each in why.values()])


def test_a_second_run_compares_nothing_and_changes_nothing(tmp_path: Path) -> None:
    pictures = {f"{seed}.jpg": picture(seed) for seed in range(6)} | {"copy.jpg": picture(2)[5:, 5:]}
    folder = write(tmp_path / "set", pictures)
    first = check(folder)
    assert kinds(first) == {"copy.jpg": "near_duplicate"}
    number = open_dataset("set").commit.number
    again = run_check(CHECK, "set", Settings(encoder="builtin"), command="duplicates")
    assert open_dataset("set").commit.number == number
    assert again.findings == first.findings


def test_the_result_does_not_depend_on_names_or_order(tmp_path: Path) -> None:
    originals = [picture(seed) for seed in range(5)]
    made = [*originals, *(transforms(each)["rotated"] for each in originals[:3]), transforms(originals[0])["flip"]]
    partitions = []
    for seed in range(2):
        order = np.random.default_rng(seed).permutation(len(made))
        folder = write(tmp_path / str(seed), {f"{name:02d}.png": made[k] for name, k in enumerate(order)})
        import_source(f"set{seed}", folder, command="import")
        result = run_check(CHECK, f"set{seed}", Settings(encoder="builtin"), command="duplicates")
        groups: dict[int, set[int]] = {}
        for finding in result.findings:
            members = {finding.image, *(related.image for related in finding.related)}
            groups.setdefault(finding.evidence["group"], set()).update(int(order[int(name[:2])]) for name in members)
        partitions.append({frozenset(group) for group in groups.values()})
    assert partitions[0] == partitions[1] == {frozenset({0, 5, 8}), frozenset({1, 6}), frozenset({2, 7})}


def test_a_hundred_identical_images_are_one_group(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", {"first.png": picture(0, 64, 48)})
    for number in range(99):
        (folder / f"copy{number}.png").write_bytes((folder / "first.png").read_bytes())
    result = check(folder)
    assert len(result.findings) == 99
    assert {finding.kind for finding in result.findings} == {"exact_duplicate"}


def test_nothing_is_found_where_nothing_is_copied(tmp_path: Path) -> None:
    assert check(write(tmp_path / "set", {f"{seed}.jpg": picture(seed) for seed in range(20)})).findings == []


def test_copies_with_different_labels_are_mislabeled(tmp_path: Path) -> None:
    pictures = {f"{'cat' if seed % 2 else 'dog'}/{seed}.jpg": picture(seed) for seed in range(6)}
    folder = write(tmp_path / "set", pictures | {"cat/copy.jpg": transforms(picture(0))["half"]})
    result = check(folder)
    wrong = {finding.image: (finding.given, finding.suggested) for finding in result.findings if finding.given}
    assert wrong == {"cat/copy.jpg": ("cat", "dog"), "dog/0.jpg": ("dog", "cat")}


def test_boxes_of_copies_with_different_labels_are_mislabeled(tmp_path: Path) -> None:
    original = picture(0)
    write(tmp_path / "set", {"a.png": original, "b.png": np.ascontiguousarray(original[:, ::-1]), "c.png": picture(1)})
    boxes = {1: ([40, 50, 80, 60], 1), 2: ([200, 50, 80, 60], 2), 3: ([40, 50, 80, 60], 1)}
    coco = {
        "images": [
            {"id": k, "file_name": f"{name}.png", "width": 320, "height": 240} for k, name in enumerate("abc", 1)
        ],
        "annotations": [
            {"id": k, "image_id": k, "category_id": label, "bbox": box, "area": 4800, "iscrowd": 0}
            for k, (box, label) in boxes.items()
        ],
        "categories": [{"id": 1, "name": "nut"}, {"id": 2, "name": "bolt"}],
    }
    (tmp_path / "set" / "instances.json").write_text(json.dumps(coco))
    result = check(tmp_path / "set" / "instances.json")
    wrong = {finding.image: (finding.given, finding.suggested) for finding in result.findings if finding.annotation_id}
    assert wrong == {"a.png": ("nut", "bolt"), "b.png": ("bolt", "nut")}


def test_repetitive_frames_are_thinned(tmp_path: Path) -> None:
    wide = picture(0, width=900)
    frames = {f"{shift:03d}.jpg": wide[:, shift : shift + 320] for shift in range(0, 120, 12)}
    others = {f"other{seed}.jpg": picture(seed) for seed in range(1, 10)}
    result = check(write(tmp_path / "set", frames | others), repetitive=True)
    assert {finding.image for finding in result.findings} <= frames.keys()
    assert len(result.findings) >= 5


def test_an_unreadable_image_is_noted(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", {"a.png": picture(0), "b.png": picture(1)})
    import_source("set", folder, command="import")
    (folder / "b.png").write_bytes(b"no image")
    result = run_check(CHECK, "set", Settings(encoder="builtin"), command="duplicates")
    assert result.findings == []
    assert "1 of 2 images cannot be read" in result.notes[0]


def test_no_image_is_an_error(tmp_path: Path) -> None:
    import_source("set", write(tmp_path / "set", {"a.png": picture(0)}), command="import")
    with pytest.raises(UsageError, match="no image is chosen"):
        run_check(CHECK, "set", Settings(where="split = 'nothing'"), command="duplicates")


@pytest.mark.slow
def test_the_sources_of_a_roboflow_export_are_the_groups(shared_data: Path) -> None:
    folder = shared_data / "detection" / "roboflow_wagon"
    result = check(folder)
    groups: dict[int, set[str]] = {}
    for finding in result.findings:
        if finding.kind != "mislabeled":
            members = [finding.image, *(related.image for related in finding.related)]
            names = {name.rsplit("/", 1)[-1].split(".rf.")[0] for name in members}
            groups.setdefault(finding.evidence["group"], set()).update(names)
    assert len(groups) == 110
    assert all(len(names) == 1 for names in groups.values())


@pytest.mark.parametrize("count", [1, 2])
def test_very_few_images_are_no_trouble(tmp_path: Path, count: int) -> None:
    assert (
        check(write(tmp_path / "set", {f"{seed}.png": picture(seed, 80, 64) for seed in range(count)})).findings == []
    )


def test_blank_images_are_copies_of_nothing_but_their_equals(tmp_path: Path) -> None:
    blank = {f"{level}.png": np.full((30, 40, 3), level, np.uint8) for level in (0, 1, 90, 255)}
    result = check(write(tmp_path / "set", blank | {"0.bmp": blank["0.png"]}))
    assert [(finding.kind, finding.image) for finding in result.findings] == [("exact_duplicate", "0.png")]
