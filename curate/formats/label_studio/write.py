"""Writing Label Studio's JSON: ``tasks.json``, ``label_config.xml`` and ``images/``; see `curate.formats.label_studio`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.formats.base import ClassInfo, Export, WriteOptions
from curate.formats.columns import BROKEN_MASK, broken_masks, image_rows, report_unsaid
from curate.formats.files import place_images
from curate.formats.label_studio.config import CONFIG_FILE, Control, can_write, write_config
from curate.formats.label_studio.images import OWN, TaskImage
from curate.formats.label_studio.read import METADATA
from curate.formats.label_studio.results import Controls, Row, Writer
from curate.formats.label_studio.work import UNNAMED_MODEL
from curate.formats.locations import strip_layout, unique_names
from curate.formats.losses import LossReport
from curate.formats.values import mapping, sequence, text
from curate.names import PREDICTIONS

_TASKS_AT_ONCE: Final = 2048
_ONLY: Final = TaskImage("image", None, "")
_NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_HELD: Final = (
    *("tags", "group", "frame", "timestamp", "metadata", "source_id", "rotated_box", "polygons", "rle", "keypoints"),
    *("attributes", "score", "iscrowd"),
)


@dataclass(frozen=True)
class _Context:
    """What all tasks have in common.

    Attributes:
        controls: Names of controls.
        keypoints: Names of the keypoints of each class.
        layers: Layers that are written.
        losses: What cannot be written.
    """

    controls: Controls
    keypoints: Mapping[str, Sequence[str]]
    layers: frozenset[str]
    losses: LossReport

    @property
    def has_ground_truth(self) -> bool:
        """Whether annotations are written: an export of nothing is one of images that show nothing."""
        return not self.layers or any(not layer.startswith(PREDICTIONS) for layer in self.layers)


def write(export: Export, target: Path, options: WriteOptions, losses: LossReport) -> None:
    """Write a dataset.

    Args:
        export: What to write.
        target: An empty folder.
        options: Whether images are copied to ``images/``.
        losses: Class probabilities, and geometry beside one that says more.
    """
    images = export.images
    pairs = zip(images["location"].to_pylist(), images["split"].to_pylist(), strict=True)
    names = [f"images/{name}" for name in unique_names([strip_layout(*pair) for pair in pairs], losses)]
    controls = {
        name: Control(text(each.get("type")), text(each.get("to_name")))
        for name, each in mapping(mapping(export.info.get(METADATA)).get("controls")).items()
        if isinstance(each, dict)
    }
    layers = frozenset(pc.unique(export.annotations["layer"]).to_pylist())
    keypoints = {info.name: info.keypoints for info in export.classes}
    context = _Context(Controls(controls), keypoints, layers, losses)
    written = 0
    with (target / "tasks.json").open("w", encoding="utf-8") as file:
        separator = "[\n"
        for task, count in _tasks(export, names, context):
            file.write(separator + json.dumps(task, ensure_ascii=False))
            separator = ",\n"
            written += count
        file.write("[]\n" if separator == "[\n" else "\n]\n")
    _write_config(target / CONFIG_FILE, context, export.classes)
    place_images(
        zip(images["path"].to_pylist(), (target / name for name in names), strict=True), options.images, losses
    )
    report_unsaid(images, export.annotations, "Label Studio", losses, holds=_HELD)
    has_keypoints = export.annotations["keypoints"].is_valid()
    with_keypoints = set(pc.unique(export.annotations["label"].filter(has_keypoints)).to_pylist())
    for info in export.classes:
        if info.source_id is not None or info.supercategory:
            losses.dropped("category ids and supercategories", "Label Studio has no place for them", info.name)
        losses.dropped("skeletons", "Label Studio has no place for them", info.name, bool(info.skeleton))
        is_unused = bool(info.keypoints) and info.name not in with_keypoints
        losses.dropped("names of keypoints", "of a class that no keypoints are of", info.name, is_unused)
    losses.carried("images", images.num_rows)
    losses.carried("annotations", written)


def _tasks(export: Export, names: Sequence[str], context: _Context) -> Iterator[tuple[dict[str, Any], int]]:
    """Each task, and the number of annotations in it; a few thousand of them in memory."""
    image = image_rows(export.annotations, export.images)
    order = np.argsort(image, kind="stable")
    bounds = np.searchsorted(image[order], np.arange(export.images.num_rows + 1))
    groups = _images_of_tasks(export.images)
    for start in range(0, len(groups), _TASKS_AT_ONCE):
        some = groups[start : start + _TASKS_AT_ONCE]
        rows = [row for group in some for row in group]
        places = np.concatenate([order[bounds[row] : bounds[row + 1]] for row in rows])
        annotations = _rows(export.annotations.take(pa.array(places)), context.losses)
        images = export.images.take(pa.array(rows)).to_pylist()
        own = {row: (content, names[row]) for row, content in zip(rows, images, strict=True)}
        own_annotations: dict[int, list[Row]] = {row: [] for row in rows}
        for row, annotation in zip(image[places].tolist(), annotations, strict=True):
            own_annotations[row].append(annotation)
        for group in some:
            yield _task([(*own[row], own_annotations[row]) for row in group], context)


def _images_of_tasks(images: pa.Table) -> list[list[int]]:
    """Rows of the images of each task: one as a rule; those that came from one task with several stay together."""
    tasks: dict[tuple[Any, ...], list[int]] = {}
    columns = (images[name].to_pylist() for name in ("group", "source", "source_id"))
    for row, (group, source, task) in enumerate(zip(*columns, strict=True)):
        together = task is not None and group == f"task-{task}"
        tasks.setdefault((source, task) if together else (row,), []).append(row)
    return list(tasks.values())


def _rows(annotations: pa.Table, losses: LossReport) -> list[Row]:
    """Annotations as dictionaries, with their attributes read and without masks that nothing can draw."""
    rows: list[dict[str, Any]] = annotations.to_pylist()
    for row, broken in zip(rows, broken_masks(annotations).tolist(), strict=True):
        row["attributes"] = mapping(json.loads(row["attributes"] or "{}"))
        if broken:
            losses.dropped("masks", BROKEN_MASK, row["annotation_id"])
            row["rle"] = None
    return list(rows)


def _task(
    images: Sequence[tuple[Mapping[str, Any], str, Sequence[Row]]], context: _Context
) -> tuple[dict[str, Any], int]:
    """A task of one image, or of several that came from one."""
    first = images[0][0]
    given = mapping(mapping(json.loads(first["metadata"] or "{}")).get(METADATA))
    task = {key: value for key, value in given.items() if key not in {"annotations", "predictions", "image", "meta"}}
    task["data"] = dict(mapping(given.get("data")))
    if re.fullmatch(r"[0-9]{1,18}", first["source_id"] or ""):
        task = {"id": int(first["source_id"]), **task}
    task["meta"] = {**mapping(given.get("meta")), OWN: {"images": {}}}
    done: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {"annotations": {}, "predictions": {}}
    for kind, known in done.items():
        _add_entries(sequence(given.get(kind)), kind, known, context)
    count = 0
    for content, file, rows in images:
        count += _add_image(task, content, file, rows, done, context)
    for kind, known in done.items():
        task[kind] = list(known.values())
    for entry in [*task["annotations"], *task["predictions"]]:
        entry["result"] += entry.pop("results", [])
    return task, count


def _add_image(
    task: dict[str, Any],
    content: Mapping[str, Any],
    file: str,
    rows: Sequence[Row],
    done: Mapping[str, dict[tuple[Any, ...], dict[str, Any]]],
    context: _Context,
) -> int:
    """Add one image and its annotations to a task; the number of annotations written."""
    metadata = mapping(json.loads(content["metadata"] or "{}"))
    key, item = (*sequence(mapping(metadata.pop(METADATA, None)).get("image")), "image", None)[:2]
    image = TaskImage(key, item if isinstance(item, int) else None, "") if isinstance(key, str) and key else _ONLY
    key = image.key
    task["meta"][OWN]["images"][image.name] = _own(content, file, metadata, is_id="id" in task)
    if key not in task["data"]:
        task["data"][key] = f"/data/local-files/?d={quote(file)}"
    size = (content["width"], content["height"]) if content["width"] and content["height"] else None
    is_listed = image.item is not None and isinstance(_first(task["data"][key]), str)
    writer = Writer(
        size,
        (_object_name(key, context.controls), key),
        image.item if is_listed else None,
        context.controls,
        context.keypoints,
        context.losses,
        content["location"],
    )
    for (kind, identity), group in _by_work(rows).items():
        entry = done[kind].setdefault(identity, _new_entry(kind, identity))
        entry["result"] += writer.results(group, entry["result"])
    return writer.written


def _object_name(key: str, controls: Controls) -> str:
    """The image object for a field of the data: the one that is there, else a new one of the field's name."""
    known = next((name for name, shown in controls.image_keys.items() if shown == key), None)
    if known is not None:
        return known
    return key if key not in controls.known else f"{key}_image"


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _own(content: Mapping[str, Any], file: str, metadata: Mapping[str, Any], *, is_id: bool) -> dict[str, Any]:
    """What a task has no place for of an image, for its ``meta``; the source's id, where it is not the task's."""
    said = {key: content[key] for key in ("split", "tags", "group", "frame", "timestamp", "source_id")}
    if is_id:
        said["source_id"] = None
    if content["group"] == f"task-{content['source_id']}":
        said["group"] = None
    said = {"file": file, **said, "metadata": metadata or None}
    return {key: value for key, value in said.items() if value is not None}


