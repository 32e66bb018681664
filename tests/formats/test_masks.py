"""Folders of class masks: which mask is whose, what values mean, and round trips."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from format_cases import (
    CLASSES,
    Case,
    by_location,
    cases,
    make_export,
    read,
    reasons,
    write_image,
    written,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curate.errors import FormatError, ImageError
from curate.formats.base import ClassInfo, Export, ReadOptions, WriteOptions
from curate.formats.columns import images_table
from curate.formats.detect import detect_format
from curate.formats.locations import strip_layout
from curate.formats.losses import LossReport
from curate.formats.mask_images import paint, split_labels, voc_colors
from curate.formats.masks import FORMAT
from curate.formats.masks.layout import find_layout
from curate.formats.masks.legend import read_legend
from curate.geometry import decode_rle, encode_rle
from curate.imaging import load_labels

PLAIN = [[0, 1, 1], [0, 2, 255]]


def mask(path: Path, values: Any, *, palette: bool = False) -> Path:
    """A mask of grey values, palette indices with VOC's colors, or colors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.array(values, dtype=np.uint16 if np.max(values) > 255 else np.uint8)
    image = Image.fromarray(array)
    if palette:
        image.putpalette(voc_colors(256).ravel().tolist())
    image.save(path)
    return path


def dataset(root: Path, values: Any = PLAIN, *, palette: bool = False, classes: str | None = None) -> Path:
    height, width = np.shape(values)[:2]
    write_image(root / "images/a.jpg", (width, height))
    mask(root / "masks/a.png", values, palette=palette)
    if classes is not None:
        (root / "classes.txt").write_text(classes, encoding="utf-8")
    return root


def pixels(row: dict[str, Any]) -> list[list[int]]:
    drawn: list[list[int]] = decode_rle(row["rle"], row["rle_size"]).tolist()
    return drawn


def shown(root: Path, options: ReadOptions | None = None) -> dict[str, list[list[int]]]:
    return {row["label"]: pixels(row) for row in read(FORMAT, root, options)[1].to_pylist()}


# ------------------------------------------------------------------------------------------------------------ real files


@pytest.mark.parametrize(
    ("folder", "images", "annotations", "classes", "splits"),
    [
        ("common_semantic_segmentation_dataset/dataset", 2, 4, 5, {None}),
        ("common_semantic_segmentation_dataset/non_standard_dataset", 2, 5, 7, {None}),
        ("camvid_dataset", 4, 10, 8, {"train", "val", "test"}),
        ("synthia_dataset/rand_custom_labelmap", 2, 5, 4, {None}),
        ("synthia_dataset/rand_meta_file", 2, 5, 4, {None}),
        ("synthia_dataset/rand", 2, 7, 4, {None}),
        ("synthia_dataset/al", 2, 5, 5, {None}),
        ("synthia_dataset/sf", 2, 5, 5, {None}),
        ("kaggle_dataset/image_mask", 2, 2, 1, {None}),
        ("kaggle_dataset/image_mask_with_labelmap", 3, 6, 2, {None}),
    ],
)
def test_real_sets(
    shared_data: Path, folder: str, images: int, annotations: int, classes: int, splits: set[str | None]
) -> None:
    source = shared_data / "formats/datumaro" / folder
    assert detect_format(source)[0].name == "masks"
    records, table, losses = read(FORMAT, source)
    # As many as there are values other than black or 0 in the mask images.
    assert (records.images.num_rows, table.num_rows, len(records.classes)) == (images, annotations, classes)
    assert set(records.images["split"].to_pylist()) == splits
    assert None not in records.images["path"].to_pylist()
    assert {loss.what for loss in losses.losses} <= {"classes", "image files"}


def test_colors_by_the_class_list_beside_them(shared_data: Path) -> None:
    source = shared_data / "formats/datumaro/common_semantic_segmentation_dataset/non_standard_dataset"
    records, table, _ = read(FORMAT, source)
    found = by_location(records, table)
    assert {row["label"]: row["area"] for row in found["images/image_0001.png"]} == {"Bicyclist": 4, "Road": 1}
    assert {row["label"]: row["area"] for row in found["images/image_0002.png"]} == {
        "Animal": 2, "Road": 1, "SignSymbol": 2,
    }  # fmt: skip
    assert records.info["masks"] == {
        "background": {"name": "Void", "value": 0, "color": "#000000"},
        "ignored": [],
    }


