"""Whether a packaged model is what it was: measured on the same images, overall and in every part of them, and image by image.

An average hides that a quantised model has stopped seeing in the dark, so slices are judged as the whole is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.checks.findings import Finding
from curate.edge.scoring import Drops, Exam, Scores, drops, score_model
from curate.geometry import decode_rle
from curate.imaging import Pixels
from curate.models.passes import Progress
from curate.models.predictors.base import Classes, ClassMap, Objects, Prediction, Task
from curate.runner import VOID, Prepared, Result, Runner

CHECK: Final = "package"
"""Name of the check that findings are of."""

CHANGED: Final = 0.1
"""From this change on an image is told of."""

_MATCH: Final = 0.5  # IoU from which two boxes are the same object's
_SHOWN: Final = 5  # objects of an image in a finding's evidence


class Packaged:
    """A package's runner as a `curate.models.predictors.base.Predictor`.

    Args:
        runner: It.
        input_size: About how many pixels images are wanted at, as the original wants them: both are given the same pixels.

    Attributes:
        uncertainties: Of every image so far, 0 to 1.
    """

    def __init__(self, runner: Runner, input_size: int | None) -> None:
        self._runner = runner
        self.name = f"package:{runner.package.id}"
        self.task: Task = runner.package.task  # type: ignore[assignment]  # one of `source.TASKS`
        self.classes = runner.package.classes
        self.input_size = input_size
        self.uncertainties: list[float] = []

    def prepare(self, pixels: Pixels) -> Prepared:
        """One image as the model takes it."""
        return self._runner.prepare(pixels)

    def predict(self, prepared: Sequence[Prepared]) -> list[Prediction]:
        """What is on n prepared images."""
        results = self._runner.run_prepared(prepared)
        self.uncertainties += [result.uncertainty for result in results]
        return [as_prediction(result) for result in results]


@dataclass(frozen=True)
class Parity:
    """An original and its package on the same n images.

    Attributes:
        before: The original.
        after: The package.
        drops: What was lost.
        agreement: Of their answers: 1 less the mean change of an image.
        changes: How much the answer on each image changed, 0 to 1; shape (n,).
        uncertainties: How unsure the package is of each image, 0 to 1; shape (n,).
        chosen: Which images these are, in words.
        notes: What was left out.
        limits: How much may be lost of all images, and of any slice that is large enough.
    """

    before: Scores
    after: Scores
    drops: Drops
    agreement: float
    changes: npt.NDArray[np.float64] = field(repr=False)
    uncertainties: npt.NDArray[np.float64] = field(repr=False)
    chosen: str
    notes: Sequence[str]
    limits: tuple[float, float]

    @property
    def refusals(self) -> list[str]:
        """Why no package is made, in words; none where one is."""
        return self.drops.refusals(*self.limits)

    def changed(self, most: int) -> list[int]:
        """Rows of the images whose answer changed most, at most so many, from `CHANGED` on."""
        order = np.argsort(-self.changes, kind="stable")[:most]
        return [int(row) for row in order if self.changes[row] >= CHANGED]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, without single images."""
        return {
            "images": len(self.changes),
            "chosen": self.chosen,
            "original": self.before.to_json(),
            "packaged": self.after.to_json(),
            "drop": self.drops.overall,
            "drop_per_class": dict(self.drops.per_class),
            "drop_per_slice": dict(self.drops.per_slice),
            "agreement": self.agreement,
            "max_drop": self.limits[0],
            "max_slice_drop": self.limits[1],
        }


def compare(exam: Exam, runner: Runner, limits: tuple[float, float], progress: Progress | None = None) -> Parity:
    """Measure a package against the exam's own model.

    Args:
        exam: Of the original.
        runner: Of the package.
        limits: How much of the metric may be lost, and how much of any slice's.
        progress: Told (images done, images to do) for each of the two models.
    """
    before = score_model(exam, exam.subject.predictor, progress)
    packaged = Packaged(runner, exam.subject.predictor.input_size)
    after = score_model(exam, packaged, progress)
    changed = changes(before.results, after.results, exam.subject.predictor.task)
    agreement = 1.0 if not len(changed) else float(1 - changed.mean())
    unsure = np.array(packaged.uncertainties)
    return Parity(before, after, drops(before, after), agreement, changed, unsure, exam.chosen, exam.notes, limits)


