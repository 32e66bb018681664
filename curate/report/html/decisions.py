"""What a reader of a report has decided, as the file that the report saves, and as statuses of findings.

{"format": "curate decisions 1", "dataset": "parts_v3", "commit": 5, "commit_time": "2026-05-04T10:00:00+00:00",
 "decisions": [{"id": "af4cf6bbde223861", "decision": "accept"}, {"id": "e8100c9a56e0c1d2", "decision": "reject"}]}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, cast

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.findings import Status, from_table, to_table
from curate.dataset import Dataset, Transaction, begin, open_dataset
from curate.errors import DatasetNotFound, InputError, UsageError
from curate.wording import counted

FORMAT: Final = "curate decisions 1"

_STATUS: Final[Mapping[str, Status]] = {"accept": "confirmed", "reject": "rejected"}
_DECIDED: Final = frozenset({"confirmed", "rejected", "fixed"})
_ANOTHER_REPORT: Final = "make a new report of the dataset ('curate report') and decide there"


class Decision(msgspec.Struct, frozen=True):
    """What somebody says of one finding."""

    id: str
    decision: Literal["accept", "reject"]


class Decisions(msgspec.Struct, frozen=True):
    """A file of decisions.

    Attributes:
        format: `FORMAT`.
        dataset: Name of the dataset that the report was of.
        commit: Its commit.
        commit_time: When that was made: numbers are the same in datasets that are not.
        decisions: One for each finding that was decided on.
    """

    format: str
    dataset: str
    commit: int
    commit_time: str
    decisions: list[Decision]


@dataclass(frozen=True)
class Applied:
    """What decisions did.

    Attributes:
        confirmed: Findings that are newly confirmed.
        rejected: Findings that are newly rejected.
        unchanged: Findings that were as decided already.
        stale: Decisions that were left out, for the finding has gone or somebody else has decided on it since.
        commit: Number of the newest commit.
    """

    confirmed: int
    rejected: int
    unchanged: int
    stale: int
    commit: int


def read_decisions(path: Path) -> Decisions:
    """Read a file of decisions.

    Raises:
        InputError: It is not there, cannot be read, or is no such file, or says two things of one finding.
    """
    try:
        found = msgspec.json.decode(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), type=Decisions)
    except FileNotFoundError:
        raise InputError("the file is not there", where=path, remedy="save the decisions from the report") from None
    except IsADirectoryError:
        raise InputError(
            "this is a folder", where=path, remedy="name the file that was saved from the report: NAME-decisions.json"
        ) from None
    except OSError as error:
        raise InputError(
            f"the file cannot be read: {error.strerror}", where=path, remedy="give a file that you may read"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"this is not a file of decisions: {error}", where=path, remedy="save them from the report again"
        ) from None
    if found.format != FORMAT:
        raise InputError(f"the file's format is '{found.format}', not '{FORMAT}'", where=path, remedy="upgrade curate")
    said: dict[str, str] = {}
    for each in found.decisions:
        if said.setdefault(each.id, each.decision) != each.decision:
            raise InputError(
                f"the file both accepts and rejects finding {each.id}", where=path, remedy="take one of the two out"
            )
    return found


def apply_decisions(name: str, path: Path, *, skip_stale: bool = False, command: str) -> Applied:
    """Give findings the statuses that a file of decisions says; one commit, or none if nothing changes.

    A decision is stale where the finding has gone since the report was made, or where somebody else has decided otherwise.

    Args:
        name: The dataset.
        path: The file.
        skip_stale: Leave stale decisions out; else they are an error.
        command: The command line, for the history.

    Raises:
        InputError: The file is no file of decisions.
        UsageError: It is on another dataset, on findings that the report's commit did not have, or a decision is stale.
    """
    found = read_decisions(path)
    wanted = {each.id: _STATUS[each.decision] for each in found.decisions}
    with begin(name, command=command) as transaction:
        then = _statuses(_reported(transaction.base, found, path), wanted)
        unknown = sorted(wanted.keys() - then.keys())
        if unknown:
            raise UsageError(
                f"commit {found.commit} never had {counted(len(unknown), 'findings')} of the file, the first: {unknown[0]}",
                where=path,
                remedy=_ANOTHER_REPORT,
            )
        now = _statuses(transaction.base, wanted)
        stale = sorted(key for key, status in wanted.items() if _is_stale(now.get(key), then[key], status))
        if stale and not skip_stale:
            raise _stale_error(stale, now, len(wanted), found.commit, path)
        fresh = {key: status for key, status in wanted.items() if key not in set(stale) and now[key] != status}
        _write(transaction, fresh)
    counts = {status: sum(value == status for value in fresh.values()) for status in _STATUS.values()}
    return Applied(
        counts["confirmed"],
        counts["rejected"],
        len(wanted) - len(stale) - len(fresh),
        len(stale),
        open_dataset(name).commit.number,
    )


def _reported(dataset: Dataset, found: Decisions, path: Path) -> Dataset:
    """The commit that the report was of."""
    if found.dataset != dataset.name:
        raise UsageError(
            f"these decisions are on the dataset '{found.dataset}', not on '{dataset.name}'",
            where=path,
            remedy=f"--dataset {found.dataset}",
        )
    try:
        reported = open_dataset(dataset.name, commit=found.commit)
    except DatasetNotFound:
        reported = None
    if reported is None or reported.commit.time != found.commit_time:
        raise UsageError(
            f"these decisions are on commit {found.commit} of {found.commit_time}, which is not in this dataset's history: "
            "it was made anew, or the report is of another with the same name",
            where=path,
            remedy=_ANOTHER_REPORT,
        )
    return reported


def _statuses(dataset: Dataset, wanted: Mapping[str, Any]) -> dict[str, str]:
    table = dataset.table("findings", columns=["id", "status"])
    table = table.filter(pc.is_in(table["id"], value_set=pa.array(list(wanted), pa.string())))
    return dict(zip(table["id"].to_pylist(), table["status"].to_pylist(), strict=True))


def _is_stale(now: str | None, then: str, wanted: str) -> bool:
    return now is None or (now in _DECIDED and now not in (then, wanted))


def _stale_error(stale: list[str], now: Mapping[str, str], total: int, commit: int, path: Path) -> UsageError:
    first = stale[0]
    became = f"is {now[first]} by now" if first in now else "is not found any more"
    return UsageError(
        f"out of date, for the dataset has changed since commit {commit}: {len(stale):,} of "
        f"{counted(total, 'decisions')}; finding {first[:8]} {became}",
        where=path,
        remedy=f"--skip-stale carries out the others; or {_ANOTHER_REPORT}",
    )


def _write(transaction: Transaction, statuses: Mapping[str, Status]) -> None:
    if not statuses:
        return
    table = transaction.base.table("findings")
    table = table.filter(pc.is_in(table["id"], value_set=pa.array(list(statuses), pa.string())))
    changed = [replace(finding, status=statuses[finding.id]) for finding in from_table(table)]
    transaction.upsert("findings", to_table(changed), "id")
    for status in _STATUS.values():
        transaction.count(f"findings {status}", sum(each.status == cast(str, status) for each in changed))
