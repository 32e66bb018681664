"""What a reader tells a Collector of is what the tables say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from format_cases import reasons, write_image
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.formats import collect
from curate.formats.base import ClassInfo, ReadOptions
from curate.formats.collect import Collector
from curate.formats.losses import LossReport
from curate.formats.shape_columns import WHOLE_IMAGE, Shape
from curate.geometry import encode_rle


def collector(**options: object) -> tuple[Collector, LossReport]:
    losses = LossReport()
    return Collector(ReadOptions(**options), losses), losses  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "kind", "bbox"),
    [
        (WHOLE_IMAGE, "label", None),
        (Shape(bbox=[1, 2, 3, 4]), "box", [1, 2, 3, 4]),
        (Shape(rotated_box=[10, 10, 4, 2, 90]), "rotated_box", [9, 8, 2, 4]),
        (Shape(polygons=[[0, 0, 4, 0, 4, 4], [9, 9, 10, 9, 10, 12]]), "polygon", [0, 0, 10, 12]),
        (Shape(polygons=[[0, 5, 4, 0]], is_open=True), "polyline", [0, 0, 4, 5]),
        (Shape(rle=(encode_rle(np.eye(3, 4)), [3, 4])), "mask", [0, 0, 3, 3]),
        (Shape(keypoints=[5, 6, 2, 7, 9, 1, 0, 0, 0]), "keypoints", [5, 6, 2, 3]),
        (Shape(bbox=[0, 0, 9, 9], keypoints=[0, 0, 0]), "box", [0, 0, 9, 9]),
        (Shape(bbox=[5, 5, -3, 2]), "box", [5, 5, -3, 2]),
    ],
)
def test_type_and_box_follow_from_the_shape(shape: Shape, kind: str, bbox: list[float] | None) -> None:
    gathered, losses = collector()
    image = gathered.image("a.png", None, size=(20, 20))
    assert gathered.add(image, "bolt", shape, place="a")
    (table,) = gathered.records().annotations
    assert table["type"].to_pylist() == [kind]
    assert table["bbox"].to_pylist() == [None if bbox is None else pytest.approx(bbox)]
    assert reasons(losses) == {"not there; kept without a file"}


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (Shape(bbox=[1, 2, float("nan"), 4]), "coordinates that are not finite numbers"),
        (Shape(polygons=[[0, 0, float("inf"), 0, 4, -float("inf")]]), "coordinates that are not finite numbers"),
        (Shape(bbox=[1, 2, 3]), "without four numbers for a box"),
        (Shape(polygons=[[0, 0, 4, 0]]), "an outline of too few points"),
        (Shape(polygons=[]), "an outline of too few points"),
        (Shape(rle=("3", [2, 2])), "run lengths do not fill the mask's size"),
        (Shape(keypoints=[1, 2]), "keypoints that are not triples of x, y and visibility"),
    ],
)
def test_a_shape_that_cannot_be_is_dropped(shape: Shape, reason: str) -> None:
    gathered, losses = collector()
    assert not gathered.add(gathered.image("a.png", None), "bolt", shape, place="here")
    assert list(gathered.records().annotations) == []
    (loss,) = [loss for loss in losses.losses if loss.what == "annotations"]
    assert (loss.reason, loss.places) == (reason, ["here"])


def test_the_first_account_of_an_image_stands_and_the_users_split_wins(tmp_path: Path) -> None:
    gathered, _ = collector(split="test")
    first = gathered.image("a.png", write_image(tmp_path / "a.png", (4, 5)), split="train", metadata={"lamp": 2})
    assert gathered.image("a.png", None) == first
    (row,) = gathered.records().images.to_pylist()
    assert (row["split"], row["width"], row["height"], row["metadata"]) == ("test", 4, 5, '{"lamp": 2}')


def test_predictions_beside_ground_truth() -> None:
    gathered, losses = collector()
    image = gathered.image("a.png", None)
    gathered.add(image, "bolt", Shape(bbox=[0, 0, 1, 1]), place="a", score=0.5)
    gathered.add(image, "nut", Shape(bbox=[0, 0, 1, 1]), place="a", score=0.25, layer="predictions/net")
    records = gathered.records([ClassInfo("washer")])
    (table,) = records.annotations
    assert table["layer"].to_pylist() == ["ground_truth", "predictions/net"]
    assert table["score"].to_pylist() == [None, 0.25]
    assert records.layers == {"ground_truth", "predictions/net"}
    assert [info.name for info in records.classes] == ["washer", "bolt", "nut"]
    assert "confidences have no place in ground truth; import into predictions/NAME to keep them" in reasons(losses)


def test_ids_follow_keys_not_order() -> None:
    ids = []
    for keys in (["x", "y", 3], [3, "y", "x"]):
        gathered, _ = collector()
        image = gathered.image("a.png", None)
        for key in keys:
            gathered.add(image, "bolt", WHOLE_IMAGE, place="a", key=key)  # type: ignore[arg-type]
        (table,) = gathered.records().annotations
        ids.append(dict(zip(keys, table["annotation_id"].to_pylist(), strict=True)))
    assert ids[0] == ids[1]
    assert len(set(ids[0].values())) == 3


def test_many_pieces_come_back_in_order_from_the_temporary_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "_ROWS_OF_A_PIECE", 10)
    monkeypatch.setattr(collect, "_PIECES_IN_MEMORY", 2)
    gathered, _ = collector()
    image = gathered.image("a.png", None)
    for number in range(57):
        gathered.add(image, f"c{number}", Shape(bbox=[number, 0, 1, 1]), place="a", area=number)
    table = pa.concat_tables(gathered.records().annotations)
    assert table["area"].to_pylist() == list(range(57))
    assert table["label"].to_pylist() == [f"c{number}" for number in range(57)]


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 8))
def test_shapes_are_turned_with_their_image(tmp_path_factory: pytest.TempPathFactory, orientation: int) -> None:
    """Every geometry that covers one pixel still covers it after the image was turned."""
    mask = np.zeros((6, 9), dtype=np.uint8)
    mask[1, 7] = 1
    path = write_image(tmp_path_factory.mktemp("turned") / "a.jpg", (9, 6), orientation=orientation)
    gathered, _ = collector()
    image = gathered.image("a.jpg", path, size=(9, 6))
    corners = [7.0, 1, 8, 1, 8, 2, 7, 2]
    gathered.add(image, "mask", Shape(rle=(encode_rle(mask), [6, 9])), place="a")
    gathered.add(image, "polygon", Shape(polygons=[corners]), place="a")
    gathered.add(image, "rotated", Shape(rotated_box=[7.5, 1.5, 1, 1, 0]), place="a")
    gathered.add(image, "point", Shape(bbox=[7, 1, 1, 1], keypoints=[7.5, 1.5, 2, 0, 0, 0]), place="a")
    records = gathered.records()
    (table,) = records.annotations
    rows = table.to_pylist()
    # Orientations above four swap width and height; the stated size then tells that coordinates are as stored.
    if orientation >= 5:
        expected = rows[0]["bbox"]
        assert (records.images["width"][0].as_py(), records.images["height"][0].as_py()) == (6, 9)
        assert rows[0]["rle_size"] == [9, 6]
        assert expected != [7, 1, 1, 1]
    else:
        expected = [7, 1, 1, 1]
    x, y = expected[0] + 0.5, expected[1] + 0.5
    assert [row["bbox"] for row in rows] == [pytest.approx(expected)] * 4
    assert rows[2]["rotated_box"][:4] == pytest.approx([x, y, 1, 1])
    assert rows[3]["keypoints"] == pytest.approx([x, y, 2, 0, 0, 0])
