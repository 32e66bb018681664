"""From a file or folder into a dataset: one commit, nothing lost silently, and importing again changes nothing."""

from __future__ import annotations

import filecmp
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.home import dataset_path
from curate.dataset.ids import from_ids
from curate.dataset.query import in_layers
from curate.dataset.rows import RowIndex, compare, rows_at
from curate.dataset.schema import ANNOTATIONS, GROUND_TRUTH, PREDICTIONS
from curate.dataset.store import Dataset, Transaction, begin, open_dataset
from curate.errors import CurateError, FormatError, InputError, UsageError
from curate.formats.base import ClassInfo, Detection, Format, ReadOptions, Records, merge_classes
from curate.formats.detect import detect_format
from curate.formats.losses import PLACES_KEPT, LossReport
from curate.formats.registry import FORMATS
from curate.formats.roboflow_names import group_by_source
from curate.formats.source_files import drop_if_unused, source_folder
from curate.formats.sources import Report, kind_of_source, opened
from curate.formats.unread import Unread, find_unread
from curate.imaging import MAX_PIXELS
from curate.names import ANNOTATORS, SETTINGS, is_layer_name
from curate.wording import counted


@dataclass(frozen=True)
class ImportResult:
    """What an import did.

    Attributes:
        format: Name of the format it was read as.
        detection: Why, if nobody said which format it is.
        losses: What came over, changed or stayed behind.
        counts: What the commit changed; empty if nothing did.
        commit: Number of the dataset's newest commit afterwards.
        kept: How many annotations of the same layer its images have from other files as well, by file. They stay.
        unread: What else lies in the folder: files of other formats, and images that nothing read refers to. It is
            told and counted, but no loss: a set in several formats says the same in each.
    """

    format: str
    detection: Detection | None
    losses: LossReport
    counts: dict[str, int]
    commit: int
    kept: dict[str, int]
    unread: list[Unread] = field(default_factory=list)


def import_source(
    name: str,
    source: Path,
    *,
    format: str = "auto",
    options: ReadOptions | None = None,
    strict: bool = False,
    command: str,
    unpacking: Report | None = None,
) -> ImportResult:
    """Import a file, a folder or an archive of one into a dataset, made if it is not there.

    Images that the dataset already has (by location) are updated. The annotations that an earlier import of the same file
    brought into the same layer are replaced by what the file says now, for the images it names; their ids stay.

    Args:
        name: The dataset.
        source: File, folder or archive.
        format: A format's name, or 'auto' to look.
        options: Layer, image folder, split.
        strict: Raise at the first thing that would be lost or changed, or if images stay behind that have label files of
            their own in another format; nothing is then written.
        command: The command line, for the history.
        unpacking: Called while an archive is unpacked, with how many of its bytes are done and how many it has.

    Raises:
        FormatError: Nothing can be read from the source, or (with `strict`) something would be lost.
        InputError: A location already belongs to another image file.
        UsageError: There is no such file or format, or no layer can have that name.
        DatasetLocked: Another process is writing to the dataset.
    """
    options = options or ReadOptions()
    dataset_path(name)  # a name that cannot be is told before a long look at the files
    _check_layer(options.layer, "--layer")
    source = source.expanduser().absolute()
    kind = kind_of_source(source)
    if format != "auto":
        FORMATS.get(format)
    losses = LossReport(strict=strict)
    with (
        begin(name, command=command, create=True) as transaction,
        source_folder(transaction, source, losses) as folder,
        opened(source, kind, folder, losses, unpacking) as content,
    ):
        reader, detection = detect_format(content) if format == "auto" else (FORMATS.get(format), None)
        options = options if options.files else replace(options, files=folder if kind is None else folder / "files")
        records = _read(reader, content, options, transaction.base, losses)
        _check(records, reader.name, content, transaction.base)
        _store_images(transaction, records.images, losses)
        store_classes(transaction, records.classes, losses)
        where = in_layers({options.layer} | records.layers)
        update, sources = _store_annotations(transaction, records, where, losses)
        _store_info(transaction, records.info, losses)
        unread = _unread(content, reader.name, records.images, sources, strict=strict)
        drop_if_unused(folder, records.images, transaction.base)
    stored = open_dataset(name)
    kept = _from_other_files(stored, update, records.images, where) if update else {}
    if detection is not None and kind is not None:
        detection = replace(detection, reason=f"{kind} archive; {detection.reason}")
    return ImportResult(reader.name, detection, losses, transaction.counts, stored.commit.number, kept, unread)


