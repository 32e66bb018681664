"""What is computed of a dataset's images, and of the objects annotated on them, and kept: embedding spaces above all."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.ids import from_ids, positions
from curate.dataset.query import in_layer
from curate.dataset.store import EMBEDDINGS, Dataset, Transaction, begin
from curate.engine.engines import current_engine, map_jobs
from curate.engine.memory import give_back
from curate.errors import InputError, UsageError
from curate.models.cache import is_on
from curate.models.embedding import Embedding
from curate.models.encoders.base import Encoder, Vectors
from curate.models.encoders.registry import load_encoder
from curate.models.passes import (
    ITEMS,
    Computation,
    LeftOut,
    Progress,
    Together,
    crop_items,
    fingerprints,
    image_items,
    is_known,
    is_last,
    run,
    stored_schema,
)
from curate.models.recall import Contents, Memory, open_memory, read_contents
from curate.models.spool import Spool, discard
from curate.models.spool_writing import spooled_jobs, write_spooled
from curate.names import GROUND_TRUTH

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

Content = Literal["images", "crops"]

DEFAULT_ENCODER: Final = "auto"

_LONGEST_NAME: Final = 160  # of 255 bytes that file systems allow, with what is put before and behind


@dataclass(frozen=True)
class SpaceUpdate:
    """What bringing a space up to date did.

    Attributes:
        space: The space's name.
        encoder: Name of the encoder.
        embedded: How many vectors are new.
        reused: How many were there already.
        left_out: Rows without a vector, and why: images that cannot be read, impossible boxes.
        recalled: How many of the new ones were known by content: embedded before, in this dataset or another.
    """

    space: str
    encoder: str
    embedded: int
    reused: int
    left_out: list[LeftOut]
    recalled: int = 0

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "space": self.space,
            "encoder": self.encoder,
            "embedded": self.embedded,
            "recalled": self.recalled,
            "reused": self.reused,
            "left_out": [vars(row) for row in self.left_out],
        }

    def describe(self) -> str:
        """A sentence for a person."""
        text = f"{self.space}: {self.embedded:,} embedded with {self.encoder}"
        if self.recalled:
            text += f" (of which {self.recalled:,} were known by content)"
        text += f", {self.reused:,} were there already"
        if self.left_out:
            text += f"; {len(self.left_out):,} left out, first {self.left_out[0]}"
        return text


def choose_encoder(dataset: Dataset, spec: str | None) -> Encoder:
    """The encoder that was asked for, or the one the dataset remembers, or the default."""
    return load_encoder(spec or str(dataset.commit.info.get("encoder") or DEFAULT_ENCODER))


def space_name(encoder: Encoder) -> str:
    """Name of an encoder's spaces, before '-images' and '-crops': a folder's name on every system."""
    return _file_name(encoder.name)


def _file_name(text: str) -> str:
    """A text as the name of a folder: of one that is too long, the end and a hash of all."""
    name = re.sub(r"[^0-9A-Za-z_.@-]+", "-", text)
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return f"{digest}{name[len(digest) - _LONGEST_NAME :]}"


def embed_dataset(
    name: str,
    *,
    encoder: str | None = None,
    crops: bool = False,
    layer: str = GROUND_TRUTH,
    command: str,
    progress: Progress | None = None,
) -> list[SpaceUpdate]:
    """Embed what is not embedded yet of a dataset; one commit, or none if nothing was missing.

    Args:
        name: The dataset.
        encoder: Spec of the encoder; None for the one the dataset remembers.
        crops: Embed the annotated objects of a layer too.
        layer: That layer.
        command: The command line, for the history.
        progress: Told (done, total).

    Raises:
        UsageError: The layer is not there; that of the labels may be empty.
        UnavailableError: The encoder's weights cannot be had.
        InputError: Not one image could be read.
    """
    with begin(name, command=command) as transaction:
        if crops and layer != GROUND_TRUTH and not transaction.base.count("annotations", where=in_layer(layer)):
            raise UsageError(
                f"there is no layer '{layer}'", where=name, remedy="say which --layer, or leave out --crops"
            )
        chosen = choose_encoder(transaction.base, encoder)
        images = transaction.base.table("images", columns=["image_id", "path"])
        updates = [update_space(transaction, chosen, "images", image_items(images), progress=progress)]
        if crops:
            annotations = transaction.base.table(
                "annotations", columns=["annotation_id", "image_id", "bbox"], where=in_layer(layer)
            )
            items = crop_items(annotations, images)
            updates.append(update_space(transaction, chosen, "crops", items, progress=progress))
        unreadable = updates[0].left_out
        if images.num_rows and len(unreadable) == images.num_rows:
            raise InputError(
                f"not one of {images.num_rows:,} images can be read; the first: {unreadable[0].reason}",
                where=unreadable[0].path or unreadable[0].id,
                remedy="import again with --images FOLDER",
            )
    return updates


def update_space(
    transaction: Transaction, encoder: Encoder, content: Content, items: pa.Table, *, progress: Progress | None = None
) -> SpaceUpdate:
    """Embed the items that have no up-to-date vector, within a transaction; what is done survives an interruption.

    Args:
        transaction: The commit being made.
        encoder: The encoder.
        content: Whether the items are whole images or crops.
        items: Columns of `curate.models.passes.ITEMS`.
        progress: Told (done, total).
    """
    (update,) = update_tables(transaction, [embedding_table(encoder)], {content: items}, progress=progress)
    transaction.info = {**transaction.info, "encoder": encoder.name}
    space = update.table.removeprefix(EMBEDDINGS)
    return SpaceUpdate(space, encoder.name, update.new, update.reused, update.left_out, update.recalled)


def embedding_table(encoder: Encoder) -> Kept:
    """An encoder's vectors, as `update_tables` wants them."""
    return Kept(EMBEDDINGS + space_name(encoder), Embedding(encoder), "embedded", shared=True)


