"""The images of COCO files: where each one lies, what it is called in the dataset, and which way up it was labelled.

An image's location is its path relative to the dataset's root: ``train/0001.jpg`` where the file lies in a ``train`` folder.
A folder ``images`` at the root that ``file_name`` does not mention is left out, so that a dataset exported with its images
keeps its locations. Where no file is found the location is ``file_name`` itself (within the folder of a file that lies
beside its images, as Roboflow's do).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from curate.dataset.ids import Hashes, hash_texts, to_ids
from curate.dataset.schema import IMAGES
from curate.formats.coco.decoder import ObjectDecoder
from curate.formats.coco.fields import Ids
from curate.formats.coco.objects import Id, ImageObject, decode_images, same_id
from curate.formats.coco.pieces import JsonFile
from curate.formats.locations import safe_location, split_name
from curate.formats.losses import LossReport
from curate.formats.sizes import probe, reconcile_sizes

SPLIT: Final = "curate_split"
"""Key at a file's top level that says its split, where the file's name would be taken for another; ours alone."""

ANNOTATION_FOLDERS: Final = frozenset({"annotations", "annotation", "labels"})
"""Folders that hold annotation files and no images: the dataset's root is the folder above."""

_OTHER_NAMES: Final = {"train": ("training",), "val": ("valid", "validation"), "test": ("testing",)}
"""What else a split's folder may be called."""

_COLUMNS = ("path", "width", "height", "split", "metadata", "source_id", "source")
_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_SPARSE_COLUMNS: dict[str, Any] = {"group": str, "frame": _Int64, "timestamp": float, "tags": list[str]}
_KIND = re.compile(r"^(instances|person_keypoints|keypoints|captions|stuff|panoptic|labels|image_info)[_-](.+)$")
_NO_SPLIT = frozenset({"default", "all", "annotations", "coco", "instances", "labels"})
_BY_ROBOFLOW = ".rf."
_ROBOFLOW = re.compile(r"^(?P<stem>.+)_(?P<suffix>[A-Za-z0-9]+)\.rf\.[0-9A-Za-z]+\.[A-Za-z]+$")
_UNUSUAL = re.compile(r"^/|[\\:\0]|//|(?:^|/)\.{1,2}(?:/|$)|^\s|\s$|/$")
_SIGNS = ("\\", ":", "\0", "//", "\n/", "/\n", "/.", "\n.")
_SPACE = re.compile(r"[^\S\n]")
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
    """The images table while it grows, and what annotations need to know of an image.

    Attributes:
        columns: One value per image, by the column's name.
        sparse: Columns that few images have, by row.
        rows: Row of each location.
        stored: Stored width and height, and orientation, of the images (by row) that were labelled the way they are stored.
        shared: Whether some image is named by more than one file.
    """

    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in _COLUMNS})
    sparse: dict[str, dict[int, Any]] = field(default_factory=lambda: {name: {} for name in _SPARSE_COLUMNS})
    rows: dict[str, int] = field(default_factory=dict)
    stored: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    shared: bool = False

    def extend(
        self, places: Sequence[tuple[str, str | None]], items: Sequence[ImageObject], file: CocoFile
    ) -> Sequence[int]:
        """Add images whose locations are new and distinct; their rows."""
        rows = range(len(self.rows), len(self.rows) + len(items))
        self.rows.update(zip((location for location, _ in places), rows, strict=True))
        columns = self.columns
        columns["path"] += [path for _, path in places]
        columns["width"] += [item.width for item in items]
        columns["height"] += [item.height for item in items]
        columns["source_id"] += [item.id for item in items]
        for name, value in (("split", file.split), ("metadata", None), ("source", file.source)):
            columns[name] += [value] * len(items)
        for row, (location, _) in zip(rows, places, strict=True):
            group = roboflow_source(location) if _BY_ROBOFLOW in location else None
            if group is not None:
                self.sparse["group"][row] = group
        return rows

    def table(self) -> pa.Table:
        """The table with the columns of `curate.dataset.schema.IMAGES`."""
        count = len(self.rows)
        rare = {name: [known.get(row) for row in range(count)] for name, known in self.sparse.items() if known}
        values = self.columns | rare | {"source_id": Ids(self.columns["source_id"]).texts()}
        arrays: dict[str, pa.Array] = {name: pa.nulls(count, IMAGES.field(name).type) for name in IMAGES.names}
        arrays |= {name: pa.array(column, IMAGES.field(name).type) for name, column in values.items()}
        arrays["location"] = pa.array(self.rows, pa.string())
        arrays["image_id"] = to_ids(self.hashes)
        return pa.table([arrays[name] for name in IMAGES.names], schema=IMAGES)

    @cached_property
    def hashes(self) -> Hashes:
        """Hash of each location, once all images are there; shape (n,)."""
        return hash_texts(self.rows)