def import_records(
    name: str,
    read: Callable[[LossReport], Records],
    *,
    format: str,
    source: str,
    layer: str = GROUND_TRUTH,
    strict: bool = False,
    command: str,
) -> ImportResult:
    """Import what is read from elsewhere than a file (another tool's database), as `import_source` does from one.

    Args:
        name: The dataset, made if it is not there.
        read: Reads it all.
        format: What it is read as, for the user.
        source: What to call it in errors.
        layer: The layer of annotations that name none.
        strict: Raise at the first thing that would be lost or changed; nothing is then written.
        command: The command line, for the history.

    Raises:
        FormatError: There is nothing to read, or (with `strict`) something would be lost.
        InputError: A location already belongs to another image file.
        UsageError: No layer can have that name.
        DatasetLocked: Another process is writing to the dataset.
    """
    dataset_path(name)
    _check_layer(layer, "--layer")
    losses = LossReport(strict=strict)
    with begin(name, command=command, create=True) as transaction:
        records = read(losses)
        for each in records.layers:
            _check_layer(each, source)
        _check(records, format, Path(source), transaction.base)
        _store_images(transaction, records.images, losses)
        store_classes(transaction, records.classes, losses)
        where = in_layers({layer} | records.layers)
        update, _ = _store_annotations(transaction, records, where, losses)
        _store_info(transaction, records.info, losses)
    stored = open_dataset(name)
    kept = _from_other_files(stored, update, records.images, where) if update else {}
    return ImportResult(format, None, losses, transaction.counts, stored.commit.number, kept)


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


def _check_layer(layer: str, where: object) -> None:
    if not is_layer_name(layer):
        raise UsageError(
            f"'{layer}' cannot be a layer",
            where=where,
            remedy=f"{GROUND_TRUTH} for what people labelled, {PREDICTIONS}NAME for what a model did, "
            f"{ANNOTATORS}NAME for one of several people's own version",
        )


def _read(reader: Format, source: Path, options: ReadOptions, base: Dataset, losses: LossReport) -> Records:
    if options.layer != GROUND_TRUTH and base.commit.number:
        columns = ["image_id", "location", "source_id", "width", "height"]
        options = replace(options, known_images=base.table("images", columns=columns), known_classes=class_infos(base))
    with _faults_told(reader.name, source):
        records = reader.read(source, options, losses)
    for layer in records.layers:
        _check_layer(layer, source)
    pieces = _faults_of_pieces(records.annotations, reader.name, source)
    return replace(records, images=group_by_source(records.images), annotations=pieces)


def _faults_of_pieces(pieces: Iterable[pa.Table], format: str, source: Path) -> Iterator[pa.Table]:
    with _faults_told(format, source):
        yield from pieces


@contextmanager
def _faults_told(format: str, source: Path) -> Iterator[None]:
    """Turn what a reader should not raise, and would only raise for bytes nobody thought of, into one clear error."""
    try:
        yield
    except (CurateError, OSError):
        raise
    except Exception as error:  # which it is, is in the message: a fault of ours, or a plugin's, may be any
        raise FormatError(
            f"the reader of {format} failed, which is a fault in curate: {error!r}",
            where=source,
            remedy="please report it, with what --debug prints; if it is another format, say --format",
        ) from error


def _check(records: Records, format: str, source: Path, base: Dataset) -> None:
    if records.images.num_rows == 0 and not (base.commit.number and base.count("images")):
        raise FormatError(
            f"no images were found, read as {format}", where=source, remedy="check the path, or say --format"
        )
    ids = from_ids(records.images["image_id"])
    if len(np.unique(ids)) != len(ids):
        raise FormatError("the reader gave two images the same location", where=source, remedy="report this as a bug")


def _unread(content: Path, format: str, images: pa.Table, sources: set[str], *, strict: bool) -> list[Unread]:
    """What else lies in the folder that was read.

    Raises:
        FormatError: With `strict`, images are left that have label files of their own.
    """
    sources = sources.union(pc.unique(images["source"]).drop_null().to_pylist())
    unread, labelled = find_unread(content, format, images, sources)
    if strict and labelled:
        raise FormatError(
            f"{counted(len(labelled), 'images')} with label files of another format would stay behind",
            where=labelled[0],
            remedy="import each format from a folder of its own, or leave out --strict",
        )
    return unread


def _report_huge(images: pa.Table, losses: LossReport) -> None:
    pixels = pc.multiply(images["width"].cast(pa.int64()), images["height"].cast(pa.int64()))
    huge = images["location"].filter(pc.fill_null(pc.greater(pixels, MAX_PIXELS), False))
    reason = f"more pixels than the limit of {MAX_PIXELS:,}; kept, but not looked at until they are cut into tiles"
    losses.converted("images", reason, huge.slice(0, PLACES_KEPT).to_pylist(), len(huge))