def _by_work(rows: Sequence[Row]) -> dict[tuple[str, tuple[Any, ...]], list[Row]]:
    """Rows by the annotation or prediction that they belong to."""
    groups: dict[tuple[str, tuple[Any, ...]], list[Row]] = {}
    for row in rows:
        said = row["attributes"]
        if row["layer"].startswith(PREDICTIONS):
            identity = ("predictions", (_hashable(said.get("prediction_id")), row["layer"].removeprefix(PREDICTIONS)))
        else:
            identity = ("annotations", (_hashable(said.get("annotation_id")), _hashable(said.get("annotator"))))
        groups.setdefault(identity, []).append(row)
    return groups


def _add_entries(
    entries: Sequence[Any], kind: str, known: dict[tuple[Any, ...], dict[str, Any]], context: _Context
) -> None:
    """The annotations or predictions that the image's task had, still without results."""
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        if kind == "predictions":
            who: Any = text(entry.get("model_version")).strip("/ ") or UNNAMED_MODEL
            is_written = f"{PREDICTIONS}{who}" in context.layers
        else:
            by = entry.get("completed_by")
            who = (text(by.get("email")) or by.get("id")) if isinstance(by, dict) else by
            is_written = context.has_ground_truth
        if is_written:
            results = sequence(entry.get("results"))
            known[_hashable(entry.get("id")), _hashable(who)] = {**entry, "result": [], "results": results}