def place_file(json: JsonFile, root: Path, images: Path | None, split: str | None) -> CocoFile:
    """Find out an annotation file's split and where its images may lie.

    Args:
        json: The file.
        root: Root of the dataset.
        images: Folder the user named, or None to look in the usual places.
        split: Split the user named, or None to take it from what the file says, or the names of it and its folder.
    """
    parent = json.path.parent
    beside = parent.name.lower() not in ANNOTATION_FOLDERS
    names = [_subject(json.path.name), *([parent.name] if beside and parent != root else [])]
    found = next((name for name in map(_split_named, names) if name), None) or split_of_file(json.path.name)
    told = json.values.get(SPLIT)
    split = split or (told if isinstance(told, str) else found)
    named = [name for each in (split, found) if each for name in (each, *_OTHER_NAMES.get(each, ()))]
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
        places = _locate(items, file, finder, losses)
        missing += [location for location, path in places if path is None]
        rows = _add(images, items, places, file, start, losses)
        _add_extras(images, rows, decoder.extras(items), file.source, losses)
        _add_ids(row_of, items, rows, file.source, losses)
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
    match = _ROBOFLOW.match(file_name.rpartition("/")[2]) if _BY_ROBOFLOW in file_name else None
    return f"{match['stem']}.{match['suffix']}" if match else None


def split_of_file(name: str) -> str | None:
    """The split that an annotation file's name speaks of ('train' in 'instances_train2017.json'), or None."""
    subject = _subject(name)
    spoken = subject != name.split(".")[0] and subject.lower() not in _NO_SPLIT
    return _split_named(subject) or (subject if spoken else None)


def _subject(name: str) -> str:
    """What an annotation file is of, by its name: 'train2017' for 'instances_train2017.json'."""
    stem = name.split(".")[0]
    kind = _KIND.match(stem)
    return kind[2] if kind else stem


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
        self._places: dict[str, list[tuple[str, str, frozenset[str]]]] = {}
        self._by_case: dict[str, dict[str, list[str]]] = {}

    def find(self, name: str) -> tuple[str, str] | None:
        """Location and path of a file, by its relative name."""
        parent, _, base = name.rpartition("/")
        places = self._places.get(parent)
        for prefix, folder, files in self._with_files(parent) if places is None else places:
            if base in files:
                return prefix + name, f"{folder}/{name}"
        return None

    def find_other_case(self, name: str) -> tuple[str, str] | None:
        """Location and path of the only file whose name differs in upper and lower case alone, in the same folder."""
        parent, _, base = name.rpartition("/")
        found = [
            (
                f"{prefix}{parent}/{file}" if parent else prefix + file,
                f"{folder}/{parent}/{file}" if parent else f"{folder}/{file}",
            )
            for prefix, folder, _ in self._with_files(parent)
            for file in self._folded(folder, parent).get(base.casefold(), ())
        ]
        return found[0] if len(found) == 1 else None

    @cached_property
    def in_several(self) -> frozenset[str]:
        """Names of the files that several folders one level down have."""
        below = {
            f"{folder}/{inner}": (folder, inner) for folder, _ in self.folders for inner in self._list(folder, "")[1]
        }
        counts = Counter(name for place in below.values() for name in self._list(*place)[0])
        return frozenset(name for name, count in counts.items() if count > 1)

    def _with_files(self, parent: str) -> list[tuple[str, str, frozenset[str]]]:
        """Prefix and path of every folder that has files in that folder of it, and the names of those files."""
        if parent not in self._places:
            listed = ((prefix, folder, self._list(folder, parent)[0]) for folder, prefix in self.folders)
            self._places[parent] = [each for each in listed if each[2]]
        return self._places[parent]

    def _folded(self, folder: str, below: str) -> dict[str, list[str]]:
        """Names of the files in a folder, by what is left of them without upper and lower case."""
        path = f"{folder}/{below}" if below else folder
        if path not in self._by_case:
            self._by_case[path] = {}
            for file in self._list(folder, below)[0]:
                self._by_case[path].setdefault(file.casefold(), []).append(file)
        return self._by_case[path]

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
    given_names = [item.file_name or "" for item in items]
    plain = _all_plain(given_names)
    for given in given_names:
        name = given if plain else clean_location(given)
        found = finder.find(name)
        if name != given:
            losses.converted("images", "file_name is not a plain relative path", f"{file.source}: {given!r}")
            suffixes = (name.split("/", start)[-1] for start in range(1, name.count("/") + 1))
            if found is None and (found := next(filter(None, map(finder.find, suffixes)), None)):
                guesses.append(len(places))
        if found is None and (found := finder.find_other_case(name)):
            reason = "upper and lower case differ from the file's name; the file is taken"
            losses.converted("images", reason, f"{file.source}: {name}, {found[0]}")
            guesses.append(len(places))
        elif found is None and name in finder.in_several:
            reason = "several folders have a file of this name; none is taken"
            losses.converted("images", reason, f"{file.source}: {name}")
        places.append(found or (file.prefix + name, None))
    if not guesses:
        return places
    # A file that several guesses, or a guess and a name, might mean is taken for no guess.
    shared = {path for path, count in Counter(path for _, path in places).items() if path and count > 1}
    for number in guesses:
        if places[number][1] in shared:
            places[number] = (file.prefix + clean_location(items[number].file_name or ""), None)
    return places


