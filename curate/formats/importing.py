"""From a file or folder into a dataset: one commit, nothing lost silently, and importing again changes nothing."""

from __future__ import annotations

import filecmp
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.home import dataset_path
from curate.dataset.ids import from_ids
from curate.dataset.query import in_layer
from curate.dataset.rows import compare
from curate.dataset.schema import ANNOTATIONS, GROUND_TRUTH
from curate.dataset.store import Dataset, Transaction, begin, open_dataset
from curate.errors import FormatError, InputError, UsageError
from curate.formats.base import ClassInfo, Detection, Format, ReadOptions, Records, merge_classes
from curate.formats.detect import detect_format
from curate.formats.losses import LossReport
from curate.formats.registry import FORMATS


@dataclass(frozen=True)
class ImportResult:
    """What an import did.

    Attributes:
        format: Name of the format it was read as.
        detection: Why, if nobody said which format it is.
        losses: What came over, changed or stayed behind.
        counts: What the commit changed; empty if nothing did.
        commit: Number of the dataset's newest commit afterwards.
    """

    format: str
    detection: Detection | None
    losses: LossReport
    counts: dict[str, int]
    commit: int


def import_source(
    name: str,
    source: Path,
    *,
    format: str = "auto",
    options: ReadOptions | None = None,
    strict: bool = False,
    command: str,
) -> ImportResult:
    """Import a file or folder into a dataset, made if it is not there.

    Images that the dataset already has (by location) are updated. The annotations that an earlier import of the same file
    brought into the same layer are replaced by what the file says now, for the images it names; their ids stay.

    Args:
        name: The dataset.
        source: File or folder.
        format: A format's name, or 'auto' to look.
        options: Layer, image folder, split.
        strict: Raise at the first thing that would be lost or changed; nothing is then written.
        command: The command line, for the history.

    Raises:
        FormatError: Nothing can be read from the source, or (with `strict`) something would be lost.
        InputError: A location already belongs to another image file.
        UsageError: There is no such file or format.
        DatasetLocked: Another process is writing to the dataset.
    """
    dataset_path(name)  # a name that cannot be is told before a long look at the files
    source = source.expanduser().absolute()
    if not source.exists():
        raise UsageError("there is no such file or folder", where=source, remedy="check the path")
    reader, detection = detect_format(source) if format == "auto" else (FORMATS.get(format), None)
    losses = LossReport(strict=strict)
    with begin(name, command=command, create=True) as transaction:
        records = _read(reader, source, options or ReadOptions(), transaction.base, losses)
        _check(records, reader.name, source, transaction.base)
        _store_images(transaction, records.images, losses)
        _store_classes(transaction, records, losses)
        _store_annotations(transaction, records, (options or ReadOptions()).layer, losses)
    return ImportResult(reader.name, detection, losses, transaction.counts, open_dataset(name).commit.number)


def class_infos(dataset: Dataset) -> list[ClassInfo]:
    """A dataset's classes."""
    return classes_from_json(dataset.commit.classes)


def classes_from_json(classes: list[dict[str, Any]]) -> list[ClassInfo]:
    """Classes as a commit holds them."""
    return [
        ClassInfo(
            **{
                **content,
                "keypoints": tuple(content.get("keypoints", ())),
                "skeleton": tuple((first, second) for first, second in content.get("skeleton", ())),
            }
        )
        for content in classes
    ]


def _read(reader: Format, source: Path, options: ReadOptions, base: Dataset, losses: LossReport) -> Records:
    if options.layer != GROUND_TRUTH and base.commit.number:
        columns = ["image_id", "location", "source_id", "width", "height"]
        options = replace(options, known_images=base.table("images", columns=columns), known_classes=class_infos(base))
    return reader.read(source, options, losses)


def _check(records: Records, format: str, source: Path, base: Dataset) -> None:
    if records.images.num_rows == 0 and not (base.commit.number and base.count("images")):
        raise FormatError(
            f"no images were found, read as {format}", where=source, remedy="check the path, or say --format"
        )
    ids = from_ids(records.images["image_id"])
    if len(np.unique(ids)) != len(ids):
        raise FormatError("the reader gave two images the same location", where=source, remedy="report this as a bug")


