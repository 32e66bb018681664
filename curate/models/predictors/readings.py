"""Which output layouts fit what a model gives: each function looks for one, and is silent where the numbers are against it.

Shapes alone do not tell: raw YOLOX and decoded YOLOX have the same. So a picture of noise is shown to the model, and a layout
fits only where its probabilities are in [0, 1], its decoded boxes lie about the cells they belong to, and its corners are in
order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from curate.models.predictors.base import Task
from curate.models.predictors.evidence import Evidence, are_corners, are_probabilities, follow_grid, sum_to_one
from curate.models.predictors.sidecar import (
    BoxesScores,
    ClassMapLayout,
    DepthMapLayout,
    Detections,
    Detr,
    LabelMap,
    Logits,
    NanoDet,
    Output,
    Rows,
    Yolov5,
    Yolov8,
    Yolox,
)
from curate.runner import grid

Array = npt.NDArray[Any]
Reader = Callable[[Evidence], Iterator[Output]]

_STRIDES: Final = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32))
_ANCHORS: Final = 3  # boxes per cell of YOLOv5
_COCO: Final = 80
_COCO_IDS: Final = 91
_MOST_QUERIES: Final = 1000
_NANODET_DISTANCES: Final = 4 * (NanoDet().reg_max + 1)
_COARSEST: Final = 64  # input pixels per cell of a map
_NORMALISED: Final = 2.0  # boxes that stay below this are parts of an input's side, not pixels

_BOXES: Final = ("boxes", "dets", "bboxes", "det_boxes", "detection_boxes", "pred_boxes")
_LABELS: Final = ("labels", "classes", "class_ids", "det_classes", "detection_classes")
_SCORES: Final = ("scores", "det_scores", "detection_scores", "confidences")
_LOGITS: Final = ("logits", "pred_logits")
_VECTORS: Final = ("logits", "probabilities", "probs", "output", "scores")
_MAPS: Final = ("out", "logits", "output")
_MASKS: Final = ("masks", "pred_masks", "detection_masks")

_NEARER_IS_LARGER: Final = ("midas", "dpt", "depth_anything", "depth-anything", "disparity", "inverse")
_METRES: Final = ("metric", "zoe", "depth_pro", "depth-pro")


def readings(evidence: Evidence, task: Task | None) -> list[Output]:
    """All layouts that fit, for a task if that is known. Finished lists come first: nothing else looks like one."""
    for group in ((_detections, _rows), (_masked_yolov8,), (_cells, _queries), (_vector,), (_pixels,)):
        found = [output for reader in group for output in reader(evidence)]
        found = [output for output in found if task in (None, task_of(output))]
        if found:
            return found
    return []


def task_of(output: Output) -> Task:
    """The task that a layout is for."""
    match output:
        case Logits():
            return "classify"
        case ClassMapLayout() | LabelMap():
            return "segment"
        case DepthMapLayout():
            return "depth"
        case Detections(masks=str()) | Yolov8(prototypes=str()):
            return "instances"
    return "detect"


def _detections(evidence: Evidence) -> Iterator[Output]:
    boxes = _named(evidence, _BOXES, lambda array: array.shape[-1] in (4, 5) and array.ndim in (2, 3))
    if boxes is None:
        boxes = _only(
            evidence, lambda array: array.ndim in (2, 3) and array.shape[-1] in (4, 5) and array.dtype.kind == "f"
        )
    if boxes is None:
        return
    shape = evidence.outputs[boxes].shape
    labels = _named(evidence, _LABELS, lambda array: array.shape == shape[:-1])
    if labels is None:
        labels = _only(evidence, lambda array: array.shape == shape[:-1] and array.dtype.kind in "iu")
    scores = _named(evidence, _SCORES, lambda array: array.shape == shape[:-1])
    if scores is None and shape[-1] == 4:
        scores = _only(evidence, lambda array: array.shape == shape[:-1] and array.dtype.kind == "f")
    if labels is None or (scores is None and shape[-1] == 4):
        return
    masks = _named(evidence, _MASKS, lambda array: array.ndim >= 3)
    if masks is None:
        masks = _only(evidence, lambda array: array.ndim > len(shape) and array.shape[: len(shape) - 1] == shape[:-1])
    tensorflow = boxes.startswith("detection_")
    yield Detections(
        boxes=boxes,
        labels=labels,
        scores=scores,
        masks=masks,
        form="yxyx" if tensorflow else "xyxy",
        normalised=tensorflow,
        background=tensorflow or len(shape) == 2,  # torchvision's, which have no axis for the batch, count from 1
    )


def _rows(evidence: Evidence) -> Iterator[Output]:
    name = _only(evidence, lambda array: array.ndim == 3 and array.shape[-1] == 6)
    if name is None or len(evidence.outputs) > 1:
        return
    rows = evidence.outputs[name][0]
    numbers, scores = rows[:, 5], rows[:, 4]
    in_order = bool((np.diff(scores) <= 0).all()) and (not len(rows) or are_probabilities(scores))
    if in_order and bool((numbers == np.round(numbers)).all()):
        normalised = bool(len(rows)) and float(np.abs(rows[:, :4]).max()) <= _NORMALISED and bool(rows[:, :4].any())
        yield Rows(output=name, normalised=normalised)


def _masked_yolov8(evidence: Evidence) -> Iterator[Output]:
    prototypes = _only(evidence, lambda array: array.ndim == 4)
    columns = _only(evidence, lambda array: array.ndim == 3)
    if prototypes is None or columns is None or len(evidence.outputs) != 2:
        return
    array, weights = evidence.outputs[columns][0], evidence.outputs[prototypes].shape[1]
    strides = _strides(array.shape[1], evidence)
    if strides is None or len(array) - weights < 5:
        return
    boxes = array[:4].T
    if are_probabilities(array[4 : len(array) - weights]) and follow_grid(boxes, evidence.size, strides):
        yield Yolov8(output=columns, prototypes=prototypes, normalised=_normalised(boxes))


def _cells(evidence: Evidence) -> Iterator[Output]:
    name = _only(evidence, lambda array: array.ndim == 3)
    if name is None or len(evidence.outputs) > 1:
        return
    rows = evidence.outputs[name][0]
    yield from _yolov8(evidence, name, rows.T)
    yield from _with_objectness(evidence, name, rows)
    yield from _nanodet(evidence, name, rows)
    yield from _yolov8(evidence, name, rows)


def _yolov8(evidence: Evidence, name: str, rows: Array) -> Iterator[Output]:
    strides = _strides(len(rows), evidence)
    classes = rows.shape[1] - 4
    if strides is None or classes < 1 or _excluded(evidence, classes) or not are_probabilities(rows[:, 4:]):
        return
    if follow_grid(rows[:, :4], evidence.size, strides):
        yield Yolov8(output=name, normalised=_normalised(rows[:, :4]))


def _with_objectness(evidence: Evidence, name: str, rows: Array) -> Iterator[Output]:
    """YOLOX, raw or decoded, and YOLOv5."""
    classes = rows.shape[1] - 5
    if classes < 1 or _excluded(evidence, classes) or not are_probabilities(rows[:, 4:]):
        return
    for per_cell in (1, _ANCHORS):
        strides = _strides(len(rows) / per_cell, evidence)
        if strides is None:
            continue
        if follow_grid(rows[:, :4], evidence.size, strides, per_cell):
            yield Yolov5(output=name, normalised=_normalised(rows[:, :4]))
        elif per_cell == 1:
            yield Yolox(output=name, strides=strides)


def _nanodet(evidence: Evidence, name: str, rows: Array) -> Iterator[Output]:
    strides = _strides(len(rows), evidence)
    classes = rows.shape[1] - _NANODET_DISTANCES
    if strides is None or classes < 1 or _excluded(evidence, classes):
        return
    if are_probabilities(rows[:, :classes]) and not are_probabilities(rows[:, classes:]):
        yield NanoDet(output=name, strides=strides)


def _queries(evidence: Evidence) -> Iterator[Output]:
    boxes = _named(evidence, _BOXES, lambda array: array.ndim == 3 and array.shape[-1] == 4)
    if boxes is None:
        boxes = _only(evidence, lambda array: array.ndim == 3 and array.shape[-1] == 4)
    if boxes is None:
        return
    shape = evidence.outputs[boxes].shape
    scores = _named(evidence, (*_SCORES, *_LOGITS), lambda array: array.ndim == 3 and array.shape[:2] == shape[:2])
    if scores is None:
        scores = _only(evidence, lambda array: array.ndim == 3 and array.shape[:2] == shape[:2] and array.shape[2] != 4)
    if scores is None:
        return
    values, rows = evidence.outputs[scores][0], evidence.outputs[boxes][0]
    if scores in _LOGITS or (not are_probabilities(values) and shape[1] <= _MOST_QUERIES and are_probabilities(rows)):
        yield from _detr(evidence, scores, boxes, values.shape[1])
        return
    layout = BoxesScores(boxes=boxes, scores=scores, normalised=_normalised(rows))
    if are_corners(rows):
        yield from _scored(evidence, layout, values)
    elif (rows[:, 2:] >= 0).all():
        yield from _scored(evidence, replace(layout, form="cxcywh"), values)


def _detr(evidence: Evidence, logits: str, boxes: str, columns: int) -> Iterator[Output]:
    """Both kinds of scores, unless the number of classes tells which: softmax has one more column, for none."""
    sigmoid, softmax = evidence.says_classes(columns), evidence.says_classes(columns - 1)
    if sigmoid is None:
        sigmoid, softmax = columns in (_COCO, _COCO_IDS), columns in (_COCO + 1, _COCO_IDS + 1)
    if sigmoid or not softmax:
        yield Detr(logits=logits, boxes=boxes, activation="sigmoid")
    if softmax or not sigmoid:
        yield Detr(logits=logits, boxes=boxes, activation="softmax")


def _scored(evidence: Evidence, layout: BoxesScores, values: Array) -> Iterator[Output]:
    columns = values.shape[1]
    if are_probabilities(values):
        yield replace(layout, background=_background(evidence, columns, columns > 1 and sum_to_one(values)))
        return
    if _background(evidence, columns, True):
        yield replace(layout, activation="softmax", background=True)
    if not _background(evidence, columns, False):
        yield replace(layout, activation="sigmoid")


def _vector(evidence: Evidence) -> Iterator[Output]:
    name = _named(evidence, _VECTORS, lambda array: array.ndim == 2)
    if name is None:
        name = _only(evidence, lambda array: array.ndim == 2)
    if name is None or evidence.outputs[name].shape[1] < 2:
        return
    values = evidence.outputs[name]
    if are_probabilities(values):
        yield Logits(output=name, activation="none")
    if not sum_to_one(values):
        yield Logits(output=name, activation="softmax")


def _pixels(evidence: Evidence) -> Iterator[Output]:
    maps = [name for name, array in evidence.outputs.items() if _is_map(array, evidence)]
    name = next((each for each in _MAPS if each in maps), maps[0] if maps else None)
    if name is None:
        return
    values = evidence.outputs[name]
    if values.dtype.kind in "iu":
        yield LabelMap(output=name, background=evidence.names is not None and evidence.names.background)
    elif values.ndim == 4 and values.shape[1] > 1:
        layout = ClassMapLayout(output=name, background=_background(evidence, values.shape[1], False))
        yield replace(layout, activation="none") if sum_to_one(np.moveaxis(values[0], 0, -1)) else layout
    else:
        yield from _depth_or_one_class(evidence, name, values)


def _depth_or_one_class(evidence: Evidence, name: str, values: Array) -> Iterator[Output]:
    hints = f"{evidence.stem} {name}".lower()
    metric = any(word in hints for word in _METRES)
    inverse = any(word in hints for word in _NEARER_IS_LARGER) and not metric
    is_depth = metric or inverse or "depth" in hints
    if is_depth or values.ndim == 3 or evidence.says_classes(1) is None:
        if not metric:
            yield DepthMapLayout(output=name, inverse=True)
        if not inverse:
            yield DepthMapLayout(output=name, inverse=False, metric=metric)
    if not is_depth and values.ndim == 4:
        yield ClassMapLayout(output=name, activation="none" if are_probabilities(values) else "sigmoid")


def _is_map(array: Array, evidence: Evidence) -> bool:
    """Whether an output, [n, h, w] or [n, c, h, w], covers the input with equally large cells on both axes."""
    if array.ndim not in (3, 4):
        return False
    (height, width), (rows, columns) = evidence.size, array.shape[-2:]
    proportional = abs(rows * width - columns * height) <= max(height, width)
    return bool(proportional and 0 < rows <= height <= rows * _COARSEST)


def _background(evidence: Evidence, columns: int, otherwise: bool) -> bool:
    """Whether the first of so many columns is none's: there is one more than names."""
    said = evidence.says_classes(columns - 1)
    return otherwise if said is None else said


def _excluded(evidence: Evidence, classes: int) -> bool:
    """Whether so many classes are out of the question; where nothing tells, 80 (COCO) beside its neighbours is believed."""
    said = evidence.says_classes(classes)
    return classes in (_COCO - 1, _COCO + 1) if said is None else not said


def _normalised(boxes: Array) -> bool:
    return float(np.abs(boxes).max()) <= _NORMALISED


def _strides(cells: float, evidence: Evidence) -> tuple[int, ...] | None:
    return next((strides for strides in _STRIDES if len(grid(evidence.size, strides)) == cells), None)


def _named(evidence: Evidence, names: tuple[str, ...], fits: Callable[[Array], bool]) -> str | None:
    """The first output that has one of the names and fits."""
    return next((name for name in names if name in evidence.outputs and fits(evidence.outputs[name])), None)


def _only(evidence: Evidence, fits: Callable[[Array], bool]) -> str | None:
    """The output that fits, if no other does."""
    found = [name for name, array in evidence.outputs.items() if fits(array)]
    return found[0] if len(found) == 1 else None