# ------------------------------------------------------------------------------------------------- which mask is whose


@pytest.mark.parametrize(
    ("image", "mask_name"),
    [
        ("images/a.jpg", "masks/a.png"),
        ("images/train/b/a.jpg", "annotations/train/b/a.png"),
        ("train/images/a.jpg", "train/labels/a_labelIds.png"),
        ("train/a.png", "trainannot/a.png"),
        ("train/a.png", "train_labels/a_L.png"),
        ("train/a.jpg", "train/a_mask.png"),
        ("JPEGImages/a.jpg", "SegmentationClass/a.png"),
        ("images/image_7.png", "gt/gt_7.png"),
        ("images/x/a.png", "masks/a.png"),
        ("a.png", "masks/x/a.png"),
        ("RGB/a.png", "GT/a.png"),
    ],
)
def test_layouts(image: str, mask_name: str) -> None:
    layout = find_layout([image, "images/other.png", mask_name])
    assert layout.masks == {image: mask_name}
    assert list(layout.images) == [image, "images/other.png"]


def test_masks_of_another_folder_or_of_several_images_are_not_taken() -> None:
    layout = find_layout(["images/test/a.png", "masks/train/a.png", "images/b.jpg", "images/b.png", "masks/b.png"])
    assert layout.masks == {}
    assert layout.orphans == {"masks/train/a.png": "images/train/a.png"}
    assert list(layout.ambiguous) == ["masks/b.png"]


def test_two_masks_of_one_image_that_is_not_there() -> None:
    layout = find_layout(["images/b.jpg", "masks/a_mask.png", "masks/a_seg.png"])
    assert layout.orphans == {"masks/a_mask.png": "images/a.png"}
    assert list(layout.ambiguous) == ["masks/a_seg.png"]


def test_a_mask_without_image_keeps_its_annotations(tmp_path: Path) -> None:
    dataset(tmp_path)
    (tmp_path / "images/a.jpg").unlink()
    records, table, losses = read(FORMAT, tmp_path)
    assert records.images.select(["location", "path", "width", "height"]).to_pylist() == [
        {"location": "images/a.png", "path": None, "width": 3, "height": 2}
    ]
    assert table["label"].to_pylist() == ["class_1", "class_2"]
    assert "not there; kept without a file" in reasons(losses)


def test_images_elsewhere(tmp_path: Path) -> None:
    dataset(tmp_path / "in", classes="background\nx\ny\n")
    (tmp_path / "in/images").rename(tmp_path / "pictures")
    records, table, losses = read(FORMAT, tmp_path / "in/masks", ReadOptions(images=tmp_path / "pictures"))
    assert records.images["path"].to_pylist() == [str(tmp_path / "pictures/a.jpg")]
    assert table.num_rows == 2
    assert {loss.what for loss in losses.losses} == {"classes"}


# --------------------------------------------------------------------------------------------------- what values mean


def test_values_background_and_ignored(tmp_path: Path) -> None:
    records, table, losses = read(FORMAT, dataset(tmp_path, classes="background\nfirst\nsecond\nthird\n"))
    first, second = table.to_pylist()
    assert (first["label"], first["type"], first["area"], first["bbox"]) == ("first", "mask", 2, [1, 0, 2, 1])
    assert pixels(first) == [[0, 1, 1], [0, 0, 0]]
    assert pixels(second) == [[0, 0, 0], [0, 1, 0]]
    assert [(info.name, info.source_id) for info in records.classes] == [("first", 1), ("second", 2), ("third", 3)]
    assert records.images["metadata"].to_pylist()[0] is not None
    assert losses.losses == []


