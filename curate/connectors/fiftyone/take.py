"""Taking over what was done in the App: one commit with its labels, tags, and decisions on findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.findings import Finding, Status, from_table, to_table
from curate.connectors.base import Item, Row
from curate.connectors.fiftyone.edits import Decision, EditedRow, Edits
from curate.connectors.fiftyone.labels import SOURCE
from curate.connectors.sync.content import digest, rows_of, table_of
from curate.connectors.sync.links import FindingLink
from curate.connectors.sync.verdicts import about, verdict
from curate.dataset import Transaction, begin
from curate.dataset.query import quote
from curate.formats.base import ClassInfo
from curate.formats.importing import store_classes
from curate.formats.losses import LossReport
from curate.names import GROUND_TRUTH

RELABEL: Final = "relabel"
"""Tag of images with a label that somebody is to make anew: `curate push --where "array_has(tags, 'relabel')"`."""


@dataclass
class _Work:
    """What is read and written of the images that were edited.

    Attributes:
        transaction: The commit being made.
        losses: Gets what is not taken over.
        rows: Their annotations by id, as they will be.
        before: The same as they were.
        findings: Their findings by id, as they will be.
        relabelled: Images with a label that is to be made anew.
        written: Ids of the annotations that are new or changed.
        dropped: Ids of those that are gone.
    """

    transaction: Transaction
    losses: LossReport
    rows: dict[str, Row]
    before: dict[str, Row]
    findings: dict[str, Finding]
    relabelled: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)


def take_edits(name: str, edits: Edits, *, command: str, losses: LossReport) -> dict[str, int]:
    """Write what was done in the App to a dataset: one commit, or none if nothing changes.

    Args:
        name: The dataset.
        edits: What was done.
        command: The command line, for the history.
        losses: Gets what is not taken over: edits of what has changed here since it was shown.

    Returns:
        What the commit changed.
    """
    with begin(name, command=command) as transaction:
        work = _load(transaction, edits, losses)
        for edit in edits.rows:
            _take_row(work, edit)
        for decision in edits.decisions:
            _decide(work, decision)
        _close_findings(work)
        _write(work, edits)
    return transaction.counts


def _load(transaction: Transaction, edits: Edits, losses: LossReport) -> _Work:
    rows = [edit.after or edit.before for edit in edits.rows]
    images = {row["image_id"] for row in rows if row} | {decision.image_id for decision in edits.decisions}
    chosen = f"image_id IN ({', '.join(map(quote, sorted(images)))})" if images else "false"
    there = {row["annotation_id"]: row for row in rows_of(transaction.base.table("annotations", where=chosen))}
    findings = {each.id: each for each in from_table(transaction.base.table("findings", where=chosen))}
    return _Work(transaction, losses, dict(there), there, findings)


def _take_row(work: _Work, edit: EditedRow) -> None:
    before, after = edit.before, edit.after
    if before is not None:
        key = before["annotation_id"]
        if _is_same(work.before.get(key), after):
            return  # taken before, by a process that did not come to say so
        if not _is_same(work.before.get(key), before):
            reason = "of an annotation that has changed here since it was shown; the dataset's stays"
            work.losses.dropped("edits", reason, key)
            return
        if after is None:
            work.rows.pop(key, None)
            work.dropped.add(key)
            return
    if after is not None:
        work.rows[after["annotation_id"]] = after
        work.written.add(after["annotation_id"])


def _decide(work: _Work, decision: Decision) -> None:
    """Set the status of the findings that a tag is about."""
    chosen = [work.findings[each] for each in sorted(decision.finding_ids) if each in work.findings]
    if decision.verdict == RELABEL:
        _relabel(work, decision, chosen)
        return
    for finding in chosen:
        work.findings[finding.id] = replace(finding, status=cast(Status, decision.verdict))


def _relabel(work: _Work, decision: Decision, findings: Iterable[Finding]) -> None:
    """Take the class that a finding suggests; without one, the label is confirmed to be wrong and left to be made anew."""
    left = True
    for finding in findings:
        row = work.rows.get(finding.annotation_id or "")
        if finding.kind == "mislabeled" and finding.suggested is not None and row is not None:
            work.rows[row["annotation_id"]] = {**row, "label": finding.suggested}
            work.written.add(row["annotation_id"])
            left = False
        else:
            work.findings[finding.id] = replace(finding, status="confirmed")
    if left:
        work.relabelled.add(decision.image_id)


def _close_findings(work: _Work) -> None:
    """Findings whose annotation was changed are fixed, as after a round of the annotators."""
    touched = {
        row["image_id"] for key in work.written | work.dropped if (row := work.rows.get(key) or work.before.get(key))
    }
    before, after = _by_image(work.before.values(), touched), _by_image(work.rows.values(), touched)
    for finding in list(work.findings.values()):
        # One on the whole image (too dark, a copy) is not about its labels.
        has_place = finding.annotation_id is not None or finding.bbox is not None
        if has_place and finding.image_id in touched:
            image = finding.image_id
            link = FindingLink(finding.id, about(finding, before[image]), "")
            item = Item(image, finding.image, "")
            work.findings[finding.id] = verdict(finding, link, item, after[image], SOURCE)


def _by_image(rows: Iterable[Row], images: set[str]) -> dict[str, dict[str, Row]]:
    """The ground truth of some images, by id."""
    found: dict[str, dict[str, Row]] = {image: {} for image in images}
    for row in rows:
        if row["layer"] == GROUND_TRUTH and row["image_id"] in found:
            found[row["image_id"]][row["annotation_id"]] = row
    return found


def _write(work: _Work, edits: Edits) -> None:
    transaction = work.transaction
    changed = [work.rows[key] for key in sorted(work.written & work.rows.keys())]
    changed = [row for row in changed if not _is_same(work.before.get(row["annotation_id"]), row)]
    if changed:
        transaction.upsert("annotations", table_of(changed), "annotation_id")
        _store_new_classes(transaction, changed, work.losses)
    transaction.delete("annotations", "annotation_id", pa.array(sorted(work.dropped), pa.string()))
    known = sum(row["annotation_id"] in work.before for row in changed)
    transaction.count("annotations added", len(changed) - known)
    transaction.count("annotations changed", known)
    transaction.count("annotations removed", len(work.dropped))
    _write_findings(work)
    _write_tags(work, edits)


def _is_same(one: Row | None, other: Row | None) -> bool:
    return one is other if one is None or other is None else digest(one) == digest(other)


def _store_new_classes(transaction: Transaction, rows: Iterable[Row], losses: LossReport) -> None:
    known = {info["name"] for info in transaction.classes}
    new = sorted({row["label"] for row in rows if row["label"] is not None} - known)
    if new:
        store_classes(transaction, [ClassInfo(name) for name in new], losses)


def _write_findings(work: _Work) -> None:
    before = {
        each.id: each for each in from_table(work.transaction.base.table("findings", where=_among(work.findings)))
    }
    changed = [each for each in work.findings.values() if each != before[each.id]]
    if changed:
        work.transaction.upsert("findings", to_table(changed), "id")
    for finding in changed:
        work.transaction.count(f"findings {finding.status}", 1)


def _among(findings: Mapping[str, Any]) -> str:
    return f"id IN ({', '.join(map(quote, sorted(findings)))})" if findings else "false"


def _write_tags(work: _Work, edits: Edits) -> None:
    tagged = {image: list(tags) for image, tags in edits.tagged.items()}
    for image in work.relabelled:
        tagged.setdefault(image, []).append(RELABEL)
    images = sorted(tagged.keys() | edits.untagged.keys())
    if not images:
        return
    rows = work.transaction.base.table("images", where=f"image_id IN ({', '.join(map(quote, images))})")
    after = []
    for image, tags in zip(rows["image_id"].to_pylist(), rows["tags"].to_pylist(), strict=True):
        gone = set(edits.untagged.get(image, ()))
        kept = [tag for tag in tags or () if tag not in gone]
        new = [tag for tag in tagged.get(image, ()) if tag not in kept]
        work.transaction.count("tags added", len(new))
        work.transaction.count("tags removed", len(tags or ()) - len(kept))
        after.append([*kept, *dict.fromkeys(new)] or None)
    column = rows.schema.get_field_index("tags")
    changed = rows.set_column(column, rows.schema.field(column), pa.array(after, pa.list_(pa.string())))
    differs = pa.array([a != b for a, b in zip(after, rows["tags"].to_pylist(), strict=True)], pa.bool_())
    if pc.any(differs).as_py():
        work.transaction.upsert("images", changed.filter(differs), "image_id")
