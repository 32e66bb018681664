"""What a check is: a function that judges a dataset within a transaction, and a name.

`run_checks` runs some of them: one transaction, one commit, whatever they find.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from curate.checks.findings import KINDS, Finding, require_probability
from curate.checks.labels import require_layer
from curate.checks.store import replace_findings
from curate.dataset import Transaction, begin
from curate.dataset.synthetic import real_only
from curate.models.passes import LeftOut, Progress
from curate.names import GROUND_TRUTH

Tables = Mapping[str, Sequence[Mapping[str, Any]]]
"""Rows by title."""


@dataclass(frozen=True)
class Settings:
    """What the user asked of a check.

    Attributes:
        where: SQL condition on the images; None for all. Synthetic ones are looked at only where it speaks of them.
        layer: Whose annotations are looked at, where a check looks at any.
        encoder: Spec of the encoder; None for the one the dataset remembers.
        min_score: Findings with a lower probability are left out.
        seed: Of everything random.
        progress: Told (done, total) while images are decoded.
        options: What one check alone understands, by name.
    """

    where: str | None = None
    layer: str = GROUND_TRUTH
    encoder: str | None = None
    min_score: float = 0.1
    seed: int = 0
    progress: Progress | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """What a check says of a dataset.

    Attributes:
        findings: In any order, each problem once.
        summary: What was looked at and what came of it, in one line.
        notes: What could not be judged, and why; one sentence each.
        judged: Whether this run looked at what an earlier finding of the check is about; what it looked at and did not
            find again goes, unless somebody has decided on it.
        tables: What was found beside findings, as rows by title: groups of copies, clusters, tests. JSON-ready.
        digest: More tables for a person, made from the findings as stored; they say nothing that the findings do not.
    """

    findings: Sequence[Finding]
    summary: str
    notes: Sequence[str] = ()
    judged: Callable[[Finding], bool] = lambda finding: True
    tables: Tables = field(default_factory=dict)
    digest: Callable[[Sequence[Finding]], Tables] = lambda findings: {}


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: As the command is called.
        judge: Looks at the dataset as the transaction has it and brings tables of computed columns up to date in it.
        kinds: Of the findings that it can make: a gate on another kind would pass whatever is wrong.
    """

    name: str
    judge: Callable[[Transaction, Settings], Judgement]
    kinds: Sequence[str] = KINDS


@dataclass(frozen=True)
class Result:
    """What one check found, as stored.

    Attributes:
        check: Its name.
        findings: Highest score first, with their statuses.
        summary: As in `Judgement`.
        notes: The same.
        tables: The same.
        digest: The same, made.
    """

    check: str
    findings: list[Finding]
    summary: str
    notes: list[str]
    tables: Tables
    digest: Tables


def left_out_note(left_out: Sequence[LeftOut], total: int, what: str) -> list[str]:
    """A note on images or crops that could not be read, with the first of them; none where there are none.

    Args:
        left_out: Those.
        total: Out of how many.
        what: What they are, and what follows: 'images cannot be read, and only their bytes were compared'.
    """
    if not left_out:
        return []
    return [f"{len(left_out):,} of {total:,} {what}; the first: {left_out[0]}"]


def judged_again(transaction: Transaction, images: Collection[str], where: str | None) -> Callable[[Finding], bool]:
    """Whether a run on some images has looked at all that a finding compares: its image, and those related to it.

    Args:
        transaction: The dataset.
        images: Ids of the images looked at.
        where: The condition that chose them; None if all of the dataset were.
    """
    seen = frozenset(images)
    everything = () if where is None else transaction.read("images", columns=["image_id"])["image_id"].to_pylist()
    unseen = frozenset(everything) - seen
    return lambda finding: finding.image_id in seen and not any(other.image_id in unseen for other in finding.related)


def run_check(check: Check, dataset: str, settings: Settings, *, command: str) -> Result:
    """Run one check; arguments and errors as for `run_checks`."""
    return run_checks([check], dataset, settings, command=command)[0]


def run_checks(
    checks: Sequence[Check],
    dataset: str,
    settings: Settings,
    *,
    command: str,
    prepare: Callable[[Transaction, Settings], None] | None = None,
) -> list[Result]:
    """Run checks on a dataset and store what they find; one commit, or none if nothing is new.

    Args:
        checks: In this order.
        dataset: The dataset's name.
        settings: For all of them.
        command: The command line, for the history.
        prepare: Called first, within the transaction: computes what all of them need in one pass.

    Raises:
        DatasetNotFound: There is no such dataset.
        UsageError: No image is chosen, there is no such layer, or `min_score` is not in [0, 1].
        UnavailableError: The encoder's weights cannot be had.
    """
    require_probability(settings.min_score, "--min-score")
    with begin(dataset, command=command) as transaction:
        require_layer(transaction.base, settings.layer)
        settings = replace(settings, where=real_only(transaction.base, settings.where))
        if prepare is not None:
            prepare(transaction, settings)
        return [_run(check, transaction, settings) for check in checks]


def _run(check: Check, transaction: Transaction, settings: Settings) -> Result:
    judgement = check.judge(transaction, settings)
    stored = replace_findings(
        transaction,
        check.name,
        judgement.findings,
        judged=lambda finding: finding.score >= settings.min_score and judgement.judged(finding),
    )
    notes, digest = list(judgement.notes), judgement.digest(stored)
    return Result(check.name, stored, judgement.summary, notes, judgement.tables, digest)
