"""What annotators are told, and where; what the loss report is not told."""

from __future__ import annotations

from typing import Any

import pytest

from curate.checks.findings import Finding
from curate.connectors.base import Note
from curate.connectors.label_studio.config import new_config, parse_config
from curate.connectors.label_studio.notes import with_notes, with_saved, with_texts
from curate.connectors.label_studio.results import ResultWriter
from curate.formats.label_studio.images import TaskImage
from curate.formats.losses import LossReport
from curate.formats.shape_columns import Shape
from tests.connectors.label_studio.label_studio_samples import SIZE, every_kind, mask, row, spec

CONFIG = parse_config(new_config(spec("m")))


def note(text: str, annotation: str | None = None, remote: str | None = None) -> Note:
    found = Finding("mislabeled", 0.9, "0.png", f"{1:016x}", f"check {text}", annotation_id=annotation)
    return Note(found, text, remote)


def results(losses: LossReport | None = None, **changes: Any) -> list[dict[str, Any]]:
    writer = ResultWriter(CONFIG, {}, losses or LossReport())
    rows = [{**each, **changes} for each in every_kind(100)]
    return writer.results(rows, TaskImage("image", None, ""), SIZE, "x")


def test_the_region_in_question_has_the_text() -> None:
    before = results()
    own, other = (f"{number:016x}" for number in (100, 102))
    told = with_texts(before, [note("a dog", own), note("too small", "not here", f"3:{other}"), note("no region")])
    texts = {each["id"]: each["meta"]["text"] for each in told if "text" in each.get("meta", {})}
    assert texts == {own: ["a dog"], other: ["too small"]}
    # The same again changes nothing; another is one line more.
    assert with_texts(told, [note("a dog", own)]) == told
    more = with_texts(told, [note("a cat", own)])
    assert next(each for each in more if each["id"] == own)["meta"]["text"] == ["a dog\na cat"]
    assert "text" not in str(before)


def test_what_people_have_written_with_a_region_stays() -> None:
    theirs = [{**each, "meta": {**each["meta"], "text": ["mine"]}} for each in results()[:1]]
    assert with_texts(theirs, [note("a dog", theirs[0]["id"])]) == theirs
    mine = with_texts(results()[:1], [note("a dog", theirs[0]["id"])])
    changed = [{**each, "meta": {**each["meta"], "text": ["seen"]}} for each in mine]
    assert with_texts(changed, [note("a cat", theirs[0]["id"])]) == changed


def test_nothing_new_changes_nothing() -> None:
    task = {"data": {"image": "x", "theirs": 1}, "meta": {"theirs": 2}}
    assert with_notes(task, (), None) == (task["data"], task["meta"])
    data, meta = with_notes(task, [note("a dog")], 0.9)
    assert with_notes({"data": data, "meta": meta}, [note("a dog")], 0.9) == (data, meta)
    assert with_saved(meta, []) == meta
    assert with_saved(meta, [{"id": 3, "updated_at": "t"}])["curate"] == {**meta["curate"], "written": {"3": "t"}}


@pytest.mark.parametrize(
    ("shape", "area", "is_lost"),
    [
        (Shape(bbox=[1, 2, 10, 20]), 200.0, False),
        (Shape(bbox=[1, 2, 10, 20]), 201.9, False),
        (Shape(bbox=[1, 2, 10, 20]), 150.0, True),
        (Shape(polygons=[[0, 0, 10, 0, 10, 10], [20, 20, 30, 20, 30, 30]]), 100.0, False),
        (Shape(rotated_box=[30, 20, 10, 6, 33]), 60.0, False),
        (Shape(rle=mask()), 246.0, False),
        (Shape(rle=mask()), 250.0, True),
        (Shape(keypoints=[7, 8, 2]), 5.0, True),
        (Shape(bbox=[1, 2, 10, 20]), None, False),
    ],
)
def test_areas_that_follow_from_the_geometry_are_no_loss(shape: Shape, area: float | None, is_lost: bool) -> None:
    losses = LossReport()
    ResultWriter(CONFIG, {}, losses).results([row(0, shape, "car", area=area)], TaskImage("image", None, ""), SIZE, "x")
    assert [loss.what for loss in losses.losses] == ["areas"] * is_lost
