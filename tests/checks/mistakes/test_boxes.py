from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from curate.checks.boxes import Boxes, FloatArray
from curate.checks.mistakes.boxes import impossible_boxes
from curate.errors import InputError

SIZE = np.array([[100.0, 80.0]])


def boxes(
    *bbox: tuple[float, float, float, float], label: list[int] | None = None, crowd: list[bool] | None = None
) -> Boxes:
    n = len(bbox)
    return Boxes(
        np.zeros(n, dtype=np.int64),
        np.array(bbox, dtype=np.float64).reshape(n, 4),
        np.array(label or [0] * n, dtype=np.int64),
        crowd=None if crowd is None else np.array(crowd),
    )


@pytest.mark.parametrize(
    ("bbox", "reason"),
    [
        ((np.nan, 0, 5, 5), "not a finite number"),
        ((0, 0, np.inf, 5), "not a finite number"),
        ((10, 10, 0, 5), "no area"),
        ((10, 10, 5, -3), "no area"),
        ((120, 10, 20, 20), "outside of the image"),
        ((-30, 10, 20, 20), "outside of the image"),
    ],
)
def test_the_impossible_is_certain(bbox: tuple[float, float, float, float], reason: str) -> None:
    found = impossible_boxes(boxes(bbox, (10, 10, 20, 20)), SIZE)
    assert found.annotation.tolist() == [0]
    assert found.kind.tolist() == ["mislocated"]
    assert found.score.tolist() == [1.0]
    assert reason in found.reason[0]


def test_over_the_border_is_named_with_what_is_inside_and_rounding_is_not() -> None:
    found = impossible_boxes(boxes((90, 10, 30, 20), (-1, -1, 30, 30), (70, 50, 31, 31.5)), SIZE)
    assert found.annotation.tolist() == [0]
    assert found.bbox.tolist() == [[90, 10, 10, 20]]
    assert found.evidence["outside_share"] == pytest.approx([2 / 3])
    assert found.evidence["outside_pixels"] == pytest.approx([20.0])
    assert 0.6 < found.score[0] < 1.0


def test_boxes_over_the_border_are_suspected_less_where_they_are_the_habit() -> None:
    once = impossible_boxes(boxes((90, 10, 30, 20), *[(10 + i, 10 + i, 20, 20) for i in range(40)]), SIZE)
    habit = impossible_boxes(boxes(*[(80.0 + i / 4, i, 30, 20) for i in range(40)]), SIZE)
    assert once.score[0] > 0.6
    assert (habit.score < 0.2).all()


def test_unknown_image_sizes_make_no_suspects() -> None:
    for unknown in (np.nan, 0.0):
        assert len(impossible_boxes(boxes((900, 900, 5, 5)), np.array([[unknown, unknown]]))) == 0


def test_the_same_object_twice_is_spurious_and_names_the_other() -> None:
    found = impossible_boxes(boxes((10, 10, 20, 20), (50, 50, 20, 20), (10, 10, 20, 20), (50, 50, 20, 20.5)), SIZE)
    assert found.kind.tolist() == ["spurious", "spurious"]
    assert list(zip(found.annotation, found.related, strict=True)) == [(2, 0), (3, 1)]
    assert found.score[0] == 1.0
    assert 0.9 < found.score[1] < 1.0
    assert found.evidence["iou"] == pytest.approx([1.0, 20 / 20.5])


def test_two_classes_on_one_box_are_mislabeled() -> None:
    found = impossible_boxes(boxes((10, 10, 20, 20), (10, 10, 20, 20), label=[0, 1]), SIZE)
    assert found.kind.tolist() == ["mislabeled"]
    assert (found.annotation[0], found.related[0], found.label[0]) == (1, 0, 0)
    assert found.score[0] > 0.8


def test_a_hierarchy_of_classes_is_no_mistake() -> None:
    places = [(float(3 * i), float(i), 12.0, 12.0) for i in range(25)]
    found = impossible_boxes(boxes(*places, *places, label=[0] * 25 + [1] * 25), SIZE)
    assert len(found) == 0


def test_crowd_regions_are_no_duplicates() -> None:
    found = impossible_boxes(boxes((10, 10, 20, 20), (10, 10, 20, 20), crowd=[False, True]), SIZE)
    assert len(found) == 0


def test_a_sliver_among_ordinary_boxes() -> None:
    rng = np.random.default_rng(0)
    ordinary = [(float(x), float(x), float(w), float(h)) for x, w, h in rng.uniform((0, 25, 25), (20, 60, 60), (60, 3))]
    found = impossible_boxes(boxes((5, 5, 1, 50), *ordinary), SIZE)
    assert found.annotation[0] == 0
    assert "sliver" in found.reason[0]
    assert found.evidence["shorter_side"][0] == 1.0
    few = impossible_boxes(boxes((5, 5, 1, 50), *ordinary[:5]), SIZE)
    assert len(few) == 0


def test_the_whole_image_is_unusual_only_for_a_class_that_seldom_is() -> None:
    small = [(float(i), float(i), 20.0, 20.0) for i in range(50)]
    found = impossible_boxes(boxes((0, 0, 100, 80), *small), SIZE)
    assert found.annotation.tolist() == [0]
    assert "whole image" in found.reason[0]
    often = Boxes(np.arange(50), np.tile([0.0, 0, 100, 80], (50, 1)), np.zeros(50, dtype=np.int64))
    assert len(impossible_boxes(often, np.tile(SIZE, (50, 1)))) == 0


def test_one_suspect_per_box_and_none_without_boxes() -> None:
    found = impossible_boxes(boxes((90, 10, 30, 20), (90, 10, 30, 20)), SIZE)
    assert sorted(found.annotation.tolist()) == [0, 1]
    assert len(impossible_boxes(boxes(), SIZE)) == 0


def test_tables_refuse_columns_of_different_lengths() -> None:
    with pytest.raises(InputError, match="3 rows"):
        Boxes(np.zeros(2, dtype=np.int64), np.zeros((2, 4)), np.zeros(3, dtype=np.int64))
    with pytest.raises(InputError, match="negative"):
        Boxes(np.array([-1]), np.zeros((1, 4)), np.zeros(1, dtype=np.int64))


def read_voc(folder: Path) -> tuple[Boxes, FloatArray]:
    rows, sizes, names = [], [], []
    for i, path in enumerate(sorted(folder.glob("*.xml"))):
        root = ElementTree.parse(path).getroot()
        sizes.append([float(root.findtext(f"size/{side}", "0")) for side in ("width", "height")])
        for item in root.iter("object"):
            x0, y0, x1, y1 = (
                float(item.findtext(f"bndbox/{side}", "nan")) for side in ("xmin", "ymin", "xmax", "ymax")
            )
            rows.append([i, x0, y0, x1 - x0, y1 - y0])
            names.append(item.findtext("name", ""))
    table = np.array(rows)
    label = np.unique(np.array(names), return_inverse=True)[1]
    return Boxes(table[:, 0].astype(np.int64), table[:, 1:], label), np.array(sizes)


def test_real_data_has_its_known_faults_and_few_alarms(shared_data: Path) -> None:
    truth, sizes = read_voc(shared_data / "detection/bccd/Annotations")
    found = impossible_boxes(truth, sizes)
    flat = found.take(np.char.find(found.reason, "no area") >= 0)
    assert len(flat) == 2
    assert len(found) < 0.005 * len(truth)
    truth, sizes = read_voc(shared_data / "detection/raccoon/annotations")
    assert len(impossible_boxes(truth, sizes)) <= 2
