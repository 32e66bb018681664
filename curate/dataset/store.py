"""Datasets: open one to read a commit, or begin a transaction to write the next.

    with open_dataset("parts_v3") as of now, or at a commit, is a snapshot: it never changes under its reader.

    with begin("parts_v3", command="curate import parts/", create=True) as transaction:
        transaction.append("images", [table])
        ...

The block's end makes one commit, or none if nothing was written; an exception makes none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from curate.dataset import tables
from curate.dataset.commits import Commit, read_commit, read_head, undo_target, write_commit
from curate.dataset.folders import delete_removed, new_place, now, writer_lock
from curate.dataset.fragments import FragmentTarget, Outstanding, append_written
from curate.dataset.home import dataset_path, exists, move_to_trash, not_found
from curate.dataset.places import is_local, read_place, table_address
from curate.dataset.schema import ANNOTATIONS, FINDINGS, IMAGES, LINKS
from curate.errors import CurateError, UsageError
from curate.files import sync_tree

SCHEMAS: Final[Mapping[str, pa.Schema]] = {
    "images": IMAGES,
    "annotations": ANNOTATIONS,
    "findings": FINDINGS,
    "links": LINKS,
}

EMBEDDINGS: Final = "embeddings/"
"""Prefix of the tables that hold one embedding space each."""


@dataclass(frozen=True)
class Dataset:
    """One commit of a dataset, to read.

    Attributes:
        name: As in ``--dataset``.
        path: Its folder.
        place: Where its tables are: a path or a URI (`curate.dataset.places`).
        commit: The state that is read, whatever is written meanwhile.
    """

    name: str
    path: Path
    place: str
    commit: Commit

    def scan(
        self, table: str, *, columns: Sequence[str] | None = None, where: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """A table's rows in batches.

        Args:
            table: 'images', 'annotations', 'findings', 'links' or 'embeddings/<space>'.
            columns: Which columns; all if None.
            where: SQL condition on the table's columns: "split = 'train' AND array_has(tags, 'night')".

        Raises:
            UsageError: The condition cannot be understood.
        """
        version = self.commit.tables.get(table)
        if version is None:
            return iter(())
        return tables.scan(table_address(self.place, table), version, columns=columns, where=where)

    def table(self, table: str, *, columns: Sequence[str] | None = None, where: str | None = None) -> pa.Table:
        """A table's rows, all at once; arguments as for `scan`. A table not yet written is empty."""
        schema = self.schema(table)
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in columns])
        return pa.Table.from_batches(self.scan(table, columns=columns, where=where), schema=schema)

    def count(self, table: str, *, where: str | None = None) -> int:
        """Number of a table's rows that satisfy the condition."""
        version = self.commit.tables.get(table)
        return 0 if version is None else tables.count(table_address(self.place, table), version, where=where)

    def schema(self, table: str) -> pa.Schema:
        """A table's columns.

        Raises:
            UsageError: There is no such table.
        """
        if table in SCHEMAS:
            return SCHEMAS[table]
        version = self.commit.tables.get(table)
        if version is None:
            known = ", ".join([*SCHEMAS, *(name for name in self.commit.tables if name not in SCHEMAS)])
            raise UsageError(f"the dataset has no table '{table}'", where=self.name, remedy=f"tables: {known}")
        return tables.schema_of(table_address(self.place, table), version)

    def spaces(self) -> list[str]:
        """Names of the embedding spaces."""
        return sorted(name.removeprefix(EMBEDDINGS) for name in self.commit.tables if name.startswith(EMBEDDINGS))


