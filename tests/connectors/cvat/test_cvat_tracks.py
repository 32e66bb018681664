"""Tracks: filled in between their keyframes as CVAT does, read on every frame, changed on one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curate.connectors.base import Change, Connector, Item
from curate.connectors.cvat.tracks import expand
from curate.formats.losses import LossReport
from tests.connectors.cvat.cvat_cases import Site, listed, new_item
from tests.connectors.cvat.test_cvat_shapes import draw


def shape(frame: int, points: list[float], kind: str = "rectangle", **more: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "frame": frame,
        "points": points,
        "outside": False,
        "occluded": False,
        "attributes": [],
        **more,
    }


def filled(*shapes: dict[str, Any], last: int = 9, **more: Any) -> list[tuple[int, Any, bool]]:
    """Frame, points and whether it is a keyframe, of a track of these shapes."""
    found = expand({"frame": shapes[0]["frame"], "attributes": [], "shapes": list(shapes), **more}, last)
    return [(each["frame"], each["points"], each["keyframe"]) for each in found]


def test_a_box_moves_evenly_and_stays_after_its_last_keyframe() -> None:
    assert filled(shape(1, [0, 0, 10, 10]), shape(3, [4, 8, 14, 18]), last=4) == [
        (1, [0, 0, 10, 10], True),
        (2, [2.0, 4.0, 12.0, 14.0], False),
        (3, [4, 8, 14, 18], True),
        (4, [4, 8, 14, 18], False),
    ]


def test_a_box_turns_the_shorter_way() -> None:
    found = expand({"shapes": [shape(0, [0, 0, 1, 1], rotation=350), shape(2, [0, 0, 1, 1], rotation=30)]}, 2)
    assert [each["rotation"] for each in found] == [350, 10.0, 30]


def test_what_is_outside_the_picture_is_told_on_its_keyframe_only() -> None:
    found = filled(shape(0, [0, 0, 1, 1]), shape(2, [4, 4, 5, 5], outside=True), shape(6, [8, 8, 9, 9]), last=7)
    assert [frame for frame, _, _ in found] == [0, 1, 2, 6, 7]


def test_attributes_hold_until_they_change() -> None:
    first, second = ({"attributes": [{"spec_id": 1, "value": value}]} for value in "ab")
    shapes = [shape(0, [0, 0], "points", **first), shape(2, [4, 4], "points"), shape(3, [4, 4], "points", **second)]
    found = expand({"attributes": [{"spec_id": 2, "value": "w"}], "shapes": shapes}, 3)
    values = [{each["spec_id"]: each["value"] for each in one["attributes"]} for one in found]
    assert values == [{1: "a", 2: "w"}] * 3 + [{1: "b", 2: "w"}]


@pytest.mark.parametrize("kind", ["mask", "points"])
def test_masks_and_several_points_wait_for_the_next_keyframe(kind: str) -> None:
    found = filled(shape(0, [1, 2, 3, 4], kind), shape(2, [5, 6, 7, 8], kind), last=2)
    assert found[1] == (1, [1, 2, 3, 4], False)


def test_an_outline_moves_with_its_corners() -> None:
    square, moved = [0.0, 0, 10, 0, 10, 10, 0, 10], [4.0, 2, 14, 2, 14, 12, 4, 12]
    assert filled(shape(0, square, "polygon"), shape(2, moved, "polygon"), last=1)[1][1] == [2, 1, 12, 1, 12, 11, 2, 11]


def test_outlines_of_different_numbers_of_points_meet_halfway() -> None:
    found = filled(shape(0, [0, 0, 10, 0], "polyline"), shape(2, [0, 4, 5, 4, 10, 4], "polyline"), last=1)[1][1]
    assert found[:2] == [0, 2]
    assert found[-2:] == [10, 2]
    assert set(found[1::2]) == {2}


def test_a_skeleton_is_out_of_the_picture_when_all_its_points_are() -> None:
    parts = [
        {"label_id": 3, "shapes": [shape(0, [1, 1], "points"), shape(2, [3, 3], "points", outside=True)]},
        {"label_id": 4, "shapes": [shape(0, [5, 5], "points", outside=True)]},
    ]
    found = list(expand({"shapes": [shape(0, [], "skeleton")], "elements": parts}, 3))
    assert [each["frame"] for each in found] == [0, 1]
    assert [[part["points"] for part in each["elements"]] for each in found] == [[[1, 1], [5, 5]], [[2, 2], [5, 5]]]


# ------------------------------------------------------------------------------------------------------------ on a server


def tracked(cvat: Site, annotator: Any, folder: Path) -> tuple[Connector, Any]:
    """A project with a track over frames 0 to 2 of four: a box that moves, and is outside on the last."""
    connector = cvat.made()
    connector.create(
        [new_item(folder, f"{name}.png", priority=4.0 - i) for i, name in enumerate("abcd")], losses=LossReport()
    )
    job = annotator.jobs.retrieve(listed(connector)[0].metadata["job"])
    label = next(each for each in job.get_labels() if each.name == "nut")
    shapes = [shape(0, [0.0, 0, 10, 10]), shape(2, [8.0, 4, 18, 14]), shape(3, [8.0, 4, 18, 14], outside=True)]
    draw(job, tracks=[{"frame": 0, "label_id": label.id, "group": 0, "shapes": shapes}])
    return connector, job


def boxes(items: list[Item]) -> list[Any]:
    return [[each.row["bbox"] for each in item.annotations or ()] for item in items]


def changed(connector: Connector, item: Item, **what: Any) -> LossReport:
    losses = LossReport()
    connector.change([Change(item, "0" * 16, (64, 48), **what)], losses=losses)
    return losses


def test_a_track_is_an_annotation_on_each_frame(cvat: Site, annotator: Any, tmp_path: Path) -> None:
    connector, job = tracked(cvat, annotator, tmp_path)
    items = listed(connector)
    number = job.get_annotations().tracks[0].id
    assert boxes(items) == [[[0, 0, 10, 10]], [[4, 2, 10, 10]], [[8, 4, 10, 10]], []]
    found = [item.annotations[0] for item in items[:3]]  # type: ignore[index]
    assert [each.remote_id for each in found] == [f"track:{number}@{frame}" for frame in range(3)]
    assert [each.row["attributes"]["keyframe"] for each in found] == [True, False, True]
    assert {each.row["attributes"]["track_id"] for each in found} == {number}
    (outside,) = found[2].row["attributes"]["outside"]
    assert (outside["frame"], outside["outside"]) == ("3", "1")
    assert "outside" not in found[0].row["attributes"]


def test_a_track_is_changed_on_a_frame_and_follows(cvat: Site, annotator: Any, tmp_path: Path) -> None:
    connector, job = tracked(cvat, annotator, tmp_path)
    items = listed(connector)
    before = items[1].annotations[0]  # type: ignore[index]
    losses = changed(connector, items[1], updated={before.remote_id: {**before.row, "bbox": [20.0, 20.0, 10.0, 10.0]}})
    assert losses.losses == []
    assert boxes(listed(connector)) == [[[0, 0, 10, 10]], [[20, 20, 10, 10]], [[8, 4, 10, 10]], []]
    (track,) = job.get_annotations().tracks
    assert [each.frame for each in track.shapes] == [0, 1, 2, 3]
    assert f"track:{track.id}@1" == before.remote_id


def test_what_holds_for_all_of_a_track_is_not_changed_on_a_frame(cvat: Site, annotator: Any, tmp_path: Path) -> None:
    connector, _ = tracked(cvat, annotator, tmp_path)
    items = listed(connector)
    before = items[1].annotations[0]  # type: ignore[index]
    losses = changed(connector, items[1], updated={before.remote_id: {**before.row, "label": "bolt"}})
    losses.include(changed(connector, items[1], deleted=[before.remote_id]).losses)
    assert [(loss.what, loss.count) for loss in losses.losses if loss.what == "changes"] == [("changes", 1)] * 2
    assert boxes(listed(connector)) == boxes(items)


def test_a_track_goes_when_it_goes_from_all_of_its_frames(cvat: Site, annotator: Any, tmp_path: Path) -> None:
    connector, job = tracked(cvat, annotator, tmp_path)
    items = listed(connector)[:3]
    changes = [Change(item, "0" * 16, (64, 48), deleted=[item.annotations[0].remote_id]) for item in items]  # type: ignore[index]
    connector.change(changes, losses=LossReport(strict=True))
    assert job.get_annotations().tracks == []
