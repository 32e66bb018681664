"""COCO, the format of Lin et al., "Microsoft COCO: Common Objects in Context" (2014), https://cocodataset.org/#format-data.

Read: one ``.json`` file, or a folder with any of the usual layouts (``annotations/*.json`` with the images in folders next to
it; Roboflow's ``train/_annotations.coco.json`` beside the images). Boxes, polygons, run-length masks (compressed or not),
keypoints, crowds and whole-image labels; and results files as a predictions layer. Files
are read piece by piece (`curate.formats.coco_json`), so that memory does not grow with them. Writing is in
`curate.formats.coco_write`.

Coordinates and EXIF: COCO does not say whether coordinates refer to the image as it is stored or as its EXIF orientation
shows it. Where the orientation swaps width and height, the sizes in the file tell, and coordinates on the stored image are
converted. Where it does not (orientations 2, 3 and 4, and square images) they are taken to be on the oriented image.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.dataset.ids import from_ids
from curate.errors import FormatError, UsageError
from curate.formats.base import ClassInfo, Detection, Export, ReadOptions, Records, WriteOptions, merge_classes
from curate.formats.coco_annotations import Reader, Seen
from curate.formats.coco_images import ANNOTATION_FOLDERS, CocoFile, ImageRows, place_file, read_images
from curate.formats.coco_json import JsonFile, index, loads
from curate.formats.coco_objects import Id, same_id
from curate.formats.files import is_image, split_name
from curate.formats.losses import LossReport

_ARRAYS = ("images", "annotations", "categories")
_CATEGORY_KEYS = frozenset({"id", "name", "supercategory", "keypoints", "skeleton", "color"})
_COLOR = re.compile(r"^#[0-9a-fA-F]{6}$")
_PEEK_BYTES = 65536
_MOST_FILES_LOOKED_AT = 20
_LARGEST_EXTRA_BYTES = 1024 * 1024
_KEY = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
_RESULT = re.compile(rb'^\s*\[\s*\{[^{}]*"image_id"\s*:')
_REMEDY = "check the path, or say --format if it is another format"
_ROBOFLOW_FILE = "_annotations.coco.json"
_NOT_COCO = "not a COCO file: it has no array 'images' with 'annotations' or 'categories'"


class CocoFormat:
    """COCO annotation files."""

    name = "coco"

    def detect(self, source: Path) -> Detection | None:
        """Whether a file, or some file in a folder, looks like COCO."""
        try:
            files = [source] if source.is_file() else list(_json_files(source))[:_MOST_FILES_LOOKED_AT]
            found = [(file, claim) for file in files if (claim := _claim(file))]
        except OSError:
            return None
        if not found:
            return None
        file, claim = max(found, key=lambda pair: pair[1].confidence)
        if source.is_file():
            return claim
        return Detection(claim.confidence, f"{file.relative_to(source).as_posix()}: {claim.reason}")

    def read(self, source: Path, options: ReadOptions, losses: LossReport) -> Records:
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
        root = _root(source)
        files = _open_files(source, losses)
        results = [file for file in files if "" in file.arrays]
        if len(results) == len(files):
            return _read_results(results, root, options, losses)
        for file in results:
            losses.dropped("files", "a results file is imported by itself, with --layer predictions/NAME", file.path)
        images = options.images.absolute() if options.images else None
        return _read_datasets(
            [place_file(file, root, images, options.split) for file in files if "" not in file.arrays], options, losses
        )

    def write(self, export: Export, target: Path, options: WriteOptions, losses: LossReport) -> None:
        """Write ``annotations/instances_<split>.json`` files, or results files; see `curate.formats.coco_write`."""
        from curate.formats.coco_write import write

        write(export, target, options, losses)


FORMAT = CocoFormat()


@dataclass(frozen=True)
class _Categories:
    """A file's categories.

    Attributes:
        classes: One per category, in order.
        names: Class name of each category id.
        extras: What else the file says of a class, by its name.
    """

    classes: list[ClassInfo]
    names: dict[Id, str]
    extras: dict[str, dict[str, Any]]


def _read_datasets(files: list[CocoFile], options: ReadOptions, losses: LossReport) -> Records:
    images = ImageRows()
    categories = [_read_categories(file, losses) for file in files]
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

    def annotations() -> Iterator[pa.Table]:
        for file, rows, own in zip(files, row_of, categories, strict=True):
            reader = Reader(file.source, options.layer, rows, hashes, stored, own.names, losses, others)
            yield from reader.tables(file.json, "annotations")

    classes = merge_classes([own.classes for own in categories], losses)
    return Records(images.table(), annotations(), classes, _read_info(files, categories, losses))


def _read_results(files: list[JsonFile], root: Path, options: ReadOptions, losses: LossReport) -> Records:
    known = options.known_images
    if known is None:
        raise FormatError(
            "a COCO results file names images and categories by id only",
            where=files[0].path,
            remedy="import the dataset it belongs to first, then this file with --layer predictions/NAME",
        )
    rows: dict[Id, int] = {}
    for row, text in enumerate(known["source_id"].to_pylist()):
        key = same_id(text)
        if key is not None and rows.setdefault(key, row) != row:
            losses.converted("images", "image id used twice in the dataset; predictions go to the first", key)
    names: dict[Id, str] = {info.source_id: info.name for info in options.known_classes if info.source_id is not None}
    hashes = from_ids(known["image_id"])

    def annotations() -> Iterator[pa.Table]:
        for file in files:
            source = file.path.relative_to(root).as_posix()
            yield from Reader(source, options.layer, rows, hashes, {}, names, losses).tables(file, "")

    return Records(ImageRows().table(), annotations())


def _open_files(source: Path, losses: LossReport) -> list[JsonFile]:
    """Index every COCO file; those that cannot be read are reported, and raised if there is no other."""
    if source.is_file():
        return [_open_file(source)]
    files: list[JsonFile] = []
    failures: list[FormatError] = []
    for path in _json_files(source):
        try:
            file = _open_file(path)
        except FormatError as error:
            failures.append(error)
            continue
        twin = next((other for other in files if _same_bytes(other.path, path)), None)
        if twin is None:
            files.append(file)
        else:
            losses.converted("files", f"the same bytes as {twin.path.relative_to(source).as_posix()}; read once", path)
    if not files:
        if failures:
            raise failures[0]
        raise FormatError(
            "no COCO file is in this folder",
            where=source,
            remedy="give the .json file itself, or the folder that holds 'annotations'",
        )
    for failure in failures:
        losses.dropped("files", failure.what, failure.where)
    # The same person is in instances_*.json and, with keypoints, in person_keypoints_*.json: the latter says more.
    return sorted(files, key=lambda file: "keypoints" not in file.path.name)


def _open_file(path: Path) -> JsonFile:
    file = index(path)
    if "" in file.arrays:
        first = next(file.pieces(""), b"[]")[:_PEEK_BYTES]
        if first != b"[]" and b'"image_id"' not in first:
            raise FormatError("not a COCO file: an array of something else than results", where=path, remedy=_REMEDY)
        return file
    for key in _ARRAYS:
        if key in file.values:
            raise FormatError(f"not a COCO file: '{key}' is not an array", where=path, remedy=_REMEDY)
    if "images" not in file.arrays or not {"annotations", "categories"} & set(file.arrays):
        raise FormatError(_NOT_COCO, where=path, remedy=_REMEDY)
    return file


def _same_bytes(first: Path, second: Path) -> bool:
    if first.stat().st_size != second.stat().st_size:
        return False
    with first.open("rb") as one, second.open("rb") as two:
        while (block := one.read(_LARGEST_EXTRA_BYTES)) == two.read(_LARGEST_EXTRA_BYTES):
            if not block:
                return True
    return False


def _json_files(folder: Path) -> Iterator[Path]:
    """JSON files of a folder and of the folders in it, in the order of their names."""
    folders = [folder, *sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))]
    for each in folders:
        yield from sorted(path for path in each.iterdir() if path.suffix.lower() == ".json" and path.is_file())


def _root(source: Path) -> Path:
    """Root of the dataset that a file or folder belongs to; the same for each of its files as for the whole."""
    folder = source if source.is_dir() else source.parent
    holds_files = source.is_file() or any(path.suffix.lower() == ".json" for path in folder.iterdir())
    if not holds_files:
        return folder
    if folder.name.lower() in ANNOTATION_FOLDERS:
        return folder.parent
    if split_name(folder.name):  # train/_annotations.coco.json, or another name among images
        names = [path.name for path in folder.iterdir()]
        if _ROBOFLOW_FILE in names or any(map(is_image, names)):
            return folder.parent
    return folder


def _claim(path: Path) -> Detection | None:
    """What the first kilobytes, and the last ones, of a file say."""
    if path.suffix.lower() != ".json":
        return None
    with path.open("rb") as file:
        head = file.read(_PEEK_BYTES)
        file.seek(max(0, path.stat().st_size - _PEEK_BYTES))
        keys = {key.decode() for text in (head, file.read()) for key in _KEY.findall(text)}
    if _RESULT.match(head) and (b'"bbox"' in head or b'"score"' in head or b'"segmentation"' in head):
        return Detection(0.9, "an array of results with 'image_id'")
    if "images" in keys and len(keys) >= 2 and head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return Detection(1.0 if len(keys) == 3 else 0.8, f"JSON with the arrays {', '.join(sorted(keys))}")
    return None


def _read_categories(file: CocoFile, losses: LossReport) -> _Categories:
    classes: list[ClassInfo] = []
    names: dict[Id, str] = {}
    extras: dict[str, dict[str, Any]] = {}
    for number, content in enumerate(_array(file.json, "categories")):
        place = f"{file.source}: category at index {number}"
        identity = content.get("id") if isinstance(content, dict) else None
        if isinstance(identity, bool) or not isinstance(identity, int | str):
            losses.dropped("classes", "a category without an id", place)
            continue
        key = same_id(identity)
        if key in names:
            losses.dropped("classes", "category id used twice; the first is kept", place)
            continue
        name = content.get("name")
        if not isinstance(name, str | int | float) or isinstance(name, bool) or name == "":
            losses.converted("classes", "a category without a name; called by its id", place)
            name = str(identity)
        info = _class_info(str(name), key, content)
        classes.append(info)
        names[key] = info.name  # type: ignore[index]
        more = {field: value for field, value in content.items() if field not in _CATEGORY_KEYS}
        if content.get("color") is not None and info.color is None:
            more["color"] = content["color"]
        if more:
            extras.setdefault(info.name, more)
    return _Categories(classes, names, extras)


def _class_info(name: str, key: Id | None, content: dict[str, Any]) -> ClassInfo:
    parent, color = content.get("supercategory"), content.get("color")
    keypoints, skeleton = content.get("keypoints"), content.get("skeleton")
    pairs = skeleton if isinstance(skeleton, list) else []
    return ClassInfo(
        name,
        key if isinstance(key, int) else None,
        parent if isinstance(parent, str) else None,
        tuple(str(point) for point in keypoints) if isinstance(keypoints, list) else (),
        tuple((int(pair[0]), int(pair[1])) for pair in pairs if _is_pair(pair)),
        color if isinstance(color, str) and _COLOR.match(color) else None,
    )


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(number, int) for number in value)


def _read_info(files: Iterable[CocoFile], categories: Iterable[_Categories], losses: LossReport) -> dict[str, object]:
    """What the files say of themselves, JSON-ready: info, licenses, and anything else at their top level."""
    merged: dict[str, Any] = {}
    for file in files:
        own = dict(file.json.values)
        for key, pieces in file.json.arrays.items():
            if key in {"images", "annotations", "categories"}:
                continue
            if pieces and pieces[-1].stop - pieces[0].start > _LARGEST_EXTRA_BYTES:
                losses.dropped("fields", "a large array that COCO does not define", f"{file.source}: {key}")
                continue
            own[key] = list(_array(file.json, key))
        for key, value in own.items():
            if merged.setdefault(key, value) != value:
                losses.converted("fields", "differs between files; the first is kept", f"{file.source}: {key}")
    extras: dict[str, Any] = {}
    for each in categories:
        for name, more in each.extras.items():
            extras.setdefault(name, more)
    return merged | ({"category_fields": extras} if extras else {})


def _array(file: JsonFile, key: str) -> Iterator[Any]:
    for piece in file.pieces(key):
        yield from loads(piece)