@dataclass
class Transaction:
    """The next commit, being written. Made by `begin`.

    Attributes:
        base: The commit it starts from; reads of `base` do not see what is written here.
        command: The command line that is writing.
        counts: What is changed, for the history: `count` adds to it.
        classes: The dataset's classes, JSON-ready; assign to change them.
        info: The dataset's info, JSON-ready; assign to change it.
        shared: What was computed for this commit and is asked for again, by what it depends on; gone with the commit.
    """

    base: Dataset
    command: str
    classes: list[dict[str, Any]]
    info: dict[str, Any]
    counts: dict[str, int] = field(default_factory=dict)
    shared: dict[Hashable, Any] = field(default_factory=dict)
    _versions: dict[str, int] = field(default_factory=dict)
    _started: float = field(default_factory=time.time)
    _afterwards: list[Callable[[], None]] = field(default_factory=list)
    _outstanding: Outstanding = field(kw_only=True)

    @property
    def number(self) -> int:
        """The number that the commit will have."""
        return self.base.commit.number + 1

    def append(self, table: str, pieces: Iterable[pa.Table], schema: pa.Schema | None = None) -> None:
        """Add rows. `schema` is needed for a new embedding space only."""
        self._set(
            table, tables.append(self._address(table), self._versions.get(table), pieces, self._schema(table, schema))
        )

    def overwrite(self, table: str, pieces: Iterable[pa.Table], schema: pa.Schema | None = None) -> None:
        """Replace all rows of a table."""
        self._set(table, tables.overwrite(self._address(table), pieces, self._schema(table, schema)))

    def upsert(self, table: str, rows: pa.Table, key: str) -> None:
        """Replace the rows with the same key, add the others."""
        version = self._versions.get(table)
        if version is None:
            self.append(table, [rows], rows.schema)
        elif rows.num_rows:
            self._set(
                table, tables.upsert(self._address(table), version, rows.cast(self._schema(table, rows.schema)), key)
            )

    def delete(self, table: str, key: str, values: pa.Array) -> None:
        """Remove the rows whose key is among `values`."""
        version = self._versions.get(table)
        if version is not None and len(values):
            self._set(table, tables.delete(self._address(table), version, key, values))

    def fragment_target(self, table: str, schema: pa.Schema | None = None) -> FragmentTarget:
        """Where other processes may write rows of a table (`curate.dataset.fragments`); a table that is new is made, empty.

        `schema` is needed for a new embedding space only.
        """
        if table not in self._versions:
            self.append(table, [], schema)
        self._outstanding.add(self._address(table))
        return FragmentTarget(self._address(table), self._versions[table], self._schema(table, schema))

    def append_fragments(self, table: str, fragments: Sequence[str]) -> None:
        """Add rows that other processes have written, in the order given.

        Args:
            table: As given to `fragment_target`.
            fragments: What `write_fragment` returned to those processes, each once.
        """
        self._set(table, append_written(self._address(table), self._versions[table], fragments))

    def read(self, table: str, *, columns: Sequence[str] | None = None, where: str | None = None) -> pa.Table:
        """A table's rows as this transaction has them so far; arguments as for `Dataset.scan`."""
        return self.snapshot().table(table, columns=columns, where=where)

    def snapshot(self) -> Dataset:
        """The dataset as this transaction has it so far, to read in batches."""
        return replace(self.base, commit=replace(self.base.commit, tables=dict(self._versions)))

    def has(self, table: str) -> bool:
        """Whether a table is there, as this transaction has it so far."""
        return table in self._versions

    def after_commit(self, action: Callable[[], None]) -> None:
        """Do something once the commit is made: take away files that are needed until then."""
        self._afterwards.append(action)

    def count(self, what: str, number: int) -> None:
        """Add to what the history says was changed: `count('images added', 12)`."""
        if number:
            self.counts[what] = self.counts.get(what, 0) + number

    def _address(self, table: str) -> str:
        return table_address(self.base.place, table)

    def _schema(self, table: str, schema: pa.Schema | None) -> pa.Schema:
        return schema if schema is not None and table not in SCHEMAS else self.base.schema(table)

    def _set(self, table: str, version: int) -> None:
        self._versions[table] = version

    def _commit(self) -> None:
        base = self.base.commit
        unchanged = self._versions == base.tables and self.classes == base.classes and self.info == base.info
        if unchanged and base.number:
            return
        if is_local(self.base.place):
            sync_tree(Path(self.base.place), since=self._started - 1)
        commit = Commit(
            number=base.number + 1,
            parent=base.number,
            time=now(),
            command=self.command,
            counts=self.counts,
            tables=self._versions,
            classes=self.classes,
            info=self.info,
        )
        write_commit(self.base.path, commit)


