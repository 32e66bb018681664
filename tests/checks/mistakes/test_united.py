"""What the parts of the check say of one annotation becomes one finding."""

from __future__ import annotations

from typing import Any

from curate.checks.findings import Finding
from curate.checks.mistakes.run import _united


def finding(kind: Any, score: float, annotation: str, suggested: str | None = None, **evidence: Any) -> Finding:
    return Finding(
        kind=kind, score=score, image="a.jpg", image_id="1", check="mistakes", annotation_id=annotation,
        suggested=suggested, evidence=evidence,
    )  # fmt: skip


def test_nothing_there_and_another_class_exclude_each_other() -> None:
    looks = finding("mislabeled", 0.79, "a", "nut", p_wrong=0.79)
    detector = finding("spurious", 0.98, "a", p_spurious=0.98)
    elsewhere = finding("mislabeled", 0.6, "b", "nut", p_wrong=0.6)
    assert _united([looks, detector, elsewhere]) == [detector, elsewhere]


def test_what_is_certain_without_a_model_stays_beside_another_class() -> None:
    outside, looks = finding("mislocated", 1.0, "a"), finding("mislabeled", 0.9, "a", "nut", p_wrong=0.9)
    assert _united([looks, outside]) == [outside, looks]


def test_evidence_is_shared_by_those_that_suggest_the_same() -> None:
    looks = finding("mislabeled", 0.9, "a", "nut", p_wrong=0.9)
    same = finding("mislabeled", 0.5, "a", "nut", p_mislabeled=0.5, p_spurious=0.1)
    (one,) = _united([same, looks])
    assert (one.score, one.evidence) == (0.9, {"p_wrong": 0.9, "p_mislabeled": 0.5, "p_spurious": 0.1})
    other = finding("mislabeled", 0.5, "a", "gear", p_mislabeled=0.5, p_spurious=0.1)
    (one,) = _united([other, looks])
    assert (one.suggested, one.evidence) == ("nut", {"p_wrong": 0.9, "also_suggested": "gear"})