def _store_images(transaction: Transaction, images: pa.Table, losses: LossReport) -> None:
    losses.carried("images", images.num_rows)
    _report_huge(images, losses)
    base = transaction.base
    if base.count("images") == 0:
        transaction.append("images", [images])
        transaction.count("images added", images.num_rows)
        return
    images = _keep_files(base, images)
    found = compare(base.scan("images"), [images], "image_id", ignore=["content_hash", "tags"])
    if len(found.added):
        transaction.append("images", [images.take(pa.array(found.added))])
    if len(found.changed):
        order = np.argsort(found.before)
        changed = images.take(pa.array(found.changed[order]))
        columns = ["image_id", "path", "tags"]
        known = pa.concat_tables(rows_at(base.scan("images", columns=columns), found.before[order]))
        _refuse_other_files(known, changed)
        transaction.upsert("images", _keep_tags(known, changed), "image_id")
    transaction.count("images added", len(found.added))
    transaction.count("images changed", len(found.changed))


def _keep_files(base: Dataset, images: pa.Table) -> pa.Table:
    """An image whose file the source does not have keeps the one that the dataset knows, if that is still there."""
    lacking = pc.is_null(images["path"])
    if not pc.any(lacking).as_py():
        return images
    columns = ["path", "content_hash", "width", "height"]
    known = base.table("images", columns=["image_id", *columns], where="path IS NOT NULL")
    known = known.filter(pc.is_in(known["image_id"], images["image_id"].filter(lacking).combine_chunks()))
    known = known.filter(pa.array([Path(path).is_file() for path in known["path"].to_pylist()], pa.bool_()))
    place = pc.index_in(images["image_id"], known["image_id"].combine_chunks())
    kept = pc.and_(lacking, pc.is_valid(place))
    for name in columns:
        values = pc.if_else(kept, known[name].combine_chunks().take(place), images[name])
        images = images.set_column(images.column_names.index(name), images.schema.field(name), values)
    return images


def _keep_tags(known: pa.Table, changed: pa.Table) -> pa.Table:
    """Tags are the user's, not the source's: an update keeps those an image has. The tables match row by row."""
    tags = pc.coalesce(changed["tags"], known["tags"])
    return changed.set_column(changed.column_names.index("tags"), "tags", tags)


def _refuse_other_files(known: pa.Table, changed: pa.Table) -> None:
    """A location stands for one image: a second file with other pixels under it is a mistake, not an update.

    The tables match row by row.
    """
    moved = pc.fill_null(pc.not_equal(known["path"], changed["path"]), False)
    old_paths = known["path"].filter(moved).to_pylist()
    for old, row in zip(old_paths, changed.select(["location", "path"]).filter(moved).to_pylist(), strict=True):
        new = row["path"]
        if Path(old).is_file() and not filecmp.cmp(old, new, shallow=False):
            raise InputError(
                f"the dataset already has another image at '{row['location']}': {old}",
                where=new,
                remedy="import it into another dataset, or from a folder above it so that the locations differ",
            )


def store_classes(transaction: Transaction, classes: Sequence[ClassInfo], losses: LossReport) -> None:
    """Add classes to a dataset's; those that it has stay as they are."""
    merged = merge_classes([classes_from_json(transaction.classes), classes], losses)
    transaction.count("classes added", len(merged) - len(transaction.classes))
    transaction.classes = [asdict(info) for info in merged]
    # JSON knows no tuples: without this a commit would seem to differ from the same classes read back.
    for content in transaction.classes:
        content["keypoints"] = list(content["keypoints"])
        content["skeleton"] = [list(pair) for pair in content["skeleton"]]
    losses.carried("classes", len(classes))


def _store_info(transaction: Transaction, info: dict[str, object], losses: LossReport) -> None:
    """Keep what the source says of itself: `_fields` grow, the rest is replaced, and curate's own settings stay."""
    for key, value in info.items():
        known = transaction.info.get(key)
        if key in SETTINGS:
            losses.dropped("fields", "the name of a setting of curate's own", key)
        elif key.endswith("_fields") and isinstance(known, dict) and isinstance(value, dict):
            transaction.info = {**transaction.info, key: known | value}
        else:
            transaction.info = {**transaction.info, key: value}


def _store_annotations(
    transaction: Transaction, records: Records, where: str, losses: LossReport
) -> tuple[_Update | None, set[str]]:
    """Store the annotations; what they say against those that were there, if any were, and which files they are from.

    `where` chooses the layers that the import speaks of.
    """
    update = None
    pieces = _Counter(records.annotations)
    if transaction.base.count("annotations", where=where) == 0:
        _append_if_any(transaction, pieces)
        transaction.count("annotations added", pieces.rows)
    else:
        update = _update_annotations(transaction, records.images, pieces, where)
    losses.carried("annotations", pieces.rows)
    return update, pieces.sources