def test_without_a_class_list_the_value_is_the_name(tmp_path: Path) -> None:
    records, _, losses = read(FORMAT, dataset(tmp_path))
    assert [(info.name, info.source_id) for info in records.classes] == [("class_1", 1), ("class_2", 2)]
    assert {(loss.outcome, loss.what, loss.count) for loss in losses.losses} == {("converted", "classes", 2)}


def test_in_a_set_of_two_values_255_is_a_class(tmp_path: Path) -> None:
    assert shown(dataset(tmp_path, [[0, 255], [0, 0]])) == {"class_255": [[0, 1], [0, 0]]}
    write_image(tmp_path / "images/b.jpg", (2, 1))
    mask(tmp_path / "masks/b.png", [[1, 255]])
    assert shown(tmp_path) == {"class_1": [[1, 0]]}


def test_names_without_background_count_from_zero_unless_the_masks_say_otherwise(tmp_path: Path) -> None:
    assert set(shown(dataset(tmp_path / "zero", [[0, 1]], classes="x\ny\n"))) == {"x", "y"}
    records, table, losses = read(FORMAT, dataset(tmp_path / "one", [[0, 1, 2]], classes="x\ny\n"))
    assert table["label"].to_pylist() == ["x", "y"]
    assert [info.source_id for info in records.classes] == [1, 2]
    assert any("counted from 1" in reason for reason in reasons(losses))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", "background\ncat\ndog\n"),
        ("_classes.csv", "Pixel Value, Class\n0, background\n2, dog\n1, cat\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\ndog:0,128,0::\n"),
        ("label_colors.txt", "0 0 0\tbackground\n128 0 0\tcat\n0 128 0\tdog\n"),
        ("class_dict.csv", "name,r,g,b\nbackground,0,0,0\ncat,128,0,0\ndog,0,128,0\n"),
        ("dataset_meta.json", '{"label_map": {"0": "none", "1": "cat", "2": "dog"}, "background_label": "0"}'),
    ],
)
def test_class_lists(tmp_path: Path, name: str, content: str) -> None:
    root = dataset(tmp_path / "in", palette=True)
    (tmp_path / name).write_text(content, encoding="utf-8")
    expected = {"cat": [[0, 1, 1], [0, 0, 0]], "dog": [[0, 0, 0], [0, 1, 0]]}
    assert shown(root, ReadOptions(classes=tmp_path / name)) == expected
    (tmp_path / name).rename(root / name)
    assert shown(root) == expected


def test_palette_colors_go_before_the_order_of_a_list_of_colors(tmp_path: Path) -> None:
    root = dataset(tmp_path, palette=True)
    (root / "labelmap.txt").write_text("background:0,0,0::\ndog:0,128,0::\ncat:128,0,0::\n")
    assert shown(root) == {"cat": [[0, 1, 1], [0, 0, 0]], "dog": [[0, 0, 0], [0, 1, 0]]}


def test_values_in_three_equal_channels(tmp_path: Path) -> None:
    values = np.repeat(np.array(PLAIN)[..., None], 3, axis=2)
    assert shown(dataset(tmp_path, values, classes="background\ncat\ndog\n")) == {
        "cat": [[0, 1, 1], [0, 0, 0]],
        "dog": [[0, 0, 0], [0, 1, 0]],
    }


def test_values_that_the_list_does_not_have_are_kept_and_reported(tmp_path: Path) -> None:
    records, table, losses = read(FORMAT, dataset(tmp_path, [[0, 1, 700]], classes="background\ncat\n"))
    assert table["label"].to_pylist() == ["cat", "class_700"]
    assert [(info.name, info.source_id) for info in records.classes] == [("cat", 1), ("class_700", 700)]
    assert reasons(losses) == {"not in the class list: called after its value"}


@pytest.mark.parametrize("content", ["", "{", '{"label_map": 3}', "# only this\n"])
def test_a_broken_class_list_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / ("list.json" if "{" in content else "list.txt")
    path.write_text(content)
    with pytest.raises(FormatError):
        read(FORMAT, dataset(tmp_path / "in"), ReadOptions(classes=path))


# ------------------------------------------------------------------------------------------------------------ bad input