def _new_entry(kind: str, identity: tuple[Any, ...]) -> dict[str, Any]:
    id_, who = identity
    entry: dict[str, Any] = {"result": []} if id_ is None else {"id": id_, "result": []}
    if kind == "predictions":
        return {**entry, "model_version": who}
    if who is not None:
        entry["completed_by"] = who if isinstance(who, int) else {"email": who}
    return entry


def _hashable(value: Any) -> int | str | None:
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _write_config(path: Path, context: _Context, classes: Sequence[ClassInfo]) -> None:
    """A configuration with every control that the results are of, and all classes for those that draw."""
    names = [info.name for info in classes if info.name]
    points = [point for info in classes for point in info.keypoints]
    images = context.controls.image_keys or {"image": "image"}
    controls: dict[str, Control] = {}
    for name, (control, said) in context.controls.used.items():
        if control.type == "keypointlabels":
            labels = [*points, *said]
        elif control.type.endswith("labels"):
            labels = [*names, *said]
        else:
            labels = list(said) if control.type == "choices" else []
        if can_write(control.type):
            clean = tuple(dict.fromkeys(_xml_text(label, context.losses) for label in labels))
            controls[name] = Control(control.type, control.to_name or next(iter(images)), clean)
    if not controls:
        labels = [_xml_text(name, context.losses) for name in names]
        controls = {"rectanglelabels": Control("rectanglelabels", next(iter(images)), tuple(labels))}
    write_config(path, controls, images, classes)


def _xml_text(label: str, losses: LossReport) -> str:
    clean = _NOT_XML.sub("?", label)
    if clean != label:
        losses.converted("classes", "characters that XML cannot hold: changed in the configuration", clean)
    return clean