@dataclass(frozen=True)
class Kept:
    """A computation whose columns a dataset keeps, in a table for images and one for crops.

    Attributes:
        prefix: Of the tables' names; `-images` or `-crops` comes behind.
        computation: What is computed.
        done: What is said of it in the history: 'embedded', 'measured'.
        contents: What it is computed of.
        shared: Whether what is computed is kept by content as well, for every dataset (`curate.models.cache`). Its columns
            are numbers, or lists of as many numbers.
    """

    prefix: str
    computation: Computation
    done: str
    contents: tuple[Content, ...] = ("images", "crops")
    shared: bool = False


@dataclass(frozen=True)
class TableUpdate:
    """What bringing a table of computed columns up to date did.

    Attributes:
        table: Its name.
        new: How many rows are new.
        reused: How many were there already.
        left_out: Rows without columns, and why.
        recalled: How many of the new ones were known by content.
    """

    table: str
    new: int
    reused: int
    left_out: list[LeftOut]
    recalled: int = 0


def update_tables(
    transaction: Transaction,
    kept: Sequence[Kept],
    items: Mapping[Content, pa.Table],
    *,
    progress: Progress | None = None,
) -> list[TableUpdate]:
    """Compute what is missing of several computations, within a transaction, decoding each image once for all of them.

    Args:
        transaction: The commit being made.
        kept: What is wanted. What is up to date for all items is not computed again.
        items: Columns of `curate.models.passes.ITEMS`, of whole images, of crops, or both; ids are unique.
        progress: Told (done, total).

    Returns:
        One for each of `kept` and each of its contents that there are items of, in that order.
    """
    prints = {content: fingerprints(rows) for content, rows in items.items()}
    tables = [
        _Table.open(transaction, each, content, items[content], prints[content])
        for each in kept
        for content in items
        if content in each.contents
    ]
    with ExitStack() as spools:
        for table in tables:
            spools.enter_context(closing(table.spool))
        tables = _recall(tables, items, progress)
        give_back()
        left_out = _compute_lacking(tables, items, progress)
    transaction.after_commit(give_back)  # before what is computed is shared
    updates = []
    for table in tables:
        give_back()
        updates.append(table.store(transaction, left_out))
    return updates