def changed_findings(parity: Parity, exam: Exam, locations: Mapping[str, str], most: int) -> list[Finding]:
    """The images whose answer changed most, as findings of kind `hard`; their locations are given by their ids."""
    names = exam.subject.mapping.names
    rows = parity.changed(most)
    before, after = (
        scores.results.take(pa.array(rows, pa.int64())).to_pylist() for scores in (parity.before, parity.after)
    )
    found = []
    for row, was, now in zip(rows, before, after, strict=True):
        image_id = exam.image_ids[row]
        found.append(
            Finding(
                kind="hard",
                score=float(parity.changes[row]),
                image=locations[image_id],
                image_id=image_id,
                check=CHECK,
                evidence={
                    "why": "the packaged model says something else than the original",
                    "change": round(float(parity.changes[row]), 4),
                    "original": parity.before.model,
                    "packaged": parity.after.model,
                    "before": _told(was, names),
                    "after": _told(now, names),
                },
            )
        )
    return found


def as_prediction(result: Result) -> Prediction:
    """What a runner says, as a predictor would say it."""
    if result.probabilities is not None:
        return Classes(result.probabilities)
    if result.boxes is not None and result.labels is not None and result.scores is not None:
        return Objects(result.size, result.boxes, result.labels, result.scores)
    assert result.class_map is not None
    assert result.confidence is not None
    return ClassMap(result.class_map, result.confidence)


def changes(before: pa.Table, after: pa.Table, task: Task) -> npt.NDArray[np.float64]:
    """How different two answers on each of n images are, from 0 to 1; shape (n,).

    classify: the total variation distance of the probabilities. detect: 1 less the part of all scores that lies on objects which
    both found, of one class and overlapping by half. segment: the part of the pixels that have a class in either whose class is
    another.

    Args:
        before: n rows of `curate.models.predictors.results.RESULTS`.
        after: The same of the other model.
        task: What they give.
    """
    differ = {"classify": _labels_changed, "segment": _pixels_changed}.get(task, _objects_changed)
    rows = zip(before.to_pylist(), after.to_pylist(), strict=True)
    return np.array([differ(one, other) for one, other in rows], dtype=np.float64)


Row = Mapping[str, Any]


def _labels_changed(one: Row, other: Row) -> float:
    if not one["objects"] or not other["objects"]:
        return float(bool(one["objects"]) != bool(other["objects"]))
    probabilities = [np.array(each["objects"][0]["probabilities"], np.float64) for each in (one, other)]
    return float(np.clip(np.abs(probabilities[0] - probabilities[1]).sum() / 2, 0, 1))


def _objects_changed(one: Row, other: Row) -> float:
    total = sum(each["score"] for row in (one, other) for each in row["objects"])
    left = sorted(other["objects"], key=lambda each: -each["score"])
    common = 0.0
    for each in sorted(one["objects"], key=lambda each: -each["score"]):
        same = [
            rival for rival in left if rival["label"] == each["label"] and _iou(each["bbox"], rival["bbox"]) >= _MATCH
        ]
        if same:
            left.remove(same[0])
            common += min(each["score"], same[0]["score"])
    return float(np.clip(1 - 2 * common / total, 0, 1)) if total else 0.0


def _iou(one: Sequence[float], other: Sequence[float]) -> float:
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    common = max(across, 0.0) * max(down, 0.0)
    return common / (one[2] * one[3] + other[2] * other[3] - common)


def _pixels_changed(one: Row, other: Row) -> float:
    maps = [_class_map(row) for row in (one, other)]
    either = (maps[0] != VOID) | (maps[1] != VOID)
    return float((maps[0] != maps[1])[either].mean()) if either.any() else 0.0


def _class_map(row: Row) -> npt.NDArray[np.int64]:
    drawn = np.full(row["size"], VOID, np.int64)
    for each in row["objects"]:
        drawn[decode_rle(each["rle"], row["size"]) != 0] = each["label"]
    return drawn


def _told(row: Row, names: Sequence[str]) -> Any:
    """What a model said of an image, for a person."""
    if row["size"] is None:
        return {names[each["label"]]: round(each["score"], 3) for each in row["objects"]}
    if any(each["rle"] for each in row["objects"]):
        drawn = _class_map(row)
        return {names[label]: int((drawn == label).sum()) for label in np.unique(drawn).tolist() if label != VOID}
    surest = sorted(row["objects"], key=lambda each: -each["score"])[:_SHOWN]
    return [{"label": names[each["label"]], "score": round(each["score"], 3)} for each in surest]