def _store_images(transaction: Transaction, images: pa.Table, losses: LossReport) -> None:
    losses.carried("images", images.num_rows)
    known = transaction.base.table("images")
    if known.num_rows == 0:
        transaction.append("images", [images])
        transaction.count("images added", images.num_rows)
        return
    difference = compare(known, images, "image_id", ignore=["content_hash", "tags"])
    _refuse_other_files(known, images.take(difference.changed))
    if len(difference.added):
        transaction.append("images", [images.take(difference.added)])
    if len(difference.changed):
        transaction.upsert("images", _keep_tags(known, images.take(difference.changed)), "image_id")
    transaction.count("images added", len(difference.added))
    transaction.count("images changed", len(difference.changed))


def _keep_tags(known: pa.Table, changed: pa.Table) -> pa.Table:
    """Tags are the user's, not the source's: an update keeps those an image has."""
    rows = pc.index_in(changed["image_id"], known["image_id"].combine_chunks())
    tags = pc.coalesce(changed["tags"], known["tags"].take(rows)) if changed.num_rows else changed["tags"]
    return changed.set_column(changed.column_names.index("tags"), "tags", tags)


def _refuse_other_files(known: pa.Table, changed: pa.Table) -> None:
    """A location stands for one image: a second file with other pixels under it is a mistake, not an update."""
    old_paths = dict(zip(known["image_id"].to_pylist(), known["path"].to_pylist(), strict=True))
    for row in changed.select(["image_id", "location", "path"]).to_pylist():
        old, new = old_paths[row["image_id"]], row["path"]
        if old is None or new is None or old == new or not Path(old).is_file():
            continue
        if not filecmp.cmp(old, new, shallow=False):
            raise InputError(
                f"the dataset already has another image at '{row['location']}': {old}",
                where=new,
                remedy="import it into another dataset, or from a folder above it so that the locations differ",
            )


def _store_classes(transaction: Transaction, records: Records, losses: LossReport) -> None:
    merged = merge_classes([classes_from_json(transaction.classes), records.classes], losses)
    transaction.count("classes added", len(merged) - len(transaction.classes))
    transaction.classes = [asdict(info) for info in merged]
    # JSON knows no tuples: without this a commit would seem to differ from the same classes read back.
    for content in transaction.classes:
        content["keypoints"] = list(content["keypoints"])
        content["skeleton"] = [list(pair) for pair in content["skeleton"]]
    losses.carried("classes", len(records.classes))
    transaction.info = {**transaction.info, **records.info}


def _store_annotations(transaction: Transaction, records: Records, layer: str, losses: LossReport) -> None:
    counter = _Counter(records.annotations)
    if transaction.base.count("annotations", where=in_layer(layer)) == 0:
        first = next(iter(counter), None)
        if first is not None:
            transaction.append("annotations", _chain(first, counter))
        transaction.count("annotations added", counter.rows)
    else:
        _update_annotations(transaction, records, counter, in_layer(layer))
    losses.carried("annotations", counter.rows)


def _update_annotations(transaction: Transaction, records: Records, pieces: Iterator[pa.Table], where: str) -> None:
    new = pa.concat_tables([ANNOTATIONS.empty_table(), *pieces])
    known = transaction.base.table("annotations", where=where)
    sources = pc.unique(pa.chunked_array([*records.images["source"].chunks, *new["source"].chunks], pa.string()))
    same = pc.and_(pc.is_in(known["source"], sources), pc.is_in(known["image_id"], _image_ids(records, new)))
    known = known.filter(same)
    difference = compare(known, new, "annotation_id")
    transaction.delete("annotations", "annotation_id", known["annotation_id"].take(difference.removed).combine_chunks())
    if len(difference.changed):
        transaction.upsert("annotations", new.take(difference.changed), "annotation_id")
    if len(difference.added):
        transaction.append("annotations", [new.take(difference.added)])
    transaction.count("annotations added", len(difference.added))
    transaction.count("annotations changed", len(difference.changed))
    transaction.count("annotations removed", len(difference.removed))


def _image_ids(records: Records, annotations: pa.Table) -> pa.Array:
    """Images the import speaks of: a predictions file lists none, and speaks of those it has annotations on."""
    if records.images.num_rows:
        return records.images["image_id"].combine_chunks()
    return pc.unique(annotations["image_id"])


class _Counter:
    """Passes tables on and counts their rows."""

    def __init__(self, pieces: Iterable[pa.Table]) -> None:
        self._pieces: Iterator[pa.Table] = iter(pieces)
        self.rows = 0

    def __iter__(self) -> Iterator[pa.Table]:
        return self

    def __next__(self) -> pa.Table:
        piece = next(self._pieces)
        self.rows += piece.num_rows
        return piece


def _chain(first: pa.Table, rest: Iterator[pa.Table]) -> Iterator[pa.Table]:
    yield first
    yield from rest
