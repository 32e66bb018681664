"""Which COCO files there are: recognising one, finding those of a folder, and the root of the dataset they belong to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from curate.errors import FormatError
from curate.formats.base import Detection
from curate.formats.coco.images import ANNOTATION_FOLDERS
from curate.formats.coco.pieces import JsonFile, index
from curate.formats.files import is_image
from curate.formats.locations import split_name
from curate.formats.losses import LossReport

_ARRAYS = ("images", "annotations", "categories")
_PEEK_BYTES = 65536
_MOST_FILES_LOOKED_AT = 20
_COMPARED_BYTES = 1024 * 1024
_KEY = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
_RESULT = re.compile(rb'^\s*\[\s*\{[^{}]*"image_id"\s*:')
_REMEDY = "check the path, or say --format if it is another format"
_ROBOFLOW_FILE = "_annotations.coco.json"
_NOT_COCO = "not a COCO file: it has no array 'images' with 'annotations' or 'categories'"


def detect(source: Path) -> Detection | None:
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


def open_files(source: Path, losses: LossReport) -> list[JsonFile]:
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
        if not any(_same_bytes(other.path, path) for other in files):  # a copy would say nothing new
            files.append(file)
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


def dataset_root(source: Path) -> Path:
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
        while (block := one.read(_COMPARED_BYTES)) == two.read(_COMPARED_BYTES):
            if not block:
                return True
    return False


def _json_files(folder: Path) -> Iterator[Path]:
    """JSON files of a folder and of the folders in it, in the order of their names."""
    folders = [folder, *sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))]
    for each in folders:
        yield from sorted(path for path in each.iterdir() if path.suffix.lower() == ".json" and path.is_file())


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
