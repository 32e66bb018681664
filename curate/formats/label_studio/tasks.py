"""Tasks out of Label Studio's JSON, whichever of its kinds, one at a time, so that a file of gigabytes is never in memory.

[{"id": 1, "data": {...}, "annotations": [{"result": [...]}], "predictions": [...]}, ...]    JSON; 'completions' once
{"id": 1, "data": {...}, ...}                                                                one task
{"tasks": [...]}                                                                             a page of the server's API
{"id": 7, "task": {"id": 1, "data": {...}}, "result": [...]}                                 target storage: an annotation
[{"id": 1, "image": ..., "label": [...], "annotator": 1, "annotation_id": 7}, ...]           JSON_MIN: one row each
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec

from curate.errors import FormatError
from curate.formats.base import Detection
from curate.formats.coco.pieces import elements, index, loads
from curate.formats.files import list_files, peek_files, read_head
from curate.formats.label_studio.config import Config
from curate.formats.losses import LossReport
from curate.formats.trees import read_json
from curate.formats.values import mapping, sequence

_HEAD_BYTES: Final = 65536
_MOST_FILES_LOOKED_AT: Final = 20
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_SHAPES: Final = re.compile(r'"(rectangle|polygon|brush|keypoint|ellipse)(labels)?"|"(original_width|image_rotation)"')
_MIN_KEYS: Final = frozenset({"annotator", "annotation_id", "lead_time"})
_MIN_FIELDS: Final = frozenset(
    {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement"}
)
_RESULTS_OF: Final = ("", "annotations.", "completions.", "predictions.")
_SIGNS: Final = frozenset({"file_upload", "inner_id", "total_annotations"}) | {
    f"{kind}.was_cancelled" for kind in ("annotations", "completions")
}
_WRAPPERS: Final = frozenset({"tasks", "task"})
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]', re.DOTALL)
_DEEPEST: Final = 12
_REMEDY: Final = "export the project as JSON, or say --format if it is another format"


@dataclass(frozen=True, slots=True)
class Task:
    """One task.

    Attributes:
        place: For the loss report.
        id: As given: a number, as a rule.
        data: What is to be labelled: references to images, and other fields.
        annotations: What people did.
        predictions: What models did.
        extra: Its other fields.
        is_min: Whether it is a row of JSON_MIN.
    """

    place: str
    id: Any
    data: dict[str, Any]
    annotations: list[Any]
    predictions: list[Any]
    extra: dict[str, Any]
    is_min: bool = False


def detect(source: Path) -> Detection | None:
    """Whether a file, or some file in a folder, looks like Label Studio's."""
    if source.is_file():
        return _claim(source) if _may_hold_tasks(source.name) else None
    names = [name for name in peek_files(source) if _may_hold_tasks(name)][:_MOST_FILES_LOOKED_AT]
    found = [(claim, name) for name in names if (claim := _claim(source / name)) is not None]
    if not found:
        return None
    claim, name = max(found, key=lambda pair: pair[0].confidence)
    return Detection(claim.confidence, f"{name}: {claim.reason}")


def task_files(source: Path) -> list[Path]:
    """The files that may hold tasks: the one given, or those of a folder and the folders below, sorted."""
    if source.is_file():
        return [source]
    return [source / name for name in list_files(source) if _may_hold_tasks(name)]


def read_tasks(path: Path, name: str, config: Config, losses: LossReport) -> Iterator[Task]:
    """The tasks of a file.

    Args:
        path: The file.
        name: What to call it in the loss report.
        config: Tells a row's answers from its data in JSON_MIN.
        losses: What is not a task.

    Raises:
        FormatError: The file cannot be read, is not JSON, or has no task in it.
    """
    found = False
    for number, item in enumerate(_items(path), 1):
        place = f"{name}: item {number}"
        task = _task(item, place, config)
        if task is None:
            losses.dropped("tasks", "not a Label Studio task", place)
            continue
        found = True
        yield task
    if not found:
        raise FormatError("no Label Studio task is in this file", where=path, remedy=_REMEDY)


def _items(path: Path) -> Iterator[Any]:
    head = _head(path)
    if not head.startswith(_UTF16) and head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        file = index(path)
        for piece in file.pieces(""):
            yield from _decode(piece)
        return
    tree = read_json(path)
    if isinstance(tree, dict) and isinstance(tree.get("tasks"), list):
        tree = tree["tasks"]
    yield from tree if isinstance(tree, list) else [tree]


def _decode(piece: bytes) -> Iterator[Any]:
    try:
        yield from msgspec.json.decode(piece, type=list[Any])
    except (msgspec.DecodeError, RecursionError):
        # NaN, halves of surrogate pairs, deep nesting: one by one, and what cannot be read is no task.
        for element in elements(piece):
            try:
                yield loads(element)
            except (ValueError, RecursionError):
                yield None


