"""From the arrays of the pure checks to findings that say why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import numpy as np

from curate.checks.boxes import FloatArray, IntArray
from curate.checks.findings import FLAGGED, Finding, Kind, Related
from curate.checks.labels import Labels
from curate.checks.mistakes.labels import LabelErrors
from curate.checks.mistakes.tables import Suspects

_NEIGHBORS_SHOWN: Final = 3


def mislabeled_findings(
    labels: Labels, rows: IntArray, errors: LabelErrors, min_score: float, check: str, encoder: str
) -> list[Finding]:
    """Findings of the labels that are wrong with at least a probability.

    Args:
        labels: The labels judged.
        rows: int64 array of shape (n,): rows in `labels.annotations` that `errors` speaks of.
        errors: What was found about them.
        min_score: Leave out lower probabilities.
        check: Name of the check.
        encoder: Name of the encoder.
    """
    chosen = np.flatnonzero(errors.p_wrong >= min_score)
    cards = _Cards(labels, rows)
    findings = []
    for row in chosen[np.argsort(-errors.p_wrong[chosen], kind="stable")]:
        given, suggested = labels.classes[labels.label[rows[row]]], labels.classes[errors.suggested[row]]
        neighbors = _nearest(errors, int(row))
        agreeing = [pair for pair in neighbors if cards.label(pair[0]) == given]
        disagreeing = [pair for pair in neighbors if cards.label(pair[0]) == suggested]
        evidence = {
            "why": _why(given, suggested, errors, int(row), len(neighbors), len(disagreeing)),
            "flagged": bool(errors.p_wrong[row] >= FLAGGED),
            "p_wrong": float(errors.p_wrong[row]),
            "p_given": float(errors.p_given[row]),
            "p_suggested": float(errors.p_suggested[row]),
            "agreeing": [cards.card(other, similarity) for other, similarity in agreeing[:_NEIGHBORS_SHOWN]],
            "disagreeing": [cards.card(other, similarity) for other, similarity in disagreeing[:_NEIGHBORS_SHOWN]],
            "neighbors": len(neighbors),
            "encoder": encoder,
            "layer": labels.layer,
        }
        related = [cards.related(other, similarity) for other, similarity in neighbors[:_NEIGHBORS_SHOWN]]
        findings.append(
            Finding(
                kind="mislabeled",
                score=float(errors.p_wrong[row]),
                check=check,
                given=given,
                suggested=suggested,
                related=related,
                evidence=evidence,
                **cards.place(int(row)),
            )
        )
    return findings


def suspect_findings(
    labels: Labels, rows: IntArray, found: Suspects, per_image: FloatArray, models: Mapping[str, Labels], check: str
) -> list[Finding]:
    """Findings of suspected boxes.

    Args:
        labels: The labels judged.
        rows: int64 array: rows in `labels.annotations` that the suspects' annotation numbers count.
        found: The suspects.
        per_image: float64 array of shape (m,): probability that an image has any error.
        models: The predictions layers by name, in the order in which the suspects' prediction numbers count their boxes.
        check: Name of the check.
    """
    cards = _Cards(labels, rows)
    predicted = _Predicted(models)
    findings = []
    for row in range(len(found)):
        image, annotation, prediction = int(found.image[row]), int(found.annotation[row]), int(found.prediction[row])
        numbers = {name: float(column[row]) for name, column in found.evidence.items() if np.isfinite(column[row])}
        suggested_box = found.bbox[row].tolist() if np.isfinite(found.bbox[row]).all() else None
        evidence: dict[str, Any] = {
            "why": str(found.reason[row]),
            "flagged": bool(found.score[row] >= FLAGGED),
            **numbers,
        }
        evidence |= {"image_score": float(per_image[image]), "layer": labels.layer}
        if suggested_box is not None:
            evidence["suggested_bbox"] = suggested_box
        if prediction >= 0:
            evidence["prediction"] = predicted.card(prediction)
        other = int(found.related[row])
        findings.append(
            Finding(
                kind=cast(Kind, str(found.kind[row])),
                score=float(found.score[row]),
                check=check,
                given=cards.label(annotation) if annotation >= 0 else None,
                suggested=labels.classes[found.label[row]] if found.label[row] >= 0 else None,
                related=[cards.related(other, None)] if other >= 0 else [],
                evidence=evidence,
                **(cards.place(annotation) if annotation >= 0 else cards.place_on_image(image, suggested_box)),
            )
        )
    return findings


class _Cards:
    """What findings say of annotations: ids, places and labels, looked up once for all.

    Args:
        labels: The labels.
        rows: int64 array: the annotations, by which the methods number them.
    """

    def __init__(self, labels: Labels, rows: IntArray) -> None:
        chosen = labels.annotations.take(rows)
        self._annotation_ids = chosen["annotation_id"].to_pylist()
        self._source_ids = chosen["source_id"].to_pylist()
        self._boxes = labels.bbox[rows]
        self._labels = [labels.classes[label] if label >= 0 else None for label in labels.label[rows]]
        self._image = labels.image[rows]
        self._locations = labels.images["location"].to_pylist()
        self._image_ids = labels.images["image_id"].to_pylist()

    def label(self, row: int) -> str | None:
        return self._labels[row]

    def place(self, row: int) -> dict[str, Any]:
        """The part of a finding that says which annotation it is about."""
        bbox = self._boxes[row]
        return {
            **self.place_on_image(int(self._image[row]), bbox.tolist() if np.isfinite(bbox).all() else None),
            "annotation_id": self._annotation_ids[row],
            "source_annotation_id": self._source_ids[row],
        }

    def place_on_image(self, image: int, bbox: Sequence[float] | None) -> dict[str, Any]:
        return {"image": self._locations[image], "image_id": self._image_ids[image], "bbox": bbox}

    def related(self, row: int, score: float | None) -> Related:
        image = int(self._image[row])
        return Related(self._locations[image], self._image_ids[image], self._annotation_ids[row], score)

    def card(self, row: int, similarity: float) -> dict[str, Any]:
        """A neighbour, as evidence."""
        image = int(self._image[row])
        return {
            "image": self._locations[image],
            "annotation_id": self._annotation_ids[row],
            "label": self._labels[row],
            "similarity": similarity,
        }


class _Predicted:
    """The boxes of all predictions layers, numbered one layer after the other."""

    def __init__(self, models: Mapping[str, Labels]) -> None:
        self._models = list(models.values())
        self._rows = [np.flatnonzero(model.boxed) for model in self._models]
        self._ends = np.cumsum([len(rows) for rows in self._rows])

    def card(self, number: int) -> dict[str, Any]:
        """A prediction, as evidence."""
        place = int(np.searchsorted(self._ends, number, side="right"))
        model = self._models[place]
        row = int(self._rows[place][number - (self._ends[place - 1] if place else 0)])
        label = int(model.label[row])
        return {
            "layer": model.layer,
            "bbox": model.bbox[row].tolist(),
            "label": model.classes[label] if label >= 0 else None,
            "score": model.annotations["score"][row].as_py(),
        }


def _nearest(errors: LabelErrors, row: int) -> list[tuple[int, float]]:
    """Row and similarity of the nearest others; none where the labels were judged by probabilities alone."""
    if errors.neighbors is None:
        return []
    pairs = zip(errors.neighbors.indices[row], errors.neighbors.similarities[row], strict=True)
    return [(int(other), float(similarity)) for other, similarity in pairs if other >= 0]


def _why(given: str, suggested: str, errors: LabelErrors, row: int, neighbors: int, disagreeing: int) -> str:
    return (
        f"looks like '{suggested}' ({errors.p_suggested[row]:.0%}) rather than '{given}' ({errors.p_given[row]:.0%}); "
        f"{disagreeing} of the {neighbors} nearest are '{suggested}'"
    )
