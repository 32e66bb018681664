"""What sync notes of a push that broke, step by step, against a server in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from curate.checks.store import stored_findings
from curate.connectors.base import Change, NewItem, Progress, Row
from curate.connectors.sync.content import rows_of, table_of
from curate.connectors.sync.plans import plan_push
from curate.connectors.sync.pull import PullResult, pull
from curate.connectors.sync.push import PushResult, push
from curate.dataset import begin, open_dataset
from curate.formats.losses import LossReport
from tests.connectors.faults.fault_rounds import dataset, suspect
from tests.connectors.memory_connector import Cut, Memory


class Killed(BaseException):
    """The process is gone: nothing is done any more."""


def send(name: str, server: Memory) -> PushResult:
    return push(name, server, plan_push(name, findings="kind = 'mislabeled'"), command="curate push")


def fetch(name: str, server: Memory) -> PullResult:
    return pull(name, server, command="curate pull")


def rows(name: str) -> list[Row]:
    return rows_of(open_dataset(name).table("annotations"))


def edit(name: str, **changes: Any) -> None:
    """Change every annotation here."""
    with begin(name, command="edit") as transaction:
        transaction.upsert("annotations", table_of([{**row, **changes} for row in rows(name)]), "annotation_id")


def test_findings_that_may_not_have_arrived_are_sent_again(tmp_path: Path) -> None:
    name, server = dataset(tmp_path / "set", 3), Memory()
    send(name, server)
    suspect(name, "second")

    def cut(step: str) -> None:
        if step == "before change 1":
            raise Cut("cut")

    server.fault = cut
    with pytest.raises(Cut):
        send(name, server)
    server.fault = lambda step: None
    send(name, server)
    assert [len(task.notes) for task in server.tasks.values()] == [2, 2, 2]
    assert {finding.status for finding in stored_findings(open_dataset(name))} == {"queued"}


@dataclass
class Losing(Memory):
    """A server that keeps boxes to a tenth of a pixel, and no attributes."""

    def create(self, items: Sequence[NewItem], *, losses: LossReport, progress: Progress | None = None) -> None:
        try:
            super().create(items, losses=losses, progress=progress)
        finally:
            self._lose()

    def change(
        self, changes: Sequence[Change], *, losses: LossReport, progress: Progress | None = None
    ) -> Collection[str]:
        try:
            return super().change(changes, losses=losses, progress=progress)
        finally:
            self._lose()

    def _lose(self) -> None:
        for task in self.tasks.values():
            for row in task.rows.values():
                row |= {"bbox": [round(side, 1) for side in row["bbox"]], "attributes": {}}


def test_what_a_killed_push_has_changed_is_no_conflict_for_the_next(tmp_path: Path) -> None:
    name, server = dataset(tmp_path / "set", 2), Losing()
    send(name, server)
    edit(name, bbox=[1.2345, 4.0, 10.5, 12.0], attributes={"worn": True})

    def kill(step: str) -> None:
        if step == "after change 0":
            raise Killed

    server.fault = kill
    with pytest.raises(Killed):
        send(name, server)
    server.fault = lambda step: None
    assert send(name, server).conflicts == []
    again = send(name, server)
    assert (again.changed, again.unchanged) == (0, 2)
    pulled = fetch(name, server)
    assert (pulled.moved, pulled.conflicts, pulled.to_push) == (0, [], 0)
    assert {row["attributes"]["worn"] for row in rows(name)} == {True}


def test_what_a_service_cannot_hold_is_not_sent_for_ever(tmp_path: Path) -> None:
    name, server = dataset(tmp_path / "set", 2), Losing()
    send(name, server)
    edit(name, attributes={"worn": True})
    assert send(name, server).changed == 2
    assert send(name, server).changed == 0
    assert fetch(name, server).to_push == 0


@pytest.mark.parametrize("more", [{"label": "washer"}, {"attributes": {"worn": True}}])
def test_a_change_that_both_have_made_does_not_hide_another(tmp_path: Path, more: Row) -> None:
    name, server = dataset(tmp_path / "set", 1), Memory()
    send(name, server)
    for task in server.tasks.values():
        for row in task.rows.values():
            row["bbox"] = [9.0, 4.0, 10.5, 12.0]
    edit(name, bbox=[9.0, 4.0, 10.5, 12.0], **more)
    send(name, server)
    ((key, value),) = more.items()
    assert [row[key] for task in server.tasks.values() for row in task.rows.values()] == [value, value]
    assert fetch(name, server).moved == 0
