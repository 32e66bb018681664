"""ImageFolder: classes, splits, unlabelled images, and writing without losing any."""

from __future__ import annotations

from pathlib import Path

import pytest
from format_cases import Case, by_location, make_export, read, reasons, write_image

from curate.errors import FormatError, UsageError
from curate.formats.base import WriteOptions
from curate.formats.imagefolder import FORMAT
from curate.formats.losses import LossReport


def labels(source: Path) -> dict[str, tuple[str | None, list[str]]]:
    """Split and labels by location."""
    records, table, _ = read(FORMAT, source)
    found = by_location(records, table)
    splits = records.images["split"].to_pylist()
    return {name: (split, [row["label"] for row in found[name]]) for name, split in zip(found, splits, strict=True)}


def test_real_folder_of_classes(shared_data: Path) -> None:
    assert labels(shared_data / "formats/datumaro/imagenet_dataset") == {
        "label_0/label_0_1.jpg": (None, ["label_0"]),
        "label_0_2.jpg": (None, []),
        "label_1/label_1_1.jpg": (None, ["label_1"]),
        "label_1/label_1_1/label_1_1.jpg": (None, ["label_1"]),
    }


def test_real_folder_of_splits(shared_data: Path) -> None:
    found = labels(shared_data / "formats/datumaro/imagenet_subsets_dataset")
    assert len(found) == 12
    assert found["val/label_1/label_1_1/label_1_1.jpg"] == ("val", ["label_1"])
    assert found["test/label_0_2.jpg"] == ("test", [])


def test_real_corrupt_images_are_kept_and_reported(shared_data: Path) -> None:
    records, _, losses = read(FORMAT, shared_data / "images/imagededup")
    assert records.images["width"].null_count == 2
    assert [(loss.outcome, loss.count) for loss in losses.losses] == [("converted", 2)]


def test_classes_are_sorted_as_torchvision_does(tmp_path: Path) -> None:
    for name in ("valid/b/1.png", "training/Z/1.png", "training/a/1.png", "validation.png"):
        write_image(tmp_path / name, (4, 4))
    records, table, _ = read(FORMAT, tmp_path)
    assert [(info.name, info.source_id) for info in records.classes] == [("Z", 0), ("a", 1), ("b", 2)]
    assert records.images["split"].to_pylist() == ["train", "train", "val", None]
    assert set(table["type"].to_pylist()) == {"label"}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("train/1.png", "bus/1.png"):
        write_image(tmp_path / name, (4, 4))
    assert labels(tmp_path) == {"bus/1.png": (None, ["bus"]), "train/1.png": (None, ["train"])}


def test_a_plain_folder_and_a_folder_of_splits_have_no_labels(tmp_path: Path) -> None:
    write_image(tmp_path / "plain/1.png", (4, 4))
    write_image(tmp_path / "split/images/test/1.png", (4, 4))
    assert labels(tmp_path / "plain") == {"1.png": (None, [])}
    assert labels(tmp_path / "split") == {"images/test/1.png": ("test", [])}


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no images"):
        read(FORMAT, tmp_path)


def label(name: str) -> dict[str, str]:
    return {"type": "label", "label": name}


def write(found: list[Case], classes: list[str], tmp_path: Path, *, link: bool = False) -> tuple[Path, LossReport]:
    target, losses = tmp_path / "out", LossReport()
    target.mkdir()
    options = WriteOptions("link" if link else "copy")
    FORMAT.write(make_export(tmp_path / "in", found, classes), target, options, losses)
    return target, losses


@pytest.mark.parametrize("link", [False, True])
def test_round_trip(tmp_path: Path, link: bool) -> None:
    found = [
        Case("train/cat/deep/ä.png", (4, 4), "train", [label("cat")]),
        Case("x/1.png", (4, 4), "train", [label("cat")]),
        Case("val/Hund 犬/1.png", (4, 4), "val", [label("Hund 犬")]),
        Case("2.png", (4, 4), "val", [label("cat")]),
    ]
    target, losses = write(found, ["Hund 犬", "cat"], tmp_path, link=link)
    assert losses.losses == []
    assert labels(target) == {
        "train/cat/deep/ä.png": ("train", ["cat"]),
        "train/cat/x/1.png": ("train", ["cat"]),
        "val/Hund 犬/1.png": ("val", ["Hund 犬"]),
        "val/cat/2.png": ("val", ["cat"]),
    }
    source = tmp_path / "in/2.png"
    assert (target / "val/cat/2.png").samefile(source) is link


