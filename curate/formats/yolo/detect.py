"""Whether a file or folder looks like a YOLO dataset."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from curate.errors import CurateError
from curate.formats.base import Detection
from curate.formats.files import is_image, peek_files, read_head
from curate.formats.locations import stem
from curate.formats.yolo.config import CLASS_FILES, find_yaml
from curate.formats.yolo.labels import is_dota
from curate.formats.yolo.layout import LABEL_FOLDERS

_LABEL_LINE: Final = re.compile(r"\s*\d+(\.0*)?(\s+-?[\d.]+([eE][-+]?\d+)?){4,}\s*$", re.MULTILINE)


def detect(source: Path) -> Detection | None:
    """A data.yaml or obj.data with names is certain; else label files whose lines look right, next to images.

    Not where the lines are DOTA's, in pixels and with class names, even if there is a data.yaml.
    """
    try:
        return _detect(source)
    except (OSError, CurateError):
        return None


def _detect(source: Path) -> Detection | None:
    if source.is_file():
        if source.suffix.lower() in {".yaml", ".yml"} and find_yaml(source.parent) is not None:
            return Detection(0.95, f"{source.name} with 'names'")
        return Detection(0.95, "Darknet's obj.data") if source.suffix.lower() == ".data" else None
    files = peek_files(source)
    first_lines = {name: _first_line(source / name) for name in files if name.lower().endswith(".txt")}
    if any(map(is_dota, first_lines.values())):
        return None
    labels = [name for name, line in first_lines.items() if _LABEL_LINE.match(line)]
    seen = f"{len(labels)} label files in a look at {len(files)} files"
    yaml_file = find_yaml(source)
    images = [name for name in files if is_image(name)]
    if yaml_file is not None and (labels or images):
        return Detection(0.95, f"{yaml_file.name} with 'names'; {seen}")
    if "obj.data" in files or "obj.names" in files:
        return Detection(0.95, f"Darknet's obj.data or obj.names; {seen}")
    if not labels:
        return None
    named = next((name for name in CLASS_FILES if name in files), None)
    if named is not None:
        return Detection(0.85, f"{named}; {seen}")
    stems = {stem(name) for name in images}
    beside = any(stem(name) in stems for name in labels)
    if beside or any(folder in name.split("/") for name in labels for folder in LABEL_FOLDERS):
        return Detection(0.75, seen)
    return Detection(0.4, seen)


def _first_line(path: Path) -> str:
    return read_head(path, 512).lstrip().split("\n", 1)[0]
