from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from duplicate_pictures import picture, transforms
from PIL import Image

from curate.checks.base import Result, Settings, run_check
from curate.checks.duplicates import compared as module
from curate.checks.duplicates.check import CHECK
from curate.checks.duplicates.features import Features
from curate.checks.duplicates.verify import Comparison, compare
from curate.checks.store import stored_findings
from curate.dataset import begin, open_dataset
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


def describe(values: Mapping[str, Mapping[str, Any]]) -> None:
    """Set columns of the images of `set`, by their locations."""
    with begin("set", command="describe") as transaction:
        images = transaction.read("images")
        rows = [row | values.get(row["location"], {}) for row in images.to_pylist()]
        transaction.upsert("images", pa.Table.from_pylist(rows, schema=images.schema), "image_id")


def again(**settings: Any) -> Result:
    return run_check(CHECK, "set", Settings(encoder="builtin", **settings), command="duplicates")


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


def test_what_was_compared_before_an_interrupt_is_not_compared_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "set", {f"{seed}.png": picture(seed, 80, 64) for seed in range(8)})
    import_source("set", folder, command="import")
    compared: list[int] = []

    def counting(first: Features, second: Features) -> Comparison:
        if len(compared) == 10 and not went_on:
            raise KeyboardInterrupt
        compared.append(1)
        return compare(first, second)

    went_on = False
    monkeypatch.setattr(module, "compare", counting)
    monkeypatch.setattr(module, "_BLOCK", 4)
    with pytest.raises(KeyboardInterrupt):
        run_check(CHECK, "set", Settings(encoder="builtin"), command="duplicates")
    assert open_dataset("set").commit.number == 1
    went_on = True
    run_check(CHECK, "set", Settings(encoder="builtin"), command="duplicates")
    table = open_dataset("set").table(module.COMPARED)
    assert table.num_rows == len(compared) - 2  # two blocks were whole, of the third two pairs were lost
    assert not list((open_dataset("set").path / "spool").rglob("*.arrow"))
    compared.clear()
    run_check(CHECK, "set", Settings(encoder="builtin"), command="duplicates")
    assert compared == []


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


def test_frames_of_one_recording_are_no_copies_but_superfluous_where_that_is_asked(tmp_path: Path) -> None:
    wide = picture(0, width=900)
    frames = {f"{shift:03d}.jpg": wide[:, shift : shift + 320] for shift in range(0, 120, 12)}
    others = {f"other{seed}.jpg": picture(seed) for seed in range(1, 10)}
    import_source("set", write(tmp_path / "set", frames | others), command="import")
    describe({name: {"group": "belt", "frame": place} for place, name in enumerate(frames)})
    plain = again()
    assert plain.findings == []
    assert "overlap without being copies" in plain.summary
    asked = again(options={"repetitive": True})
    assert {finding.image for finding in asked.findings} <= frames.keys()
    flagged = {finding.image for finding in asked.findings if finding.score >= 0.5}
    assert 5 <= len(flagged) < len(frames)
    assert not flagged & {str(finding.evidence["keeper"]) for finding in asked.findings if finding.score >= 0.5}
    again()
    assert {finding.id for finding in stored_findings(open_dataset("set"))} == {
        finding.id for finding in asked.findings
    }


def test_images_that_share_a_part_are_not_the_same_picture(tmp_path: Path) -> None:
    wide = picture(0, width=900)
    pictures = {f"{shift:03d}.jpg": wide[:, shift : shift + 320] for shift in (0, 100)}
    pictures |= {f"other{seed}.jpg": picture(seed) for seed in range(1, 8)} | {
        "copy.jpg": transforms(picture(1))["half"]
    }
    assert kinds(check(write(tmp_path / "set", pictures))) == {"copy.jpg": "near_duplicate"}
    found = {finding.image: finding for finding in again(options={"repetitive": True}).findings}
    (overlapping,) = found.keys() & {"000.jpg", "100.jpg"}
    assert str(found[overlapping].evidence["why"]).startswith("overlaps with ")
    assert found[overlapping].evidence["overlap"] == pytest.approx(220 / 320, abs=0.03)
    assert 0.5 <= found[overlapping].score <= 0.72


def test_the_original_is_kept_and_a_copy_is_told_against_what_is_named(tmp_path: Path) -> None:
    """What was smoothed and mirrored has less noise than the original, of which there are twins."""
    noise = np.random.default_rng(0).normal(0, 6, (240, 320, 3))
    original = np.clip(picture(0) + noise, 0, 255).astype(np.uint8)
    folder = write(tmp_path / "set", {f"other{seed}.jpg": picture(seed) for seed in range(1, 8)} | {"m.png": original})
    Image.fromarray(original[:, ::-1]).save(folder / "a.jpg", quality=30)
    Image.fromarray(original).resize((160, 120)).save(folder / "small.png")
    (folder / "small-again.png").write_bytes((folder / "small.png").read_bytes())
    for name in ("n.png", "o.png"):
        (folder / name).write_bytes((folder / "m.png").read_bytes())
    result = check(folder)
    assert [group["keeper"] for group in result.tables["Groups of copies"]] == ["m.png"]
    why = {finding.image: str(finding.evidence["why"]) for finding in result.findings}
    assert why["small.png"] == "the same bytes as small-again.png"
    assert why["small-again.png"] == "the same picture as m.png, 160 x 120 pixels, not 320 x 240"
    assert why["n.png"] == "the same bytes as m.png"
    assert "mirrored" in why["a.jpg"]


def test_what_was_not_looked_at_again_stays(tmp_path: Path) -> None:
    pictures = {f"{'cat' if seed % 2 else 'dog'}/{seed}.jpg": picture(seed) for seed in range(6)}
    folder = write(tmp_path / "set", pictures | {"cat/copy.jpg": transforms(picture(0))["half"]})
    found = {finding.id for finding in check(folder).findings}
    assert len(found) == 3
    describe({"cat/copy.jpg": {"split": "test"}, "cat/1.jpg": {"split": "test"}})
    with begin("set", command="annotate") as transaction:
        rows = transaction.read("annotations").slice(0, 1).to_pylist()
        other = [row | {"layer": "predictions/net", "annotation_id": "f" * 16} for row in rows]
        transaction.append("annotations", [pa.Table.from_pylist(other, schema=transaction.read("annotations").schema)])
    for settings in ({"where": "split = 'test'"}, {"layer": "predictions/net"}):
        again(**settings)
        assert found <= {finding.id for finding in stored_findings(open_dataset("set"))}, settings
    (folder / "cat" / "copy.jpg").write_bytes((folder / "cat" / "5.jpg").read_bytes())
    again()
    assert not found & {finding.id for finding in stored_findings(open_dataset("set"), kind="mislabeled")}


def test_a_layer_that_is_not_there(tmp_path: Path) -> None:
    import_source("set", write(tmp_path / "set", {"a.png": picture(0)}), command="import")
    with pytest.raises(UsageError, match="there is no layer 'grund_truth'"):
        again(layer="grund_truth")


def test_an_unreadable_image_is_noted(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", {"a.png": picture(0), "b.png": picture(1)})
    import_source("set", folder, command="import")
    (folder / "b.png").write_bytes(b"no image")
    result = run_check(CHECK, "set", Settings(encoder="builtin"), command="duplicates")
    assert result.findings == []
    assert "1 of 2 images cannot be read" in result.notes[0]


def test_no_image_is_an_error(tmp_path: Path) -> None:
    import_source("set", write(tmp_path / "set", {"a.png": picture(0)}), command="import")
    with pytest.raises(UsageError, match="there are no images to check"):
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
