"""The demo's main job, and how it is scored."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.checks.findings import Finding
from curate.dataset import begin, open_dataset
from curate.demo.faults import Fault, Truth
from curate.demo.job import run_demo
from curate.demo.score import average_precision, score_kind
from curate.errors import DatasetExists


def finding(kind: str, score: float, number: int | None, bbox: tuple[float, ...] = (0, 0, 10, 10)) -> Finding:
    return Finding(
        kind=kind,  # type: ignore[arg-type]
        score=score,
        image="train/a.jpg",
        image_id="0" * 16,
        check="mistakes",
        source_annotation_id=None if number is None else str(number),
        bbox=bbox,
    )


def test_average_precision_by_hand() -> None:
    assert average_precision([True, False, True], 2) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision([True], 4) == 0.25
    assert average_precision([], 3) == 0


def test_a_kind_is_scored_by_annotation() -> None:
    faults = tuple(Fault("mislabeled", "images/train/a.jpg", number) for number in (1, 2, 3))
    truth = Truth(0, faults, ())
    found = [finding("mislabeled", 0.9, 1), finding("mislabeled", 0.8, 7), finding("mislabeled", 0.3, 2)]
    score = score_kind([*found, finding("spurious", 1.0, 3)], truth, "mislabeled")
    assert (score.planted, score.flagged, score.right, score.first) == (3, 2, 1, 2)
    assert score.average_precision == pytest.approx((1 + 2 / 3) / 3)
    assert score.f1 == pytest.approx(2 / 5)


def test_a_thing_boxed_twice_is_found_once() -> None:
    truth = Truth(0, (Fault("spurious", "images/train/a.jpg", 1, related_annotation_id=2),), ())
    score = score_kind([finding("spurious", 0.9, 1), finding("spurious", 0.8, 2)], truth, "spurious")
    assert (score.flagged, score.right, score.average_precision) == (1, 1, 1.0)


def test_missing_boxes_are_matched_by_overlap() -> None:
    truth = Truth(0, (Fault("missing", "images/train/a.jpg", bbox=(0, 0, 10, 10)),), ())
    assert score_kind([finding("missing", 0.9, None, (1, 0, 10, 10))], truth, "missing").right == 1
    assert score_kind([finding("missing", 0.9, None, (8, 0, 10, 10))], truth, "missing").right == 0


@pytest.mark.slow
def test_the_demo_finds_what_it_planted() -> None:
    demo = run_demo("parts_v3", images=120, seed=3, command="curate demo")
    scores = {score.kind: score for score in demo.scores}
    assert scores["mislabeled"].average_precision > 0.8
    assert scores["missing"].average_precision > 0.8
    assert scores["mislocated"].average_precision > 0.8
    assert scores["spurious"].right >= 1
    assert open_dataset("parts_v3").count("images") == 120
    # Again under the same name: made anew, and the same.
    again = run_demo("parts_v3", images=120, seed=3, command="curate demo")
    assert [f.to_json() for f in again.mistakes.findings] == [f.to_json() for f in demo.mistakes.findings]


def test_the_demo_does_not_touch_a_dataset_of_the_user(tmp_path: Path) -> None:
    with begin("mine", command="curate import photos", create=True) as transaction:
        transaction.info = {"important": True}
    with pytest.raises(DatasetExists, match="did not make it"):
        run_demo("mine", images=20, target=tmp_path / "pictures", command="curate demo -d mine")
    assert open_dataset("mine").commit.number == 1
