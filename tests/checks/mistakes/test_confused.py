"""Which classes are confused is counted among findings of wrong labels that nobody has settled."""

from __future__ import annotations

from dataclasses import replace

from curate.checks.findings import Finding, to_table
from curate.checks.mistakes.confused import confused_classes


def test_pairs_are_counted_while_they_are_to_be_decided() -> None:
    swapped = Finding("mislabeled", 0.9, "a", "0" * 16, "mistakes", annotation_id="1", given="nut", suggested="bolt")
    findings = [
        swapped,
        replace(swapped, annotation_id="2", score=0.3),
        replace(swapped, annotation_id="3", score=0.8, given="bolt", suggested="nut", status="confirmed"),
        # Rejected, the label is right; fixed, it is no more what was given.
        replace(swapped, annotation_id="4", status="rejected"),
        replace(swapped, annotation_id="5", status="fixed"),
        replace(swapped, annotation_id="6", suggested=None),
        replace(swapped, annotation_id="7", kind="spurious"),
    ]
    assert confused_classes(to_table(findings)) == [
        {"given": "nut", "probably": "bolt", "flagged": 1, "expected_wrong": 1.2},
        {"given": "bolt", "probably": "nut", "flagged": 1, "expected_wrong": 0.8},
    ]
    assert confused_classes(to_table([])) == []