def _update_annotations(transaction: Transaction, images: pa.Table, pieces: Iterator[pa.Table], where: str) -> _Update:
    update = _Update(RowIndex(transaction.base.scan("annotations", where=where), "annotation_id"))
    added = _Counter(update.added(pieces))
    _append_if_any(transaction, added)
    removed = _no_longer_said(transaction.base, update, images, where)
    transaction.delete("annotations", "annotation_id", removed)
    changed = pa.concat_tables(update.changed) if update.changed else ANNOTATIONS.empty_table()
    if changed.num_rows:
        transaction.upsert("annotations", changed, "annotation_id")
    transaction.count("annotations added", added.rows)
    transaction.count("annotations changed", changed.num_rows)
    transaction.count("annotations removed", len(removed))
    return update


@dataclass
class _Update:
    """What an import says of annotations, against those its layer has; complete once `added` has passed all pieces on.

    Attributes:
        known: The annotations of the layers that it speaks of.
        changed: Annotations that are known with other values.
        images: Images that have annotations in the import, with repetitions.
        sources: Source files of the annotations in the import.
    """

    known: RowIndex
    changed: list[pa.Table] = field(default_factory=list)
    images: list[pa.Array] = field(default_factory=list)
    sources: set[str | None] = field(default_factory=set)

    def added(self, pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Pass the annotations on that are not known, and remember the rest of what is told above."""
        for piece in pieces:
            match = self.known.match(piece)
            self.images.append(pc.unique(piece["image_id"]))
            self.sources.update(pc.unique(piece["source"]).to_pylist())
            if len(match.changed):
                self.changed.append(piece.take(pa.array(match.changed)))
            if len(match.added):
                yield piece.take(pa.array(match.added))

    def speaks_of(self, images: pa.Table) -> tuple[pa.Array, pa.Array]:
        """Ids of the images that the import speaks of, and its files.

        It speaks of the images it lists; a predictions file lists none, and speaks of those it has annotations on.
        """
        listed = images["image_id"].chunks if images.num_rows else self.images
        files = self.sources.union(pc.unique(images["source"]).to_pylist())
        return pa.chunked_array(listed, pa.string()).combine_chunks(), pa.array([*files], pa.string())


def _no_longer_said(base: Dataset, update: _Update, images: pa.Table, where: str) -> pa.Array:
    """Ids of the annotations that the import's files once had on the images it speaks of, and have no longer."""
    unmatched = update.known.unmatched()
    if not len(unmatched):
        return pa.array([], pa.string())
    image_ids, sources = update.speaks_of(images)
    removed = []
    scan = base.scan("annotations", columns=["annotation_id", "image_id", "source"], where=where)
    for rows in rows_at(scan, unmatched):
        ours = pc.and_(pc.is_in(rows["source"], sources), pc.is_in(rows["image_id"], image_ids))
        removed += rows["annotation_id"].filter(ours).chunks
    return pa.chunked_array(removed, pa.string()).combine_chunks()


def _from_other_files(dataset: Dataset, update: _Update, images: pa.Table, where: str) -> dict[str, int]:
    """How many annotations the images that the import speaks of have from files that are not in it, by file."""
    image_ids, sources = update.speaks_of(images)
    rows = dataset.table("annotations", columns=["image_id", "source"], where=where)
    others = rows.filter(pc.and_(pc.is_in(rows["image_id"], image_ids), pc.invert(pc.is_in(rows["source"], sources))))
    counts = pc.value_counts(others["source"].combine_chunks()).to_pylist()
    return {each["values"] or "(no file)": each["counts"] for each in counts}


def _append_if_any(transaction: Transaction, pieces: Iterator[pa.Table]) -> None:
    """Append pieces as they come. No piece at all leaves the table's version as it is."""
    first = next(pieces, None)
    if first is not None:
        transaction.append("annotations", chain([first], pieces))


class _Counter:
    """Passes tables of annotations on, counts their rows and notes the files they are from."""

    def __init__(self, pieces: Iterable[pa.Table]) -> None:
        self._pieces: Iterator[pa.Table] = iter(pieces)
        self.rows = 0
        self.sources: set[str] = set()

    def __iter__(self) -> Iterator[pa.Table]:
        return self

    def __next__(self) -> pa.Table:
        piece = next(self._pieces)
        self.rows += piece.num_rows
        self.sources.update(pc.unique(piece["source"]).drop_null().to_pylist())
        return piece
