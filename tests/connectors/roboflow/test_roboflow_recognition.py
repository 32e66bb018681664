"""Annotations without ids are recognised by what curate noted of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.connectors.roboflow.recognition import Known, Seen, dump, load, place_ids, recognise
from curate.formats.losses import LossReport
from tests.connectors.roboflow.conftest import Connect, box_row, listing, new_item
from tests.servers.roboflow import Service

sides = st.floats(0, 5000).map(lambda side: round(side, 2))
boxes = st.builds(Seen, st.sampled_from(["bolt", "nut", "ü 1"]), st.tuples(sides, sides, sides, sides))


def known(*seen: Seen) -> list[Known]:
    return [Known(f"id{number}", each, f"id{number}") for number, each in enumerate(seen)]


@given(st.lists(boxes, max_size=12), st.randoms())
def test_whatever_the_order_unchanged_annotations_are_recognised(seen: list[Seen], random: object) -> None:
    notes = known(*seen)
    shuffled = list(seen)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    found = recognise(shuffled, load(dump(notes)))
    assert [note.seen if note else None for note in found] == shuffled
    assert len({note.remote_id for note in found if note}) == len(seen)
    assert len(set(place_ids(seen))) == len(seen)


def test_another_class_at_the_same_place_is_the_same_annotation() -> None:
    notes = known(Seen("bolt", (0, 0, 10, 10)), Seen("nut", (0, 0, 10, 10)))
    found = recognise([Seen("nut", (0, 0, 10, 10)), Seen("pin", (0, 0, 10, 10))], notes)
    assert [note.remote_id for note in found if note] == ["id1", "id0"]


def test_a_moved_one_goes_by_class_before_overlap() -> None:
    notes = known(Seen("bolt", (0, 0, 10, 10)), Seen("nut", (1, 0, 10, 10)))
    found = recognise([Seen("bolt", (0.9, 0, 10, 10)), Seen("nut", (0.1, 0, 10, 10))], notes)
    assert [note.remote_id for note in found if note] == ["id0", "id1"]


def test_one_far_away_was_drawn_there() -> None:
    assert recognise([Seen("bolt", (50, 0, 10, 10))], known(Seen("bolt", (0, 0, 10, 10)))) == [None]


@pytest.mark.parametrize("text", [None, "", "no JSON", "{}", "[1]", '[["id"]]', '[["id","","","a",1,2,3,"x"]]'])
def test_notes_that_are_none_are_left_out(text: object) -> None:
    assert load(text) == []


def test_more_annotations_than_the_metadata_hold_are_told(service: Service, connect: Connect, tmp_path: Path) -> None:
    service.add_project("parts")
    rows = [box_row(f"{number:016d}", "bolt", [number / 10, 1, 9, 9]) for number in range(400)]
    losses = LossReport()
    connect().create([new_item(tmp_path, 1, rows)], losses=losses)
    assert "annotation ids" in {loss.what for loss in losses.losses}
    found = listing(connect())["line/1.jpg"].annotations or ()
    assert len({each.remote_id for each in found}) == 400
    assert {each.annotation_id for each in found} == {None}