def test_masks_that_do_not_fit_are_dropped_not_resized(tmp_path: Path) -> None:
    dataset(tmp_path)
    write_image(tmp_path / "images/b.jpg", (4, 2))
    mask(tmp_path / "masks/b.png", PLAIN)
    write_image(tmp_path / "images/c.jpg", (3, 2))
    (tmp_path / "masks/c.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    write_image(tmp_path / "images/d.jpg", (3, 2))
    write_image(tmp_path / "masks/d.jpg", (3, 2))
    records, table, losses = read(FORMAT, tmp_path)
    assert records.images.num_rows == 4
    assert table.num_rows == 2
    assert {(loss.what, loss.reason, loss.count) for loss in losses.losses if loss.outcome == "dropped"} == {
        ("masks", "of another size than the image", 1),
        ("masks", "the mask cannot be read", 2),
    }


def test_a_mask_of_the_image_as_stored_is_turned(tmp_path: Path) -> None:
    write_image(tmp_path / "images/a.jpg", (3, 2), orientation=6)
    mask(tmp_path / "masks/a.png", [[1, 0, 0], [0, 0, 0]])
    # Stored 3 x 2 and turned by a quarter clockwise: the top-left pixel comes to the top-right.
    assert shown(tmp_path) == {"class_1": [[0, 1], [0, 0], [0, 0]]}


def test_a_photograph_is_no_mask(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3))
    _, table, losses = read(FORMAT, dataset(tmp_path, noise))
    assert table.num_rows == 0
    assert reasons(losses) == {"too many values for an image of classes"}
    with pytest.raises(ImageError, match="different values"):
        split_labels(np.arange(10_000).reshape(100, 100))


def test_a_folder_without_masks_is_an_error(tmp_path: Path) -> None:
    write_image(tmp_path / "images/a.jpg", (3, 2))
    with pytest.raises(FormatError, match="no masks"):
        read(FORMAT, tmp_path)
    assert FORMAT.detect(tmp_path) is None


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(0, 5), min_size=4, max_size=4), min_size=1, max_size=6))
def test_split_labels_is_the_mask_of_each_value(rows: list[list[int]]) -> None:
    values = np.array(rows, dtype=np.uint16)
    regions = split_labels(values, skip={0})
    assert [region.value for region in regions] == sorted({*values.ravel().tolist()} - {0})
    for region in regions:
        assert region.counts == encode_rle(values == region.value)
        assert region.area == (values == region.value).sum()


# ----------------------------------------------------------------------------------------------------------- round trips


@st.composite
def drawn_annotations(draw: st.DrawFn, size: tuple[int, int]) -> dict[str, Any]:
    width, height = size
    bits = np.array(draw(st.lists(st.booleans(), min_size=width, max_size=width))) | np.eye(height, width, dtype=bool)
    return {
        "type": "mask",
        "label": draw(st.sampled_from(CLASSES)),
        "bbox": [0.0, 0.0, width, height],
        "rle": encode_rle(bits),
        "rle_size": [height, width],
    }


@settings(deadline=None, max_examples=15)
@given(cases(drawn_annotations))
def test_round_trip(found: list[Case]) -> None:
    with written(FORMAT, found, WriteOptions(images="copy")) as (target, losses):
        records, table, back_losses = read(FORMAT, target)
        assert back_losses.losses == []
        assert [info.name for info in records.classes] == CLASSES
        assert detect_format(target)[0].name == "masks"
        lost = {(loss.outcome, loss.what): loss.count for loss in losses.losses}
        placed = dict(zip(by_location(records, table), records.images["split"].to_pylist(), strict=True))
        names = {name: strip_layout(name, split) for name, split in placed.items()}
        splits = {names[name]: split for name, split in placed.items()}
        back = {names[name]: rows for name, rows in by_location(records, table).items()}
        assert splits == {case.location: case.split for case in found}
        merged = hidden = unseen = 0
        for case in found:
            objects = [(CLASSES.index(row["label"]) + 1, row["rle"]) for row in case.annotations]
            canvas, covered = paint(objects, (case.size[1], case.size[0]), 0)
            hidden += covered
            merged += len(objects) - len({value for value, _ in objects})
            unseen += sum(value not in canvas for value, _ in objects)
            expected = {CLASSES[value - 1]: encode_rle(canvas == value) for value in np.unique(canvas) if value}
            assert {row["label"]: row["rle"] for row in back[case.location]} == expected
        assert lost.get(("converted", "annotations"), 0) == merged
        assert lost.get(("converted", "mask pixels"), 0) == hidden
        assert lost.get(("dropped", "annotations"), 0) == unseen


