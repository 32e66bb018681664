"""Findings: ids, JSON, tables, verdicts and gates."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pytest

from curate.checks.findings import Finding, Related, from_table, to_table
from curate.checks.gate import failures, parse_gates
from curate.checks.store import replace_findings, set_status, stored_findings
from curate.dataset import begin, open_dataset
from curate.dataset.ids import image_ids
from curate.dataset.schema import IMAGES
from curate.errors import UsageError

WRONG = Finding(
    kind="mislabeled",
    score=0.9,
    image="a.png",
    image_id="00000000000000aa",
    check="mistakes",
    annotation_id="00000000000000bb",
    source_annotation_id="7",
    bbox=(1.0, 2.0, 3.5, 4.0),
    given="bolt",
    suggested="nut",
    related=(Related("b.png", "00000000000000cc", None, 0.8),),
    evidence={"why": "its neighbours are nuts", "p_given": 0.02},
)
MISSING = replace(WRONG, kind="missing", score=0.4, annotation_id=None, source_annotation_id=None, given=None)


def test_a_finding_survives_the_table_and_json() -> None:
    back = from_table(to_table([MISSING, WRONG]))
    assert [finding.to_json() for finding in back] == [WRONG.to_json(), MISSING.to_json()]
    assert json.loads(json.dumps(WRONG.to_json()))["bbox"] == [1.0, 2.0, 3.5, 4.0]


def test_ids_tell_problems_apart_and_nothing_else() -> None:
    assert WRONG.id == replace(WRONG, score=0.1, suggested="gear", status="rejected", commit=9).id
    others = [
        replace(WRONG, kind="spurious"),
        replace(WRONG, annotation_id="00000000000000dd"),
        replace(WRONG, image_id="00000000000000dd"),
        MISSING,
        replace(MISSING, bbox=(9.0, 2.0, 3.5, 4.0)),
    ]
    assert len({WRONG.id, *(other.id for other in others)}) == 6


def run_check(*findings: Finding) -> list[Finding]:
    with begin("parts", command="curate mistakes", create=True) as transaction:
        if transaction.base.commit.number == 0:
            row = {"image_id": image_ids(["a.png"])[0].as_py(), "location": "a.png"}
            transaction.append("images", [pa.Table.from_pylist([row], schema=IMAGES)])
        return replace_findings(transaction, "mistakes", findings)


def test_a_verdict_lasts_when_the_check_runs_again() -> None:
    assert [finding.commit for finding in run_check(WRONG, MISSING)] == [1, 1]
    assert set_status("parts", "rejected", ids=[WRONG.id[:6]], command="curate reject") == (1, 2)
    again = run_check(replace(WRONG, score=0.95))
    assert [(finding.status, finding.score) for finding in again] == [("rejected", 0.95)]
    # The open one is gone, since it is not found any more; a decided one stays.
    assert [finding.kind for finding in stored_findings(open_dataset("parts"))] == ["mislabeled"]
    run_check(MISSING)
    assert [finding.kind for finding in stored_findings(open_dataset("parts"))] == ["mislabeled", "missing"]


def test_findings_of_other_checks_are_left_alone() -> None:
    run_check(WRONG)
    with begin("parts", command="curate quality") as transaction:
        replace_findings(transaction, "quality", [replace(WRONG, check="quality", kind="dark")])
    assert {finding.check for finding in stored_findings(open_dataset("parts"))} == {"mistakes", "quality"}


def test_findings_can_be_chosen() -> None:
    run_check(WRONG, MISSING)
    dataset = open_dataset("parts")
    assert [finding.kind for finding in stored_findings(dataset, kind="missing")] == ["missing"]
    assert [finding.kind for finding in stored_findings(dataset, min_score=0.5)] == ["mislabeled"]
    assert [finding.kind for finding in stored_findings(dataset, where="given = 'bolt'")] == ["mislabeled"]
    with pytest.raises(UsageError, match="no kind 'wrong'"):
        stored_findings(dataset, kind="wrong")
    with pytest.raises(UsageError, match="no finding has an id that begins with 'zz'"):
        set_status("parts", "rejected", ids=["zz"], command="x")
    with pytest.raises(UsageError, match="say which"):
        set_status("parts", "rejected", command="x")


def test_gates() -> None:
    gates = parse_gates(["mislabeled:0.8", "missing"])
    assert failures([WRONG, MISSING], gates) == ["failed: 1 mislabeled with a score of at least 0.8"]
    assert failures([replace(WRONG, status="rejected")], gates) == []
    for text, match in (("wrong", "no kind"), ("missing:x", "not a score"), ("missing:2", "not a score")):
        with pytest.raises(UsageError, match=match):
            parse_gates([text])