@dataclass(frozen=True)
class _Table:
    """A table that is brought up to date.

    Attributes:
        name: The table's.
        content: What its rows are of.
        kept: What it keeps.
        items: Rows wanted, n of them.
        prints: Their fingerprints.
        known: Columns id and fingerprint of what is stored.
        stored: Which of the rows wanted are stored, bool array of shape (n,).
        lacking: Which are neither stored nor left in the spool by a pass that was killed, the same.
        spool: Its own, so that what one pass left is used by any other that wants it.
        recalled: Which of the rows wanted were known by content, the same.
        memory: What is known by content; None where that is not asked.
    """

    name: str
    content: Content
    kept: Kept
    items: pa.Table
    prints: pa.StringArray
    known: pa.Table
    stored: BoolArray
    lacking: BoolArray
    spool: Spool
    recalled: BoolArray
    memory: Memory | None = None

    @classmethod
    def open(
        cls, transaction: Transaction, kept: Kept, content: Content, items: pa.Table, prints: pa.StringArray
    ) -> _Table:
        name, schema = f"{kept.prefix}-{content}", stored_schema(kept.computation)
        known = (
            transaction.read(name, columns=["id", "fingerprint"])
            if transaction.has(name)
            else schema.empty_table().select(["id", "fingerprint"])
        )
        spool = Spool(transaction.base.path / "spool" / _file_name(name), schema, kept.computation.name)
        stored = is_known(items["id"], prints, known)
        lacking = ~stored & ~is_known(items["id"], prints, spool.read(["id", "fingerprint"]))
        return cls(name, content, kept, items, prints, known, stored, lacking, spool, np.zeros_like(lacking))

    def keep(self, rows: IntArray, columns: pa.RecordBatch) -> None:
        """Put computed columns of some rows into the spool."""
        chosen = pa.array(rows)
        found = [columns.column(name) for name in self.kept.computation.columns.names]
        self.spool.add([self.items["id"].take(chosen).combine_chunks(), self.prints.take(chosen), *found])

    def recall(self, contents: Contents) -> _Table:
        """The table without the lack of what was computed of the same bytes before, which is in the spool now."""
        memory = open_memory(self.kept.computation, self.items, self.prints, contents)
        if memory is None:
            return self
        recalled = self.recalled.copy()
        for rows, columns in memory.recall(self.lacking):
            self.keep(rows, columns)
            recalled[rows] = True
        return replace(self, lacking=self.lacking & ~recalled, recalled=recalled, memory=memory)

    def store(self, transaction: Transaction, left_out: Sequence[LeftOut]) -> TableUpdate:
        """Put all that is in the spool into the store: what is out of date there is seen to be by its fingerprint."""
        rows = self.spool.read(["id", "fingerprint"])
        prints = rows["fingerprint"].combine_chunks()
        new = is_last(rows["id"]) & ~is_known(rows["id"], prints, self.known)
        if new.any():
            ids = rows["id"].filter(pa.array(new))
            transaction.delete(self.name, "id", ids.filter(pc.is_in(ids, self.known["id"])).combine_chunks())
            self._append(transaction, new)
            transaction.count(f"{self.content} {self.kept.done}", len(ids))
        if self.memory is not None:  # the dataset comes first: a disk may be full
            transaction.after_commit(partial(self.memory.share, ~self.stored & ~self.recalled, self.spool))
        if parts := self.spool.parts():
            transaction.after_commit(partial(discard, parts))
        computed = ~self.stored & is_known(self.items["id"], self.prints, rows)
        own = set(self.items["id"].filter(pa.array(self.lacking)).to_pylist()) if left_out else set()
        own_left_out = [row for row in left_out if row.id in own]
        return TableUpdate(
            self.name, int(computed.sum()), int(self.stored.sum()), own_left_out, int(self.recalled.sum())
        )

    def _append(self, transaction: Transaction, wanted: BoolArray) -> None:
        """Put some rows of the spool into the store: workers write them, if there are any and they see the spool."""
        schema = stored_schema(self.kept.computation)
        if current_engine().distributed:
            target = transaction.fragment_target(self.name, schema)
            with closing(map_jobs(write_spooled, spooled_jobs(target, self.spool, wanted))) as results:
                written = list(results)
            fragments = [each for each in written if each is not None]
            if len(fragments) == len(written):
                transaction.append_fragments(self.name, fragments)
                return
        transaction.append(self.name, self._spooled(wanted), schema)

    def _spooled(self, wanted: BoolArray) -> Iterator[pa.Table]:
        """Some rows of the spool, part by part: a million vectors need not fit into memory."""
        start = 0
        for piece in self.spool.pieces():
            rows = wanted[start : start + piece.num_rows]
            start += piece.num_rows
            yield piece.filter(pa.array(rows)).replace_schema_metadata(None).combine_chunks()


def _recall(tables: Sequence[_Table], items: Mapping[Content, pa.Table], progress: Progress | None) -> list[_Table]:
    """The tables, filled with what is known by content."""
    wanted = {content: np.zeros(rows.num_rows, dtype=bool) for content, rows in items.items()}
    for table in tables:
        if table.kept.shared:
            wanted[table.content] |= ~table.stored
    if not any(rows.any() for rows in wanted.values()) or not is_on():
        return list(tables)
    found = read_contents(list(items.values()), list(wanted.values()), progress=progress)
    contents = dict(zip(items, found, strict=True))
    return [table.recall(contents[table.content]) if table.kept.shared else table for table in tables]