def test_what_was_read_is_written_again_value_for_value(tmp_path: Path) -> None:
    root = dataset(tmp_path / "in", [[0, 3, 9], [7, 7, 9]])
    (root / "_classes.csv").write_text(
        "Pixel Value, Class\n0, void\n3, cat\n7, ignore\n9, Mutter groß\n", encoding="utf-8"
    )
    records, table, losses = read(FORMAT, root)
    assert losses.losses == []
    target = tmp_path / "out"
    target.mkdir()
    FORMAT.write(Export(records.images, table, records.classes, records.info), target, WriteOptions("copy"), losses)
    assert losses.losses == []
    labels = load_labels(target / "masks/a.png")
    assert labels.values.tolist() == [[0, 3, 9], [7, 7, 9]]
    assert (target / "_classes.csv").read_text(encoding="utf-8").splitlines()[1:] == [
        "0, void",
        "3, cat",
        "7, ignore",
        "9, Mutter groß",
    ]
    again, back, _ = read(FORMAT, target)
    assert back["rle"].to_pylist() == table["rle"].to_pylist()
    assert again.images["metadata"].to_pylist() == records.images["metadata"].to_pylist()
    assert again.classes == [
        ClassInfo("cat", source_id=3, color="#808000"),
        ClassInfo("Mutter groß", source_id=9, color="#c00000"),
    ]


def test_small_objects_lie_over_large_ones_and_what_is_hidden_is_reported(tmp_path: Path) -> None:
    large = [0.0, 0.0, 8.0, 0.0, 8.0, 8.0, 0.0, 8.0]
    small = [2.0, 2.0, 4.0, 2.0, 4.0, 4.0, 2.0, 4.0]
    rows: list[dict[str, Any]] = [
        {"type": "polygon", "label": "no", "bbox": [2, 2, 2, 2], "polygons": [small]},
        {"type": "polygon", "label": "bolt", "bbox": [0, 0, 8, 8], "polygons": [large]},
        {"type": "box", "label": "bolt", "bbox": [0, 0, 8, 8]},
        {"type": "label", "label": "bolt"},
        {"type": "polygon", "label": "bolt", "bbox": [90, 90, 9, 9], "polygons": [[90.0, 90, 99, 90, 99, 99]]},
    ]
    target, losses = tmp_path / "out", LossReport()
    target.mkdir()
    FORMAT.write(make_export(tmp_path, [Case("a.png", (8, 8), None, rows)]), target, WriteOptions(), losses)
    values = load_labels(target / "masks/a.png").values
    assert Counter(values.ravel().tolist()) == {1: 60, 4: 4}
    assert {(loss.what, loss.reason): loss.count for loss in losses.losses if loss.what != "category ids"} == {
        ("mask pixels", "below another object: a pixel has one class"): 4,
        ("annotations", "without an outline"): 1,
        ("annotations", "labels of the whole image have no place in a class mask"): 1,
        ("annotations", "too small for a pixel, or outside the image"): 1,
        ("annotations", "polygons become the pixels whose centre is inside"): 2,
    }
    assert losses.carried_counts["annotations"] == 2
    assert (target / "classes.txt").read_text(encoding="utf-8").splitlines() == ["background", *CLASSES]


