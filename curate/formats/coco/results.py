"""Reading COCO results: what a model said, as a predictions layer of a dataset that is there already.

A results file is an array of ``image_id``, ``category_id`` and a shape; whose ids these are it does not say. They are taken for
those of the COCO file that the dataset came from. A dataset that came from elsewhere has no such ids: then images and classes
may go by their names, or `ReadOptions.ids` names the COCO file that the model was run on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import pyarrow as pa

from curate.dataset.ids import from_ids
from curate.errors import FormatError
from curate.formats.base import ReadOptions, Records
from curate.formats.coco.annotations import Reader
from curate.formats.coco.categories import read_categories
from curate.formats.coco.decoder import ObjectDecoder
from curate.formats.coco.files import dataset_root, open_files
from curate.formats.coco.images import ImageRows, place_file
from curate.formats.coco.objects import Id, ImageObject, decode_images, same_id
from curate.formats.coco.pieces import JsonFile
from curate.formats.losses import LossReport

_TEXT_ID: Final = re.compile(rb'"image_id"\s*:\s*"')
_PEEK_BYTES: Final = 65536


def read_results(files: list[JsonFile], root: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read results files into a layer of predictions.

    Args:
        files: At least one; each is an array.
        root: Folder that their names are relative to.
        options: With the images and classes of the dataset, and whose ids the files have.
        losses: Gets what cannot be read.

    Raises:
        FormatError: There is no dataset to read into; the file of ids has no images; or, while the annotations are iterated,
            there were results and not one could be used.
    """
    known = options.known_images
    if known is None:
        raise FormatError(
            "a COCO results file names images and categories by id only",
            where=files[0].path,
            remedy="import the dataset it belongs to first, then this file with --layer predictions/NAME",
        )
    meaning = (
        _meaning_of_file(options.ids, known, options, losses) if options.ids else _own(known, files, options, losses)
    )
    hashes = from_ids(known["image_id"])

    def annotations() -> Iterator[pa.Table]:
        any_read = False
        for file in files:
            source = file.path.relative_to(root).as_posix()
            reader = Reader(source, options.layer, meaning.rows, hashes, {}, meaning.names, losses)
            for table in reader.tables(file, ""):
                any_read = True
                yield table
        if not any_read:
            _refuse_unused(files[0].path, known, options.ids, losses)

    return Records(ImageRows().table(), annotations())


@dataclass(frozen=True)
class _Meaning:
    """What ids in results stand for.

    Attributes:
        rows: Row in the dataset's images of each image id.
        names: The dataset's class of each category id.
    """

    rows: Mapping[Id, int]
    names: Mapping[Id, str]


def _own(known: pa.Table, files: list[JsonFile], options: ReadOptions, losses: LossReport) -> _Meaning:
    """Ids that the dataset's source gave, and names of images and classes."""
    by_name = {same_id(info.name): info.name for info in options.known_classes}
    # A class that is called '7' is not what category 7 means.
    names: dict[Id, str] = {key: name for key, name in by_name.items() if isinstance(key, str)}
    names |= {info.source_id: info.name for info in options.known_classes if info.source_id is not None}
    return _Meaning(_rows_of_images(known, files, losses), names)


def _meaning_of_file(path: Path, known: pa.Table, options: ReadOptions, losses: LossReport) -> _Meaning:
    """Ids of the images and categories of a COCO file, as far as the dataset has such images and classes."""
    (json,) = open_files(path, losses)
    if "" in json.arrays:
        raise FormatError("a results file too, which has no images", where=path, remedy="name the COCO file it is of")
    file = place_file(json, dataset_root(path), None, None)
    rows_of = _rows_of_names(known)
    decoder = ObjectDecoder(ImageObject)
    rows: dict[Id, int] = {}
    for piece in json.pieces("images"):
        for item in decode_images(decoder, piece, 0, file.source, losses)[0]:
            name = item.file_name or ""
            row = rows_of.get(name, rows_of.get(PurePosixPath(name).name))
            key = same_id(item.id)
            if row is not None and key is not None:
                rows.setdefault(key, row)
    own = {info.name for info in options.known_classes}
    return _Meaning(rows, {key: name for key, name in read_categories(file, losses).names.items() if name in own})


def _rows_of_images(known: pa.Table, files: list[JsonFile], losses: LossReport) -> dict[Id, int]:
    """Row of each image that results may speak of, by the id that its source gave it.

    Where the source gave none, or the results have texts for ids, an image is also known by its names.
    """
    rows: dict[Id, int] = {}
    for row, text in enumerate(known["source_id"].to_pylist()):
        key = same_id(text)
        if key is not None and rows.setdefault(key, row) != row:
            losses.converted("images", "image id used twice in the dataset; predictions go to the first", key)
    if rows and not any(_TEXT_ID.search(next(file.pieces(""), b"")[:_PEEK_BYTES]) for file in files):
        return rows
    return _rows_of_names(known) | rows


def _rows_of_names(known: pa.Table) -> dict[Id, int]:
    """Row of each image by its location, its file name, and that without its ending, which may be a number.

    That is what whatever writes results for such sets calls it. A name that several images have is nobody's.
    """
    rows: dict[Id, int | None] = {}
    for row, location in enumerate(known["location"].to_pylist()):
        name = PurePosixPath(location)
        stem = int(name.stem) if name.stem.isascii() and name.stem.isdecimal() else name.stem
        for key in {location, name.name, name.stem, stem}:
            rows[key] = row if rows.get(key, row) == row else None
    return {key: row for key, row in rows.items() if row is not None}


def _refuse_unused(path: Path, known: pa.Table, ids: Path | None, losses: LossReport) -> None:
    """Raise where there were results and none was read: to say no more than that in a report would pass for success."""
    reasons = [loss for loss in losses.losses if (loss.outcome, loss.what) == ("dropped", "annotations")]
    if not reasons:
        return
    if ids is None:
        own = next((text for text in known["source_id"].to_pylist() if text is not None), None)
        name = known["location"][0].as_py() if known.num_rows else "a.jpg"
        wanted = f"the dataset's ids (as {own}) or file names (as '{name}')" if own else f"file names (as '{name}')"
        remedy = (
            f"image_id may be {wanted}; for other ids: curate predict --model 'results:{path.name}?ids=INSTANCES.json'"
        )
    else:
        remedy = f"the images in {ids} have to be the dataset's, by their file names"
    raise FormatError(
        f"not one result of {sum(loss.count for loss in reasons):,} can be used: {reasons[0].reason}",
        where=path,
        remedy=remedy,
    )
