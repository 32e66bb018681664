"""The images of Open Images: those that are there, those that are named, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import pyarrow as pa

from curate.dataset.ids import Hashes, hash_texts
from curate.errors import CurateError
from curate.formats.base import ReadOptions
from curate.formats.columns import Flags, Ints, images_table
from curate.formats.files import read_text
from curate.formats.locations import safe_location, split_name, split_of, stem, strip_layout
from curate.formats.losses import LossReport
from curate.formats.nearest import NearestImages
from curate.formats.open_images.tables import Codes, TableFile, as_numbers, batches
from curate.formats.sizes import Headers, probe, reconcile_sizes
from curate.formats.values import whole

IMAGE_COLUMNS: Final = (
    "ImageID", "Subset", "OriginalURL", "OriginalLandingURL", "License", "AuthorProfileURL", "Author", "Title",
    "OriginalSize", "OriginalMD5", "Thumbnail300KURL", "Rotation",
)  # fmt: skip
"""Columns of the files that list images."""

_TURNS: Final = frozenset({90.0, 180.0, 270.0})


@dataclass(frozen=True)
class Images:
    """The images of a dataset.

    Attributes:
        table: With the columns of `curate.dataset.schema.IMAGES`, n rows.
        hashes: Of their locations, shape (n,).
        row: Row of each image id's number; -1 for one that is left out.
        stored: Width and height that coordinates are parts of, 0 where nobody knows; shape (n, 2).
        headers: What the image files say.
        raw: Whether coordinates refer to the image before its EXIF orientation, shape (n,).
    """

    table: pa.Table
    hashes: Hashes
    row: Ints
    stored: Ints
    headers: Headers
    raw: Flags


@dataclass
class Named:
    """What the CSV files say of images, by image id.

    Attributes:
        ids: Numbers of the image ids.
        splits: Split of those that have one.
        said: What the images CSV says, by number of the image.
        absent: Classes that people looked for and did not find, by number of the image.
    """

    ids: Codes
    splits: dict[int, str]
    said: dict[int, dict[str, Any]]
    absent: dict[int, list[str]]


def place_images(
    named: Named, found: NearestImages, sizes: Sequence[Path], options: ReadOptions, losses: LossReport
) -> Images:
    """The images that are there, then those that are only named, by their order in the files.

    Args:
        named: What the CSV files say.
        found: The images that are there.
        sizes: Files that list sizes (Datumaro's images.meta).
        options: The user's split goes before all others.
        losses: Images that are not there, or are left out.
    """
    locations: list[str] = list(found.locations)
    paths: list[Path | None] = [found.root / name for name in locations]
    row = np.full(len(named.ids.known), -1, dtype=np.int64)
    by_id = _rows_by_id(locations, losses)
    missing = []
    for image_id, number in named.ids.known.items():
        row[number] = by_id.get(image_id, by_id.get(safe_location(image_id), -1))
        if row[number] < 0:
            missing.append((image_id, number))
    if len(missing) > (row >= 0).sum() > 0:
        losses.dropped("images", "not there, as most that are listed", missing[0][0], len(missing))
        missing = []
    taken = set(locations)
    for image_id, number in missing:
        folder = f"images/{named.splits[number]}/" if number in named.splits else "images/"
        location = f"{folder}{safe_location(image_id) or '_'}.jpg"
        if location in taken:
            continue
        losses.converted("images", "not there; kept without a file", location)
        taken.add(location)
        row[number] = len(locations)
        locations.append(location)
        paths.append(None)
    return _with_sizes(locations, paths, row, named, sizes, options, losses)


def _rows_by_id(locations: Sequence[str], losses: LossReport) -> dict[str, int]:
    """Rows of images by file name without ending, and by the folders inside their split before it."""
    rows: dict[str, int] = {}
    for row, location in enumerate(locations):
        name = PurePosixPath(location).stem
        inner = stem(strip_layout(location, split_of(location)))
        if rows.setdefault(name, row) != row and inner == name:
            losses.converted("images", "two images of one id; annotations go to the first", location)
        rows.setdefault(inner, row)
    return rows


def _with_sizes(
    locations: list[str],
    paths: list[Path | None],
    row: Ints,
    named: Named,
    sizes: Sequence[Path],
    options: ReadOptions,
    losses: LossReport,
) -> Images:
    stated = np.zeros((len(locations), 2), dtype=np.int64)
    for image_id, size in _stated_sizes(sizes, losses):
        number = named.ids.known.get(image_id, -1)
        if number >= 0 and row[number] >= 0:
            stated[row[number]] = size
    headers = probe(paths, losses)
    width, height, raw = reconcile_sizes(stated[:, 0], stated[:, 1], headers, locations, losses)
    number_of = np.full(len(locations), -1, dtype=np.int64)
    is_kept = row >= 0
    number_of[row[is_kept]] = np.flatnonzero(is_kept)
    turned = np.array([named.said.get(number, {}).get("Rotation") in _TURNS for number in number_of.tolist()])
    raw = raw | (turned.astype(np.bool_) & (headers.orientation > 1) & (stated[:, 0] == 0))
    every = np.arange(len(locations))
    _, stored_width, stored_height = headers.stored(every)
    stored = np.where(raw[:, None], np.stack([stored_width, stored_height], axis=1), np.stack([width, height], axis=1))
    columns = {
        "split": [
            options.split or split_of(location) or named.splits.get(number)
            for location, number in zip(locations, number_of.tolist(), strict=True)
        ],
        "metadata": [_metadata(named, number) for number in number_of.tolist()],
        "source_id": _image_ids(named, row, len(locations)),
    }
    table = images_table(locations, paths, width, height, columns)
    return Images(table, hash_texts(locations), row, stored, headers, raw)


def _metadata(named: Named, number: int) -> str | None:
    said = dict(named.said.get(number, {}))
    if number in named.absent:
        said["verified_absent"] = named.absent[number]
    return json.dumps({"open_images": said}, ensure_ascii=False) if said else None


def _image_ids(named: Named, row: Ints, count: int) -> list[str | None]:
    ids: list[str | None] = [None] * count
    for image_id, at in zip(named.ids.known, row.tolist(), strict=True):
        if at >= 0:
            ids[at] = image_id
    return ids


def _stated_sizes(files: Iterable[Path], losses: LossReport) -> list[tuple[str, tuple[int, int]]]:
    """Image ids with their width and height: a line is id, height and width, after '#' comes a comment."""
    found = []
    for path in files:
        try:
            lines = read_text(path).splitlines()
        except CurateError as error:
            losses.dropped("annotation files", "the file cannot be read", f"{path.name}: {error.what}")
            continue
        for line in lines:
            words = line.partition("#")[0].rsplit(None, 2)
            sides = [whole(int(word)) if word.isdecimal() and len(word) < 12 else 0 for word in words[1:]]
            if len(words) == 3 and all(sides):
                found.append((words[0].strip().strip("\"'"), (sides[1], sides[0])))
    return found


# --------------------------------------------------------------------------------------------------- the CSV files


def read_named(files: Iterable[TableFile], losses: LossReport) -> tuple[Named, Codes]:
    """Everything that the CSV files say of images, and numbers for the MIDs that they name.

    Rows are only looked at for what they name; reading the annotations in them comes after.
    """
    named, mids = Named(Codes(), {}, {}, {}), Codes()
    for file in files:
        split = split_name(PurePosixPath(file.name).name.removeprefix("oidv6-").partition("-")[0])
        if file.kind == "images":
            _read_images(file, named, split, losses)
        elif file.kind in {"boxes", "masks", "labels"}:
            _read_names(file, named, mids, split)
    return named, mids


def _read_images(file: TableFile, named: Named, split: str | None, losses: LossReport) -> None:
    for batch in batches(file, IMAGE_COLUMNS, losses):
        numbers = named.ids.of(batch["ImageID"], grow=True).tolist()
        rotations = as_numbers(batch["Rotation"]).tolist()
        texts = zip(*(batch[name].to_pylist() for name in IMAGE_COLUMNS[1:-1]), strict=True)
        for number, rotation, (subset, *values) in zip(numbers, rotations, texts, strict=True):
            if number < 0:
                losses.dropped("rows", "no image is named", file.name)
                continue
            said: dict[str, Any] = {
                name: value for name, value in zip(IMAGE_COLUMNS[2:-1], values, strict=True) if value is not None
            }
            if np.isfinite(rotation):
                said["Rotation"] = rotation
            named.said.setdefault(number, said)
            if (own := split_name(subset or "") or subset or split) is not None:
                named.splits.setdefault(number, own)


def _read_names(file: TableFile, named: Named, mids: Codes, split: str | None) -> None:
    has_absent = file.kind == "labels"
    for batch in batches(file, ("ImageID", "LabelName", *(["Confidence"] if has_absent else [])), None):
        before = len(named.ids.known)
        numbers = named.ids.of(batch["ImageID"], grow=True)
        labels = mids.of(batch["LabelName"], grow=True)
        if split is not None:
            named.splits.update(dict.fromkeys(range(before, len(named.ids.known)), split))
        if has_absent:
            absent = (as_numbers(batch["Confidence"]) == 0) & (numbers >= 0) & (labels >= 0)
            names = batch["LabelName"].filter(pa.array(absent)).to_pylist()
            for number, name in zip(numbers[absent].tolist(), names, strict=True):
                named.absent.setdefault(number, []).append(name)
