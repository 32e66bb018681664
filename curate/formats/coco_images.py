"""The images of COCO files: where each one lies, what it is called in the dataset, and which way up it was labelled.

An image's location is its path relative to the dataset's root: ``train/0001.jpg`` where the file lies in a ``train`` folder.
A folder ``images`` at the root that ``file_name`` does not mention is left out, so that a dataset exported with its images
keeps its locations. Where no file is found the location is ``file_name`` itself (within the folder of a file that lies
beside its images, as Roboflow's do).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa

from curate.dataset.ids import Hashes, hash_texts, to_ids
from curate.dataset.schema import IMAGES
from curate.formats.coco_json import JsonFile, ObjectDecoder
from curate.formats.coco_objects import Id, ImageObject, decode_images, same_id
from curate.formats.files import probe, reconcile_sizes, safe_location, split_name
from curate.formats.losses import LossReport

ANNOTATION_FOLDERS: Final = frozenset({"annotations", "annotation", "labels"})
"""Folders that hold annotation files and no images: the dataset's root is the folder above."""

_OTHER_NAMES: Final = {"train": ("training",), "val": ("valid", "validation"), "test": ("testing",)}
"""What else a split's folder may be called."""

_COLUMNS = (
    "path",
    "width",
    "height",
    "split",
    "tags",
    "group",
    "frame",
    "timestamp",
    "metadata",
    "source_id",
    "source",
)
_KIND = re.compile(r"^(instances|person_keypoints|keypoints|captions|stuff|panoptic|labels|image_info)[_-](.+)$")
_NO_SPLIT = frozenset({"default", "all", "annotations", "coco", "instances", "labels"})
_ROBOFLOW = re.compile(r"^(?P<stem>.+)_(?P<suffix>[A-Za-z0-9]+)\.rf\.[0-9A-Za-z]+\.[A-Za-z]+$")
_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:[/\\]+")


@dataclass(frozen=True)
class CocoFile:
    """An annotation file in its surroundings.

    Attributes:
        json: Where its parts are.
        root: Root of the dataset.
        source: Its path relative to the root, with forward slashes.
        split: Split of its images, or None.
        folders: Where to look for images, each with what comes before ``file_name`` in the location.
        prefix: The same for images that are not found.
    """

    json: JsonFile
    root: Path
    source: str
    split: str | None
    folders: tuple[tuple[Path, str], ...]
    prefix: str


@dataclass
class ImageRows:
    """The images table while it grows: one list per column, and what annotations need to know of an image.

    Attributes:
        rows: Row of each location.
        stored: Stored width and height, and orientation, of the images (by row) that were labelled the way they are stored.
        shared: Whether some image is named by more than one file.
    """

    columns: dict[str, list[object]] = field(default_factory=lambda: {name: [] for name in _COLUMNS})
    rows: dict[str, int] = field(default_factory=dict)
    stored: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    shared: bool = False

    def table(self) -> pa.Table:
        """The table with the columns of `curate.dataset.schema.IMAGES`."""
        count = len(self.rows)
        arrays: dict[str, pa.Array] = {name: pa.nulls(count, IMAGES.field(name).type) for name in IMAGES.names}
        arrays |= {name: pa.array(values, IMAGES.field(name).type) for name, values in self.columns.items()}
        arrays["location"] = pa.array(self.rows, pa.string())
        arrays["image_id"] = to_ids(self.hashes())
        return pa.table([arrays[name] for name in IMAGES.names], schema=IMAGES)

    def hashes(self) -> Hashes:
        """Hash of each location; shape (n,)."""
        return hash_texts(self.rows)


def place_file(json: JsonFile, root: Path, images: Path | None, split: str | None) -> CocoFile:
    """Find out an annotation file's split and where its images may lie.

    Args:
        json: The file.
        root: Root of the dataset.
        images: Folder the user named, or None to look in the usual places.
        split: Split the user named, or None to take it from the names of the file and its folder.
    """
    parent = json.path.parent
    beside = parent.name.lower() not in ANNOTATION_FOLDERS
    stem = json.path.name.split(".")[0]
    kind = _KIND.match(stem)
    names = [kind[2] if kind else stem, *([parent.name] if beside and parent != root else [])]
    found = next((name for name in map(_split_named, names) if name), None)
    if found is None and kind and names[0].lower() not in _NO_SPLIT:
        found = names[0]
    split = split or found
    named = [split, *_OTHER_NAMES.get(split, ())] if split else []
    subfolders = list(dict.fromkeys([*names[:1], *named]))
    if images is not None:
        places = [images, *(images / name for name in subfolders)]
    else:
        mains = [root / "images", root, root / "JPEGImages", root / "data", root / "imgs"]
        nested = [path for name in subfolders for path in (root / "images" / name, root / name, root / name / "images")]
        places = [parent, parent / "images", *nested, *mains]
    folders = {place: _prefix(place, root, images) for place in places if place.is_dir()}
    prefix = f"{parent.relative_to(root).as_posix()}/" if beside and parent != root else ""
    return CocoFile(json, root, json.path.relative_to(root).as_posix(), split, tuple(folders.items()), prefix)