def test_names_that_clash_are_kept_apart(tmp_path: Path) -> None:
    found = [Case(name, (4, 4), None, [label("cat")]) for name in ("1.png", "cat/1.png", "images/1.png")]
    target, losses = write(found, ["cat"], tmp_path)
    assert set(labels(target)) == {"cat/1.png", "cat/1_2.png", "cat/1_3.png"}
    assert losses.losses[0].count == 2


def test_class_names_that_no_folder_can_have(tmp_path: Path) -> None:
    found = [Case(f"{row}.png", (4, 4), None, [label(name)]) for row, name in enumerate(("a/b", "a_b", ".."))]
    target, losses = write(found, ["..", "a/b", "a_b"], tmp_path)
    assert {path.parent.parent for path in target.rglob("*.png")} == {target}
    assert len(labels(target)) == 3
    assert losses.losses[0].count == 3


def test_what_a_folder_cannot_say_is_reported(tmp_path: Path) -> None:
    box = {"type": "box", "label": "cat", "bbox": [0.0, 0.0, 1.0, 1.0]}
    found = [
        Case("1.png", (4, 4), None, [label("cat"), label("dog"), box]),
        Case("2.png", (4, 4), None, []),
    ]
    target, losses = write(found, ["dog", "cat"], tmp_path)
    assert reasons(losses) == {
        "boxes and shapes have no place in ImageFolder",
        "a second label of an image",
        "without a label: beside the classes' folders",
        "no image has it, so it gets no folder",
        "renumbered: ImageFolder numbers classes by name",
    }
    assert labels(target) == {"2.png": (None, []), "cat/1.png": (None, ["cat"])}
    assert losses.carried_counts == {"images": 2, "annotations": 1}


def test_without_images_there_is_nothing_to_write(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--link"):
        FORMAT.write(make_export(tmp_path, []), tmp_path, WriteOptions("none"), LossReport())


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("splits", [(None, None, None), ("train", "val", None), ("fold1", None, "fold2")])
def test_an_image_without_a_label_gets_none(tmp_path: Path, splits: tuple[str | None, ...], labelled: bool) -> None:
    names = ("sub/a.png", "sub_a.png", "images/deep/b.png")
    found = [Case(name, (4, 4), split, []) for name, split in zip(names, splits, strict=True)]
    found += [Case("c.png", (4, 4), splits[0], [label("cat")])] if labelled else []
    target, losses = write(found, ["cat"], tmp_path)
    back = labels(target)
    assert len(back) == len(found)
    assert [name for name, (_, said) in back.items() if not said] == [
        name for name in back if not name.endswith("/c.png")
    ]
    known = {loss.reason: loss for loss in losses.losses}
    renamed = known["renamed: the folder of an image without a label would be a class"]
    assert renamed.places == ["sub/a.png -> sub_a.png", "deep/b.png -> deep_b.png"]
    lost = known.get("an image without a label is in no split's folder, which would be a class")
    assert (lost.count if lost else 0) == (2 if "fold1" in splits else 0)
    if "fold1" not in splits:
        assert sorted(str(split) for split, _ in back.values()) == sorted(str(case.split) for case in found)


def test_places_are_images(tmp_path: Path) -> None:
    box = {"type": "box", "label": "cat", "bbox": [0.0, 0.0, 1.0, 1.0]}
    caption = {"type": "label", "attributes": '{"caption": "x"}'}
    found = [Case(f"{row}.png", (4, 4), "train" if row else None, [label("cat"), box, caption]) for row in range(7)]
    _, losses = write(found, ["cat"], tmp_path)
    first = [f"{row}.png" for row in range(5)]
    assert {(loss.what, loss.reason, loss.count): loss.places for loss in losses.losses} == {
        ("annotations", "boxes and shapes have no place in ImageFolder", 7): first,
        ("annotations", "without a class", 7): first,
        ("attributes", "ImageFolder has no place for them", 7): first,
        ("images", "no split: in unsplit", 1): ["0.png"],
    }
    assert losses.carried_counts == {"images": 7, "annotations": 7}