def open_dataset(name: str, *, commit: int | None = None) -> Dataset:
    """Open a dataset for reading.

    Args:
        name: The dataset.
        commit: Which commit; the newest if None.

    Raises:
        DatasetNotFound: There is no such dataset or commit.
        DatasetCorrupt: HEAD or the commit cannot be read.
    """
    path = dataset_path(name)
    if not exists(name):
        raise not_found(name)
    number = read_head(path) if commit is None else commit
    return Dataset(name, path, read_place(path), read_commit(path, number))


@contextmanager
def begin(name: str, *, command: str, create: bool = False) -> Iterator[Transaction]:
    """Write to a dataset: the block's end makes one commit.

    Args:
        name: The dataset.
        command: What is writing, for the history and for the error that a second writer gets.
        create: Make the dataset if it is not there.

    Raises:
        DatasetNotFound: It is not there, and `create` is false.
        DatasetLocked: Another process is writing; the error names it.
    """
    with _writing(name, command, create=create) as path:
        head = read_commit(path, read_head(path))
        place = read_place(path) if head.number else new_place(path)
        outstanding = Outstanding(path)
        outstanding.sweep()
        transaction = Transaction(
            Dataset(name, path, place, head),
            command,
            list(head.classes),
            dict(head.info),
            _versions=dict(head.tables),
            _outstanding=outstanding,
        )
        try:
            yield transaction
            transaction._commit()
        finally:
            with suppress(CurateError, OSError):  # whoever writes next tries again
                outstanding.sweep()
        for action in transaction._afterwards:
            action()


def undo(name: str, *, command: str, to: int | None = None) -> Commit:
    """Bring back an earlier state, as a new commit: nothing is lost, and an undo can be undone with `to`.

    Args:
        name: The dataset.
        command: For the history.
        to: Number of the commit to bring back; None for the one before the newest (again: one further back).

    Raises:
        UsageError: There is nothing to undo.
        DatasetNotFound: There is no such dataset or commit.
    """
    with _writing(name, command) as path:
        head = read_commit(path, read_head(path))
        target = undo_target(path, head) if to is None else to
        if target == head.number or (to is None and target == 0):
            raise UsageError(
                "there is nothing to undo",
                where=f"{name}, commit {head.number}",
                remedy=f"'curate rm {name}' removes the whole dataset; 'curate undo --to N' goes to any commit",
            )
        state = read_commit(path, target)
        commit = replace(
            state, number=head.number + 1, parent=head.number, time=now(), command=command, counts={}, restores=target
        )
        write_commit(path, commit)
        return commit


def remove(name: str) -> None:
    """Delete a dataset, its tables wherever they are, and all its commits; images that it refers to stay where they are.

    Raises:
        DatasetNotFound: There is no such dataset.
        DatasetLocked: Another process is writing to it.
        UnavailableError: Its tables are in an object store that does not answer; the dataset is gone, they are deleted when
            `remove` is called the next time.
    """
    with _writing(name, f"curate rm {name}") as path:
        hidden = move_to_trash(path)
    delete_removed(hidden)


@contextmanager
def _writing(name: str, command: str, *, create: bool = False) -> Iterator[Path]:
    """The dataset's folder, of which the block is the one writer."""
    path = dataset_path(name)
    if not create and not exists(name):
        raise not_found(name)
    with writer_lock(path, command):
        if not create and not exists(name):  # it was removed meanwhile
            raise not_found(name)
        yield path