def _compute_lacking(
    tables: Sequence[_Table], items: Mapping[Content, pa.Table], progress: Progress | None
) -> list[LeftOut]:
    """Compute what each table lacks into its spool; returns what could not be.

    Each file is decoded once, for what is lacking of it: files of which the same is lacking are one pass.
    """
    start = dict(zip(items, np.cumsum([0, *(rows.num_rows for rows in items.values())]).tolist(), strict=False))
    rows = pa.concat_tables([each.select(ITEMS.names) for each in items.values()]).combine_chunks()
    lacking = np.zeros((rows.num_rows, len(tables)), dtype=bool)
    for k, table in enumerate(tables):
        lacking[start[table.content] :][: len(table.lacking), k] = table.lacking
    todo = np.flatnonzero(lacking.any(axis=1))
    left_out: list[LeftOut] = []
    if not len(todo):
        return left_out
    paths = pc.fill_null(rows["path"].take(pa.array(todo)), "").combine_chunks().dictionary_encode()
    file = paths.indices.to_numpy()
    of_file = np.zeros((len(paths.dictionary), len(tables)), dtype=bool)
    np.logical_or.at(of_file, file, lacking[todo])
    kinds, kind = np.unique(of_file, axis=0, return_inverse=True)
    done = 0
    for number, wanted in enumerate(kinds):
        chosen = [table for table, want in zip(tables, wanted.tolist(), strict=True) if want]
        part = todo[kind.ravel()[file] == number]
        computation = _together(chosen)
        report = None if progress is None else partial(_report, progress, done, len(todo))
        failed = run(rows, part, computation, partial(_keep_each, chosen, start), progress=report)
        done += len(part)
        left_out += [each for rows_left in failed for each in rows_left]
    return left_out


def _together(tables: Sequence[_Table]) -> Together:
    """What some tables keep, as one computation."""
    kept = list({table.kept.prefix: table.kept for table in tables}.values())
    of = {
        content: [any(t.kept.prefix == each.prefix and t.content == content for t in tables) for each in kept]
        for content in ("images", "crops")
    }
    return Together([each.computation for each in kept], of["images"], of["crops"])


def _keep_each(tables: Sequence[_Table], start: Mapping[Content, int], rows: IntArray, columns: pa.RecordBatch) -> None:
    """Give each table the rows that are of its content; `rows` number the items of all contents, one after another."""
    for table in tables:
        own = rows - start[table.content]
        inside = np.flatnonzero((own >= 0) & (own < table.items.num_rows))
        if len(inside):
            table.keep(own[inside], columns.take(pa.array(inside)))


def _report(progress: Progress, before: int, total: int, done: int, _: int) -> None:
    progress(before + done, total)


def read_vectors(
    transaction: Transaction, space: str, ids: pa.ChunkedArray, *, dtype: npt.DTypeLike = np.float32
) -> tuple[Vectors, npt.NDArray[np.bool_]]:
    """Vectors of n rows, as the transaction has them so far. Memory: what is returned, and a few batches.

    Args:
        transaction: The commit being made.
        space: Name of the space.
        ids: Each once.
        dtype: Of the vectors; float16 is what is stored.

    Returns:
        Array of shape (m, dimensions), and a bool array of shape (n,) that says which m rows have a vector.
    """
    snapshot, table = transaction.snapshot(), EMBEDDINGS + space
    hashes = from_ids(ids)
    order = np.argsort(hashes)
    ordered = hashes[order]
    there = np.zeros(len(ids), dtype=bool)
    for batch in snapshot.scan(table, columns=["id"]):
        found = positions(from_ids(batch["id"]), ordered)
        there[order[found[found >= 0]]] = True
    place = np.cumsum(there) - 1
    dimensions = snapshot.schema(table).field("vector").type.list_size
    vectors = np.empty((int(there.sum()), dimensions), dtype=dtype)
    for batch in snapshot.scan(table, columns=["id", "vector"]):
        found = positions(from_ids(batch["id"]), ordered)
        values = batch["vector"].flatten().to_numpy(zero_copy_only=False).reshape(-1, dimensions)
        vectors[place[order[found[found >= 0]]]] = values[found >= 0]
    return vectors, there
