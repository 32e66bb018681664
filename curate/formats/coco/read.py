"""Reading COCO: a dataset of one or several files, or results files as a predictions layer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

import pyarrow as pa

from curate.dataset.ids import from_ids
from curate.errors import FormatError, UsageError
from curate.formats.base import ReadOptions, Records, merge_classes
from curate.formats.coco.annotations import Reader, Seen
from curate.formats.coco.categories import read_categories, read_info, without_placeholder
from curate.formats.coco.files import dataset_root, open_files
from curate.formats.coco.images import CocoFile, ImageRows, place_file, read_images
from curate.formats.coco.objects import ANNOTATION_FIELDS, Id, same_id
from curate.formats.coco.panoptic import segment_folders
from curate.formats.coco.pieces import JsonFile
from curate.formats.losses import LossReport

_TEXT_ID: Final = re.compile(rb'"image_id"\s*:\s*"')
_PEEK_BYTES: Final = 65536


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read a COCO file or a folder of them.

    A results file (a JSON array of predictions) needs a predictions layer and the dataset's images and classes in
    `options`; its images must be in the dataset already.

    Raises:
        FormatError: Nothing can be read from it.
        UsageError: The folder of images that the user named does not exist.
    """
    if options.images is not None and not options.images.is_dir():
        raise UsageError("there is no such folder of images", where=options.images, remedy="check --images")
    source = Path(source).absolute()
    root = dataset_root(source)
    files = open_files(source, losses)
    results = [file for file in files if "" in file.arrays]
    if len(results) == len(files):
        return _read_results(results, root, options, losses)
    for file in results:
        losses.dropped("files", "a results file is imported by itself, with --layer predictions/NAME", file.path)
    images = options.images.absolute() if options.images else None
    return _read_datasets(
        [place_file(file, root, images, options.split) for file in files if "" not in file.arrays], options, losses
    )


def _read_datasets(files: list[CocoFile], options: ReadOptions, losses: LossReport) -> Records:
    images = ImageRows()
    categories = [read_categories(file, losses) for file in files]
    row_of = [read_images(file, images, losses) for file in files]
    if images.stored:
        turned = next(iter(images.stored))
        losses.converted(
            "images",
            "labelled as stored; coordinates were turned to the EXIF orientation",
            images.columns["path"][turned],
            len(images.stored),
        )
    hashes, stored = images.hashes, images.stored
    others = Seen() if images.shared else None
    info = read_info(files, categories, losses)
    fields: set[str] = set()

    def annotations() -> Iterator[pa.Table]:
        for file, rows, own in zip(files, row_of, categories, strict=True):
            folders = segment_folders(file.json.path, file.root)
            reader = Reader(
                file.source, options.layer, rows, hashes, stored, own.names, losses, others, fields, folders
            )
            yield from reader.tables(file.json, "annotations")
        if fields:
            info[ANNOTATION_FIELDS] = dict.fromkeys(sorted(fields), "beside attributes")

    classes = merge_classes(without_placeholder(files, categories, losses), losses)
    return Records(images.table(), annotations(), classes, info)


def _read_results(files: list[JsonFile], root: Path, options: ReadOptions, losses: LossReport) -> Records:
    known = options.known_images
    if known is None:
        raise FormatError(
            "a COCO results file names images and categories by id only",
            where=files[0].path,
            remedy="import the dataset it belongs to first, then this file with --layer predictions/NAME",
        )
    rows = _rows_of_images(known, files, losses)
    names: dict[Id, str] = {info.source_id: info.name for info in options.known_classes if info.source_id is not None}
    hashes = from_ids(known["image_id"])

    def annotations() -> Iterator[pa.Table]:
        for file in files:
            source = file.path.relative_to(root).as_posix()
            yield from Reader(source, options.layer, rows, hashes, {}, names, losses).tables(file, "")

    return Records(ImageRows().table(), annotations())


def _rows_of_images(known: pa.Table, files: list[JsonFile], losses: LossReport) -> dict[Id, int]:
    """Row of each image that results may speak of, by the id that its source gave it.

    Where the source gave none, or the results have texts for ids, an image is also known by its location, its file name, and
    that without its ending, as whatever writes results for such sets calls it; a name that several images have is nobody's.
    """
    rows: dict[Id, int] = {}
    for row, text in enumerate(known["source_id"].to_pylist()):
        key = same_id(text)
        if key is not None and rows.setdefault(key, row) != row:
            losses.converted("images", "image id used twice in the dataset; predictions go to the first", key)
    if rows and not any(_TEXT_ID.search(next(file.pieces(""), b"")[:_PEEK_BYTES]) for file in files):
        return rows
    by_name: dict[Id, int | None] = {}
    for row, location in enumerate(known["location"].to_pylist()):
        name = PurePosixPath(location)
        stem = int(name.stem) if name.stem.isascii() and name.stem.isdecimal() else name.stem
        for key in {location, name.name, name.stem, stem}:
            by_name[key] = row if by_name.get(key, row) == row else None
    for key, found in by_name.items():
        if found is not None:
            rows.setdefault(key, found)
    return rows