def read_images(file: CocoFile, images: ImageRows, losses: LossReport) -> dict[Id, int]:
    """Add a file's images to the table.

    Returns:
        The row of each of the file's image ids.
    """
    decoder = ObjectDecoder(ImageObject)
    finder = _Finder(file.folders)
    row_of: dict[Id, int] = {}
    missing: list[str] = []
    start, first = len(images.rows), 0
    for piece in file.json.pieces("images"):
        items, count = decode_images(decoder, piece, first, file.source, losses)
        first += count
        extras = decoder.extras(items)
        places = _locate(items, file, finder, losses)
        for number, (item, (location, path)) in enumerate(zip(items, places, strict=True)):
            if path is None:
                missing.append(location)
            row = _add(images, item, location, path, file, start, losses)
            own = {key: texts[number] for key, texts in extras.items() if texts[number]}
            if own:
                _add_extras(images, row, own, f"{file.source}: {location}", losses)
            key = same_id(item.id)
            if key is None:
                losses.converted("images", "no id: no annotation can refer to it", f"{file.source}: {location}")
            elif row_of.setdefault(key, row) != row:
                losses.converted("images", "image id used twice; annotations go to the first", f"{file.source}: {key}")
    losses.converted(
        "images",
        "image file not found; annotations are kept",
        f"{file.source}: {missing[0] if missing else ''}",
        len(missing),
    )
    _reconcile(images, start, file.source, losses)
    return row_of


def roboflow_source(file_name: str) -> str | None:
    """Name of the image that Roboflow made this one from (``a_jpg.rf.0123.jpg`` came from ``a.jpg``), or None."""
    match = _ROBOFLOW.match(file_name.rpartition("/")[2])
    return f"{match['stem']}.{match['suffix']}" if match else None


def _split_named(name: str) -> str | None:
    """The split that a file or folder name speaks of ('train2017', 'my-valid_set'), or None."""
    for token in re.split(r"[^a-z0-9]+", name.lower()):
        split = split_name(token)
        if split:
            return split
    return None


def _prefix(place: Path, root: Path, images: Path | None) -> str:
    """What comes before ``file_name`` in the locations of the images in a folder."""
    base = root if place.is_relative_to(root) else images
    parts = place.relative_to(base).parts if base is not None else ()
    if base == root and parts[:1] == ("images",):
        parts = parts[1:]
    return "".join(f"{part}/" for part in parts)


class _Finder:
    """Looks file names up in folders, listing every folder once."""

    def __init__(self, folders: Iterable[tuple[Path, str]]) -> None:
        self.folders = [(str(folder), prefix) for folder, prefix in folders]
        self._listings: dict[str, tuple[frozenset[str], frozenset[str]]] = {
            folder: _listing(folder) for folder, _ in self.folders
        }

    def find(self, name: str) -> tuple[str, str] | None:
        """Location and path of a file, by its relative name."""
        parent, _, base = name.rpartition("/")
        for folder, prefix in self.folders:
            files, _ = self._list(folder, parent)
            if base in files:
                return prefix + name, f"{folder}/{name}"
        return None

    def _list(self, folder: str, below: str) -> tuple[frozenset[str], frozenset[str]]:
        path = f"{folder}/{below}" if below else folder
        known = self._listings.get(path)
        if known is None:
            above, _, name = below.rpartition("/")
            known = _listing(path) if name in self._list(folder, above)[1] else (frozenset(), frozenset())
            self._listings[path] = known
        return known