def _all_plain(names: Sequence[str]) -> bool:
    """Whether `clean_location` surely changes none of these names: told from all of them at once."""
    text = "\n".join(["", *names, ""])
    return not any(sign in text for sign in _SIGNS) and not _SPACE.search(text) and text.count("\n") == len(names) + 1


def clean_location(name: str) -> str:
    """A file name as a relative path with forward slashes that never leads out of the folder it is looked up in."""
    if not _UNUSUAL.search(name):
        return name
    return safe_location(_ADDRESS.sub("", name).replace("\0", "")) or "unnamed"


def _add(
    images: ImageRows,
    items: list[ImageObject],
    places: list[tuple[str, str | None]],
    file: CocoFile,
    start: int,
    losses: LossReport,
) -> Sequence[int]:
    """Add images, or find the rows of those that are already there; the row of each."""
    distinct = {location for location, _ in places}
    if len(distinct) == len(places) and images.rows.keys().isdisjoint(distinct):
        return images.extend(places, items, file)
    return [_add_one(images, item, place, file, start, losses) for item, place in zip(items, places, strict=True)]


def _add_one(
    images: ImageRows, item: ImageObject, place: tuple[str, str | None], file: CocoFile, start: int, losses: LossReport
) -> int:
    location, path = place
    columns = images.columns
    known = images.rows.get(location)
    if known is not None and known < start and path is None and columns["split"][known] != file.split:
        # Not found, and another split has that name: two files that are called the same, not one.
        location = f"{file.split or file.source}/{location}"
        losses.converted("images", "same file_name in two splits; the split was put before it", location)
        known = images.rows.get(location)
    if known is None:
        return images.extend([(location, path)], [item], file)[0]
    where = f"{file.source}: {location}"
    if known >= start:
        losses.converted("images", "the same file is listed twice; taken for one image", where)
    else:
        images.shared = True
        if columns["source_id"][known] != item.id:
            losses.converted("images", "image id differs between files; the first is kept", where)
    return known


def _add_ids(
    row_of: dict[Id, int], items: list[ImageObject], rows: Sequence[int], source: str, losses: LossReport
) -> None:
    ids = [item.id for item in items]
    if set(map(type, ids)) == {int}:
        own: dict[Id, int] = dict(zip(ids, rows, strict=True))  # type: ignore[arg-type]
        if len(own) == len(ids) and row_of.keys().isdisjoint(own):
            row_of.update(own)
            return
    for item, row in zip(items, rows, strict=True):
        key = same_id(item.id)
        if key is None:
            losses.converted("images", "no id: no annotation can refer to it", f"{source}: {item.file_name}")
        elif row_of.setdefault(key, row) != row:
            losses.converted("images", "image id used twice; annotations go to the first", f"{source}: {key}")


def _add_extras(
    images: ImageRows, rows: Sequence[int], extras: dict[str, list[bytes]], source: str, losses: LossReport
) -> None:
    """Put what COCO does not define into the columns of that name, or into the metadata."""
    if not extras:
        return
    metadata = images.columns["metadata"]
    groups = images.sparse["group"]
    plain = "extra" not in extras and not extras.keys() & _SPARSE_COLUMNS.keys()
    for row, texts in zip(rows, zip(*extras.values(), strict=True), strict=True):
        pairs = tuple([(key, text) for key, text in zip(extras, texts, strict=True) if text])
        if plain and metadata[row] is None:
            metadata[row] = _json_object(pairs) if pairs else None
            continue
        known = dict(pairs)
        if row in groups and "extra" in known:  # Roboflow: the source's name before it was cleaned
            original = msgspec.json.decode(known["extra"])
            if isinstance(original, dict) and isinstance(original.get("name"), str):
                groups[row] = original["name"]
        rest = [pair for pair in pairs if not _is_column(images, row, *pair)]
        if metadata[row] is not None:
            rest = _merge_metadata(metadata[row], rest, f"{source}: image {images.columns['source_id'][row]}", losses)
        if rest:
            metadata[row] = _json_object(tuple(rest))


def _is_column(images: ImageRows, row: int, key: str, text: bytes) -> bool:
    if key not in _SPARSE_COLUMNS:
        return False
    try:
        images.sparse[key][row] = msgspec.json.decode(text, type=_SPARSE_COLUMNS[key])
    except msgspec.ValidationError:
        return False
    return True


def _merge_metadata(
    known: str, pairs: list[tuple[str, bytes]], place: str, losses: LossReport
) -> list[tuple[str, bytes]]:
    old = {key: bytes(text) for key, text in msgspec.json.decode(known, type=dict[str, msgspec.Raw]).items()}
    new = {key: msgspec.json.format(text, indent=-1) for key, text in pairs}
    if any(old.get(key, text) != text for key, text in new.items()):
        losses.converted("metadata", "differs between two entries of an image; the first is kept", place)
    return list((new | old).items())


@lru_cache(maxsize=1024)
def _json_object(pairs: tuple[tuple[str, bytes], ...]) -> str:
    """A JSON object of keys and JSON texts. Often all images say the same."""
    text = b",".join(msgspec.json.encode(key) + b":" + value for key, value in pairs)
    return msgspec.json.format(b"{" + text + b"}", indent=-1).decode()


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
