"""Findings in a dataset: written by checks, read by everything else, decided by people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.findings import (
    KINDS,
    STATUSES,
    VERDICT,
    Finding,
    Status,
    from_table,
    ranked,
    require_probability,
    to_table,
)
from curate.dataset import Dataset, Transaction, begin, open_dataset
from curate.dataset.query import quote
from curate.errors import UsageError


def stored_findings(
    dataset: Dataset,
    *,
    kind: str | None = None,
    status: str | None = None,
    where: str | None = None,
    min_score: float = 0.0,
) -> list[Finding]:
    """A dataset's findings, highest score first; arguments and errors as for `stored_table`."""
    return from_table(ranked(stored_table(dataset, kind=kind, status=status, where=where, min_score=min_score)))


def stored_table(
    dataset: Dataset,
    *,
    kind: str | None = None,
    status: str | None = None,
    where: str | None = None,
    min_score: float = 0.0,
) -> pa.Table:
    """A dataset's findings as they are stored, in no order.

    Args:
        dataset: The snapshot to read.
        kind: Only this kind.
        status: Only this status.
        where: SQL condition on the columns of the findings table.
        min_score: Leave out lower scores.

    Raises:
        UsageError: There is no such kind or status, `min_score` is not in [0, 1], or the condition cannot be understood.
    """
    require_probability(min_score, "--min-score")
    conditions = [f"({where})"] if where else []
    for column, value, known in (("kind", kind, KINDS), ("status", status, STATUSES)):
        if value is not None:
            if value not in known:
                raise UsageError(f"there is no {column} '{value}'", remedy=f"one of: {', '.join(known)}")
            conditions.append(f"{column} = {quote(value)}")
    if min_score > 0:
        conditions.append(f"score >= {min_score}")
    return dataset.table("findings", where=" AND ".join(conditions) or None)


def findings_of_ids(dataset: Dataset, ids: Sequence[str]) -> list[Finding]:
    """Findings in the order in which they are named.

    Args:
        dataset: The snapshot to read.
        ids: Ids, or beginnings of ids that fit one finding only.

    Raises:
        UsageError: An id fits no finding, or several.
    """
    table = dataset.table("findings")
    wanted = _resolve(ids, table["id"].to_pylist())
    found = {each.id: each for each in from_table(table.filter(pc.is_in(table["id"], pa.array(wanted, pa.string()))))}
    return [found[each] for each in wanted]


def replace_findings(
    transaction: Transaction,
    check: str,
    findings: Sequence[Finding],
    *,
    judged: Callable[[Finding], bool] = lambda finding: True,
) -> list[Finding]:
    """Write what a check found now in place of what it found before.

    A person's verdict lasts: a finding that is found again keeps its status and the commit in which it first appeared. One
    that is not found any more goes if it was judged again, unless somebody has decided on it or it is with the annotators.

    Args:
        transaction: The commit being made; nothing is written if nothing is new.
        check: The check's name.
        findings: What it found now.
        judged: Whether this run looked at what an earlier finding is about; the others stay as they are.

    Returns:
        The findings of this run as stored, highest score first.
    """
    condition = f"check = {quote(check)}"
    before = {finding.id: finding for finding in stored_findings(transaction.base, where=condition)}
    now: dict[str, Finding] = {}
    for finding in sorted(findings, key=lambda finding: finding.score):
        known = before.get(finding.id)
        if known is None:
            now[finding.id] = replace(finding, status="open", commit=transaction.number)
            continue
        said = {VERDICT: known.evidence[VERDICT]} if VERDICT in known.evidence else {}
        evidence = {**finding.evidence, **said}
        now[finding.id] = replace(finding, status=known.status, commit=known.commit, evidence=evidence)
    kept = [f for key, f in before.items() if key not in now and (f.status != "open" or not judged(f))]
    rows = {finding.id: finding.to_json() for finding in [*now.values(), *kept]}
    changed = [key for key in now if key in before and rows[key] != before[key].to_json()]
    if changed or rows.keys() != before.keys():
        others = transaction.read("findings", where=f"NOT ({condition})")
        transaction.overwrite("findings", [others, to_table([*now.values(), *kept])])
        transaction.count("findings new", len(now.keys() - before.keys()))
        transaction.count("findings changed", len(changed))
        transaction.count("findings gone", len(before.keys() - rows.keys()))
    return [each for _, each in sorted(now.items(), key=lambda item: (-item[1].score, item[1].image, item[0]))]


def set_status(
    name: str, status: str, *, ids: Sequence[str] = (), where: str | None = None, command: str
) -> tuple[int, int]:
    """Decide on findings.

    Args:
        name: The dataset.
        status: Their new status.
        ids: Ids, or beginnings of ids that fit one finding only.
        where: SQL condition on the findings table, instead of ids.
        command: The command line, for the history.

    Returns:
        How many findings have changed, and the number of the newest commit.

    Raises:
        UsageError: Neither ids nor a condition; or an id that fits no finding, or several.
    """
    if bool(ids) == bool(where):
        raise UsageError("say which findings: ids, or --where", remedy="'curate findings' lists them")
    with begin(name, command=command) as transaction:
        table = transaction.base.table("findings", where=where)
        if ids:
            table = table.filter(pc.is_in(table["id"], pa.array(_resolve(ids, table["id"].to_pylist()))))
        table = table.filter(pc.not_equal(table["status"], status))
        changed = [replace(finding, status=cast(Status, status)) for finding in from_table(table)]
        transaction.upsert("findings", to_table(changed), "id")
        transaction.count(f"findings {status}", len(changed))
    return len(changed), open_dataset(name).commit.number


def _resolve(prefixes: Sequence[str], ids: Sequence[str]) -> list[str]:
    resolved = []
    for prefix in prefixes:
        fitting = [known for known in ids if known.startswith(prefix)]
        if len(fitting) != 1:
            raise UsageError(
                f"{'no finding' if not fitting else f'{len(fitting)} findings'} has an id that begins with '{prefix}'",
                remedy="'curate findings --json' prints ids whole",
            )
        resolved += fitting
    return resolved