def _listing(folder: str) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the files and of the folders in a folder."""
    try:
        with os.scandir(folder) as entries:
            kinds = [(entry.name, entry.is_dir()) for entry in entries]
    except OSError:
        return frozenset(), frozenset()
    return frozenset(name for name, is_dir in kinds if not is_dir), frozenset(name for name, is_dir in kinds if is_dir)


def _locate(
    items: list[ImageObject], file: CocoFile, finder: _Finder, losses: LossReport
) -> list[tuple[str, str | None]]:
    """Location and path (None: not found) of each image."""
    places: list[tuple[str, str | None]] = []
    guesses: list[int] = []
    for item in items:
        given = item.file_name or ""
        name = clean_location(given)
        found = finder.find(name)
        if name != given:
            losses.converted("images", "file_name is not a plain relative path", f"{file.source}: {given!r}")
            suffixes = (name.split("/", start)[-1] for start in range(1, name.count("/") + 1))
            if found is None and (found := next(filter(None, map(finder.find, suffixes)), None)):
                guesses.append(len(places))
        places.append(found or (file.prefix + name, None))
    # A file that several absolute paths might mean is taken for none of them.
    shared = {path for path, count in Counter(path for _, path in places).items() if path and count > 1}
    for number in guesses:
        if places[number][1] in shared:
            places[number] = (file.prefix + clean_location(items[number].file_name or ""), None)
    return places


def clean_location(name: str) -> str:
    """A file name as a relative path with forward slashes that never leads out of the folder it is looked up in."""
    if not any(mark in name for mark in ("\\", ":", "//", "./", "/.", "\0")) and name[:1] not in {"/", "."}:
        return name
    return safe_location(_ADDRESS.sub("", name).replace("\0", "")) or "unnamed"


def _add(
    images: ImageRows,
    item: ImageObject,
    location: str,
    path: str | None,
    file: CocoFile,
    start: int,
    losses: LossReport,
) -> int:
    """Add an image, or find the row of the one that is already there."""
    known = images.rows.get(location)
    columns = images.columns
    if known is not None and known < start and path is None and columns["split"][known] != file.split:
        # Not found, and another split has that name: two files that are called the same, not one.
        location = f"{file.split or file.source}/{location}"
        losses.converted("images", "same file_name in two splits; the split was put before it", location)
        known = images.rows.get(location)
    if known is not None:
        place = f"{file.source}: {location}"
        if known >= start:
            losses.converted("images", "the same file is listed twice; taken for one image", place)
        else:
            images.shared = True
            if columns["source_id"][known] != (None if item.id is None else str(item.id)):
                losses.converted("images", "image id differs between files; the first is kept", place)
        return known
    images.rows[location] = len(images.rows)
    values = {
        "path": path,
        "width": item.width,
        "height": item.height,
        "split": file.split,
        "group": roboflow_source(location),
        "source_id": None if item.id is None else str(item.id),
        "source": file.source,
    }
    for name, column in columns.items():
        column.append(values.get(name))
    return images.rows[location]


def _add_extras(images: ImageRows, row: int, extras: dict[str, bytes], place: str, losses: LossReport) -> None:
    """Put what COCO does not define into the columns of that name, or into the metadata."""
    columns = images.columns
    if columns["group"][row] is not None and "extra" in extras:  # Roboflow: the source's name before it was cleaned
        original = msgspec.json.decode(extras["extra"])
        if isinstance(original, dict) and isinstance(original.get("name"), str):
            columns["group"][row] = original["name"]
    for name, kind in (("group", str), ("frame", int), ("timestamp", float), ("tags", list[str])):
        if name in extras:
            with contextlib.suppress(msgspec.ValidationError):
                columns[name][row] = msgspec.json.decode(extras[name], type=kind)
                del extras[name]
    if not extras:
        return
    known = columns["metadata"][row]
    if known is not None:
        old = msgspec.json.decode(str(known), type=dict[str, msgspec.Raw])
        new = {key: msgspec.json.format(text, indent=-1) for key, text in extras.items()}
        if any(key in old and bytes(old[key]) != text for key, text in new.items()):
            losses.converted("metadata", "differs between two entries of an image; the first is kept", place)
        extras = new | {key: bytes(text) for key, text in old.items()}
    pairs = (msgspec.json.encode(key) + b":" + text for key, text in extras.items())
    columns["metadata"][row] = msgspec.json.format(b"{" + b",".join(pairs) + b"}", indent=-1).decode()


def _reconcile(images: ImageRows, start: int, source: str, losses: LossReport) -> None:
    """Compare the sizes in the file with those of the images, and note which were labelled as stored."""
    columns = images.columns
    rows = [row for row in range(start, len(images.rows)) if columns["path"][row] is not None]
    paths = [Path(str(columns["path"][row])) for row in rows]
    headers = probe(paths, losses)
    given = [np.array([columns[side][row] or 0 for row in rows], dtype=np.int64) for side in ("width", "height")]
    places = [f"{source}: {path}" for path in paths]
    width, height, stored = reconcile_sizes(given[0], given[1], headers, places, losses)
    for number, row in enumerate(rows):
        columns["width"][row], columns["height"][row] = int(width[number]) or None, int(height[number]) or None
        if stored[number]:
            images.stored[row] = (int(given[0][number]), int(given[1][number]), int(headers.orientation[number]))
