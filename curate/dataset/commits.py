"""Commits: small JSON files, each naming one version of every table, and HEAD, which names the newest.

A commit file is written and flushed before HEAD is replaced, so a crash at any point leaves HEAD at a complete commit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from curate.dataset.home import HEAD
from curate.errors import DatasetCorrupt, DatasetNotFound
from curate.files import write_atomic

FORMAT: Final = 1
"""Version of the commit file; a newer one is refused with a clear error."""


@dataclass(frozen=True)
class Commit:
    """One state of a dataset.

    Attributes:
        number: 1, 2, 3 ... ; 0 is the empty dataset before its first commit.
        parent: Number of the commit it was made from.
        time: When, ISO 8601 in UTC.
        command: The command line or call that made it.
        counts: What it changed: {'images added': 120, ...}.
        tables: Version of each table, by the table's name ('images', 'embeddings/builtin-v0-images' ...).
        classes: The dataset's classes in order, JSON-ready.
        info: What the sources say of themselves, and the dataset's own settings (its encoder), JSON-ready.
        restores: For an undo, the number of the commit whose state this is; else None.
    """

    number: int = 0
    parent: int = 0
    time: str = ""
    command: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    tables: Mapping[str, int] = field(default_factory=dict)
    classes: list[dict[str, Any]] = field(default_factory=list)
    info: Mapping[str, Any] = field(default_factory=dict)
    restores: int | None = None


def read_commit(folder: Path, number: int) -> Commit:
    """Read commit `number` of the dataset in `folder`.

    Raises:
        DatasetNotFound: There is no such commit.
        DatasetCorrupt: The file cannot be read, or was written by a newer curate.
    """
    if number == 0:
        return Commit()
    path = _commit_path(folder, number)
    try:
        content = json.loads(path.read_bytes())
        version = content.pop("format")
        if version == FORMAT:
            return Commit(**content)
    except FileNotFoundError:
        raise DatasetNotFound(
            f"there is no commit {number}", where=folder.name, remedy="'curate history' lists the commits"
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise DatasetCorrupt(
            "the commit cannot be read", where=path, remedy="'curate undo --to N' goes back to another commit"
        ) from error
    raise DatasetCorrupt(f"the commit has format {version}, newer than this curate reads", where=path, remedy="upgrade")


def write_commit(folder: Path, commit: Commit) -> None:
    """Write a commit and make it HEAD."""
    path = _commit_path(folder, commit.number)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"format": FORMAT, **asdict(commit)}, indent=1, ensure_ascii=False)
    write_atomic(path, content.encode("utf-8", "surrogatepass"))
    write_atomic(folder / HEAD, f"{commit.number}\n".encode())


def read_head(folder: Path) -> int:
    """Number of the newest commit; 0 if there is none yet.

    Raises:
        DatasetCorrupt: HEAD holds something else.
    """
    try:
        return int((folder / HEAD).read_text())
    except FileNotFoundError:
        return 0
    except ValueError as error:
        raise DatasetCorrupt(
            "HEAD does not hold a commit's number",
            where=folder / HEAD,
            remedy=f"write the number of the newest file in {folder / 'commits'} into it",
        ) from error


def read_history(folder: Path) -> list[Commit]:
    """Every commit up to HEAD, newest first."""
    return [read_commit(folder, number) for number in range(read_head(folder), 0, -1)]


def undo_target(folder: Path, head: Commit) -> int:
    """Number of the commit whose state an undo of `head` brings back; 0 is the empty dataset.

    Undoing again goes one further back, as in an editor.
    """
    undone = head if head.restores is None else read_commit(folder, head.restores)
    before = read_commit(folder, undone.parent)
    return before.number if before.restores is None else before.restores


def _commit_path(folder: Path, number: int) -> Path:
    return folder / "commits" / f"{number:08d}.json"
