"""What a YOLO dataset's own files say of it: class names, splits, keypoints, task.

data.yaml follows Ultralytics' dataset documentation, obj.data and obj.names Darknet; classes.txt and notes.json are what
CVAT and Label Studio export.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from curate.errors import FormatError
from curate.formats.files import read_text
from curate.formats.locations import split_name

CLASS_FILES: Final = ("classes.txt", "obj.names", "_darknet.labels", "notes.json")

_NOT_SPLITS: Final = frozenset(
    {"path", "names", "nc", "download", "kpt_shape", "flip_idx", "kpt_names", "roboflow", "task", "channels"}
)
_YAML_FIRST: Final = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


@dataclass(frozen=True)
class Config:
    """What a dataset's own files say of it.

    Attributes:
        folder: Where they lie.
        base: What the paths in them are relative to.
        names: Class names by index; empty if there are none.
        splits: Folders and lists of images by split, as written.
        keypoints: Number of keypoints and of numbers for each (2 or 3), or None.
        task: 'detect', 'segment', 'obb' or 'pose' where a file or folder says so, else None.
        files: The files read, so that none is taken for a label file.
    """

    folder: Path
    base: Path
    names: dict[int, str] = field(default_factory=dict)
    splits: dict[str, list[str]] = field(default_factory=dict)
    keypoints: tuple[int, int] | None = None
    task: str | None = None
    files: frozenset[Path] = frozenset()


def read_config(source: Path) -> Config:
    """Read data.yaml, obj.data and obj.names, classes.txt or notes.json; whichever is there.

    Raises:
        FormatError: The file is not what its name says.
    """
    source = source.absolute()
    if source.is_file():
        if source.suffix.lower() in {".yaml", ".yml"}:
            return _read_yaml(source)
        if source.suffix.lower() in {".data", ".names"}:
            return _read_darknet(source.parent)
        raise FormatError(
            "a YOLO dataset is a folder, a data.yaml or an obj.data", where=source, remedy="give the folder"
        )
    yaml_file = find_yaml(source)
    if yaml_file is not None:
        return _read_yaml(yaml_file)
    return _read_darknet(source)


def find_yaml(folder: Path) -> Path | None:
    """The file in a folder that lists class names as Ultralytics' data.yaml does, or None."""
    candidates = sorted(path for ending in ("*.yaml", "*.yml") for path in folder.glob(ending) if path.is_file())
    candidates.sort(key=lambda path: path.name.lower() not in _YAML_FIRST)
    for path in candidates:
        if re.search(r"^\s*[\"']?names[\"']?\s*:", read_text(path), re.MULTILINE):
            return path
    return None


def list_lines(path: Path) -> list[str]:
    """The lines of a file that lists names or images."""
    return read_text(path).rstrip().splitlines()


def _read_yaml(path: Path) -> Config:
    try:
        # Every scalar stays text: a class named 'no' or '07' must not become False or 7.
        content = yaml.load(read_text(path), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = path if mark is None else f"{path}:{mark.line + 1}"
        raise FormatError("this is not valid YAML", where=where, remedy="mend the file") from error
    if not isinstance(content, dict):
        raise FormatError("there are no keys in it", where=path, remedy="it must have 'names' and 'train'")
    folder = path.parent
    return Config(
        folder=folder,
        base=_base_folder(folder, content.get("path")),
        names=_names(content.get("names"), path),
        splits=_split_entries(content),
        keypoints=_keypoint_shape(content.get("kpt_shape"), path),
        task=_task(content.get("task"), path),
        files=frozenset({path}),
    )


def _read_darknet(folder: Path) -> Config:
    """Darknet's obj.data with obj.names, or only a list of names, or nothing at all."""
    splits: dict[str, list[str]] = {}
    names: dict[int, str] = {}
    files = {path for name in CLASS_FILES for path in folder.glob(name)}
    files |= {path for ending in ("*.data", "*.names") for path in folder.glob(ending)}
    for path in sorted(path for path in files if path.suffix == ".data"):
        for line in read_text(path).splitlines():
            key, equals, value = (part.strip() for part in line.partition("="))
            if equals and value.lower().endswith(".txt") and (split := split_name(key)):
                splits.setdefault(split, []).append(value)
    for path in sorted(files, key=lambda path: (path.suffix != ".names", path.name)):
        if not names and path.suffix != ".data":
            names = _note_names(path) if path.suffix == ".json" else dict(enumerate(list_lines(path)))
    return Config(
        folder=folder, base=folder, names=names, splits=splits, task=_task(None, folder), files=frozenset(files)
    )


def _note_names(path: Path) -> dict[int, str]:
    """Class names from the notes.json that Label Studio writes."""
    try:
        return {int(entry["id"]): str(entry["name"]) for entry in json.loads(read_text(path))["categories"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def _names(value: Any, path: Path) -> dict[int, str]:
    if value is None or value == "":
        return {}
    try:
        if isinstance(value, list):
            return {index: _plain(name) for index, name in enumerate(value)}
        return {int(index): _plain(name) for index, name in sorted(value.items(), key=lambda item: int(item[0]))}
    except (AttributeError, ValueError, TypeError) as error:
        raise FormatError(
            "'names' is neither a list of names nor names by number",
            where=path,
            remedy="write names: [cat, dog] or names: {0: cat, 1: dog}",
        ) from error


def _plain(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError
    return name


def _keypoint_shape(value: Any, path: Path) -> tuple[int, int] | None:
    if value is None:
        return None
    try:
        count, numbers = (int(part) for part in value)
        if count > 0 and numbers in {2, 3}:
            return count, numbers
    except (ValueError, TypeError):
        pass
    raise FormatError("'kpt_shape' is not [number of keypoints, 2 or 3]", where=path, remedy="mend it or leave it out")


def _task(value: Any, place: Path) -> str | None:
    if value in {"detect", "segment", "obb", "pose"}:
        return str(value)
    words = re.split(r"[^a-z0-9]+", f"{place.parent.name} {place.name}".lower())
    return "obb" if any(word == "obb" or word.endswith("obb") for word in words) else None


def split_of_key(key: str) -> str | None:
    """The split that a key of a configuration with folders or lists speaks of; None if it is for something else."""
    return None if key in _NOT_SPLITS else split_name(key) or key


def _split_entries(content: Mapping[str, Any]) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for key, value in content.items():
        entries = [value] if isinstance(value, str) else value
        split = split_of_key(key)
        if split is None or not isinstance(entries, list) or not all(isinstance(e, str) and e for e in entries):
            continue
        if split_name(key) or any(re.search(r"[\\/]|\.txt$", entry) for entry in entries):
            splits.setdefault(split, []).extend(entries)
    return splits


def _base_folder(folder: Path, path: Any) -> Path:
    if not isinstance(path, str) or not path:
        return folder
    for candidate in (folder / path, folder.parent / path):
        if candidate.is_dir():
            return Path(os.path.normpath(candidate))
    return folder