def _task(item: Any, place: str, config: Config) -> Task | None:
    """A task in one form, whichever it came in; None if it is none."""
    if not isinstance(item, dict):
        return None
    if isinstance(item.get("task"), dict) and isinstance(item.get("result"), list):
        annotation = {key: value for key, value in item.items() if key != "task"}
        item = {**item["task"], "annotations": [annotation]}
    if isinstance(item.get("data"), dict):
        extra = dict(item)
        data = extra.pop("data")
        annotations = sequence(extra.pop("annotations", None)) + sequence(extra.pop("completions", None))
        predictions = sequence(extra.pop("predictions", None))
        return Task(place, extra.pop("id", None), data, annotations, predictions, extra)
    if item.keys() & _MIN_KEYS:
        return _flattened(item, place, config)
    return None


def _flattened(row: Mapping[str, Any], place: str, config: Config) -> Task:
    """A row of JSON_MIN as a task: what looks like results of a control, or is one's by the configuration."""
    data: dict[str, Any] = {}
    result: list[dict[str, Any]] = []
    for key, value in row.items():
        if key in _MIN_FIELDS:
            continue
        answers = _answers(key, value, config)
        if answers is None:
            data[key] = value
        for answer in answers or ():
            sizes: dict[str, Any] = {
                name: answer.pop(name) for name in ("original_width", "original_height") if name in answer
            }
            result.append({"from_name": key, "value": answer, **sizes})
            if key in config.controls:
                result[-1] |= {"type": config.controls[key].type, "to_name": config.controls[key].to_name}
    annotation = {"id": row.get("annotation_id"), "completed_by": row.get("annotator"), "result": result}
    annotation |= {key: row[key] for key in ("created_at", "updated_at", "lead_time") if key in row}
    extra = {"agreement": row["agreement"]} if "agreement" in row else {}
    return Task(place, row.get("id"), data, [annotation], [], extra, is_min=True)


def _answers(key: str, value: Any, config: Config) -> list[dict[str, Any]] | None:
    """What a row's field holds as values of results; None if it is data."""
    if isinstance(value, list) and value and all(isinstance(each, dict) and _is_value(each) for each in value):
        return [{name: inner for name, inner in each.items() if name != "type"} for each in value]
    control = config.controls.get(key)
    choices = mapping(value).get("choices") if control is None else value
    if choices is None:
        return None
    if isinstance(choices, dict):
        return [dict(choices)]
    kind = control.type if control else "choices"
    return [{kind: choices if isinstance(choices, list) or kind == "rating" else [choices]}]


def _is_value(item: Mapping[str, Any]) -> bool:
    return bool(item.keys() & {"points", "rle", "original_width"}) or item.keys() >= {"x", "y"}


def _may_hold_tasks(name: str) -> bool:
    # Target storages name an annotation's file by its id alone.
    file = PurePosixPath(name).name
    return file.lower().endswith(".json") or file.isdecimal()


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise FormatError(f"the file cannot be read: {error.strerror}", where=path) from error


def _claim(path: Path) -> Detection | None:
    """What the first kilobytes say."""
    keys = _keys(read_head(path, _HEAD_BYTES))
    work = keys & {"annotations", "completions", "predictions"}
    if any(f"{kind}result.from_name" in keys and f"{kind}result.to_name" in keys for kind in _RESULTS_OF):
        return Detection(0.95, "JSON with results that have from_name and to_name")
    if "meta.curate.images" in keys and work:
        return Detection(0.95, "JSON with tasks as curate writes them")
    if "data" in keys and work:
        if any(f"{kind}.result" in keys for kind in work) or keys & _SIGNS:
            return Detection(0.9, "JSON with tasks that have data and annotations")
        return None
    if {"annotator", "annotation_id"} <= keys:
        has_shapes = _SHAPES.search(read_head(path, _HEAD_BYTES)) is not None
        return Detection(0.9 if has_shapes else 0.7, "JSON_MIN: rows with annotator and annotation_id")
    is_tasks = re.match(r'\s*\[\s*\{\s*("id"\s*:\s*\d+\s*,\s*)?"data"\s*:\s*\{', read_head(path, _HEAD_BYTES))
    return Detection(0.6, "JSON with tasks that have data") if is_tasks else None


def _keys(head: str) -> set[str]:
    """The keys of the tasks at the beginning of a JSON file, each after those that it is below: 'annotations.result'.

    Lists are left out of them, as is the 'tasks' of a page of the server's API and the 'task' of a target storage.
    """
    found: set[str] = set()
    if not head.lstrip().startswith(("[", "{")):
        return found
    parents: list[str] = []  # of each open object or list, what comes before its keys
    key = text = ""
    for match in _TOKEN.finditer(head):
        token = match[0]
        if token in "{[":
            # An object in a list has the list's parents.
            parents.append(key or (parents[-1] if parents else ""))
            key = ""
        elif token in "}]":
            if parents:
                parents.pop()
            key = ""
        elif token == ":":
            if len(parents) <= _DEEPEST:
                name = f"{parents[-1] if parents else ''}{text}"
                found.add(name)
                key = "" if name in _WRAPPERS else f"{name}."
        elif token == ",":
            key = ""
        else:
            text = token[1:-1]
    return found