def test_what_is_wholly_hidden_is_dropped(tmp_path: Path) -> None:
    square = {"type": "polygon", "bbox": [0, 0, 4, 4], "polygons": [[0.0, 0.0, 4.0, 0.0, 4.0, 4.0, 0.0, 4.0]]}
    rows: list[dict[str, Any]] = [{**square, "label": "no"}, {**square, "label": "bolt"}]
    target, losses = tmp_path / "out", LossReport()
    target.mkdir()
    FORMAT.write(make_export(tmp_path, [Case("a.png", (8, 8), None, rows)]), target, WriteOptions(), losses)
    dropped = {
        loss.reason: (loss.count, loss.places)
        for loss in losses.losses
        if (loss.outcome, loss.what) == ("dropped", "annotations")
    }
    assert dropped == {"wholly below other objects: a pixel has one class": (1, ["a.png"])}
    assert losses.carried_counts["annotations"] == 1


def test_many_classes_need_sixteen_bits(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(300)]
    rows = [
        {
            "type": "mask",
            "label": name,
            "bbox": [0, 0, 1, 1],
            "rle": encode_rle(np.arange(4)[None] == place),
            "rle_size": [1, 4],
        }
        for place, name in enumerate(["c0", "c254", "c299"])
    ]
    target, losses = tmp_path / "out", LossReport()
    target.mkdir()
    export = make_export(tmp_path / "in", [Case("a.png", (4, 1), None, rows)], names)
    FORMAT.write(export, target, WriteOptions("copy"), losses)
    assert load_labels(target / "masks/a.png").values.tolist() == [[1, 255, 300, 0]]
    records, table, losses = read(FORMAT, target)
    assert table["label"].to_pylist() == ["c0", "c254", "c299"]
    assert losses.losses == []
    assert len({info.color for info in records.classes}) == 300


def test_colors_are_kept_and_made_different(tmp_path: Path) -> None:
    sizes = np.array([2])
    images = images_table(["a.png"], [None], sizes, sizes, {})
    classes = [ClassInfo("x", color="#102030"), ClassInfo("y", color="#102030"), ClassInfo("background")]
    export = make_export(tmp_path, [Case("a.png", (2, 2), None, [])])
    losses = LossReport()
    FORMAT.write(Export(images, export.annotations, classes, {}), tmp_path, WriteOptions(), losses)
    legend = read_legend([tmp_path / "labelmap.txt"])
    assert len({known.color for known in legend.classes}) == 4
    assert legend.classes[1].color == 0x102030
    assert reasons(losses) == {
        "another color: a mask needs one for each",
        "tools take a class of this name for none",
    }


def test_ids_stay_when_the_set_is_read_again(tmp_path: Path) -> None:
    dataset(tmp_path)
    before = read(FORMAT, tmp_path)[1]["annotation_id"].to_pylist()
    (tmp_path / "classes.txt").write_text("background\ncat\ndog\n")
    after = read(FORMAT, tmp_path)[1]
    assert after["annotation_id"].to_pylist() == before
    assert after["label"].to_pylist() == ["cat", "dog"]


def test_boxes_alone_make_empty_masks(tmp_path: Path) -> None:
    box = {"type": "box", "label": "no", "bbox": [0.0, 0.0, 2.0, 2.0]}
    target, losses = tmp_path / "out", LossReport()
    target.mkdir()
    FORMAT.write(make_export(tmp_path, [Case("a.png", (5, 5), None, [box])]), target, WriteOptions(), losses)
    assert not load_labels(target / "masks/a.png").values.any()
    assert "without an outline" in reasons(losses)


def test_an_image_too_large_to_draw_is_reported(tmp_path: Path) -> None:
    mask = {
        "type": "polygon",
        "label": "no",
        "bbox": [0.0, 0.0, 9.0, 9.0],
        "polygons": [[0.0, 0.0, 9.0, 0.0, 9.0, 9.0]],
    }
    target, losses = tmp_path / "out", LossReport()
    target.mkdir()
    export = make_export(tmp_path, [Case("a.png", (5, 5), None, [mask])])
    huge = export.images
    for name in ("width", "height"):
        huge = huge.set_column(huge.column_names.index(name), huge.schema.field(name), pa.array([200_000], pa.int32()))
    FORMAT.write(replace(export, images=huge), target, WriteOptions(), losses)
    assert "the image has more than 500,000,000 pixels" in reasons(losses)
    assert not list(target.glob("masks/*"))
    assert losses.carried_counts["annotations"] == 0
