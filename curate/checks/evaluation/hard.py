"""The examples that a model does worst on, as findings of kind `hard`."""

from __future__ import annotations

import pyarrow as pa

from curate.checks.boxes import NOWHERE
from curate.checks.evaluation.base import Evaluation
from curate.checks.evaluation.load import Source
from curate.checks.findings import Finding


def hard_findings(evaluation: Evaluation, source: Source, image_ids: pa.Array, check: str) -> list[Finding]:
    """One finding for each of an evaluation's hard images.

    Args:
        evaluation: Of the model.
        source: What was evaluated.
        image_ids: Of the images, in the evaluation's order.
        check: Name of the check.
    """
    labels, hard = source.labels, evaluation.hard
    locations = dict(zip(labels.images["image_id"].to_pylist(), labels.images["location"].to_pylist(), strict=True))
    columns = ["annotation_id", "source_id", "label"]
    rows = labels.annotations.select(columns).take(
        pa.array([max(row, 0) for row in hard.annotation.tolist()], pa.int64())
    )
    found = []
    for place, score, row, evidence, annotation in zip(
        hard.image.tolist(),
        hard.score.tolist(),
        hard.annotation.tolist(),
        hard.evidence,
        rows.to_pylist() if labels.annotations.num_rows else [dict.fromkeys(columns)] * len(hard.image),
        strict=True,
    ):
        image_id = image_ids[place].as_py()
        of_one = annotation if row != NOWHERE else dict.fromkeys(columns)
        found.append(
            Finding(
                kind="hard",
                score=min(max(score, 0.0), 1.0),
                image=locations[image_id],
                image_id=image_id,
                check=check,
                annotation_id=of_one["annotation_id"],
                source_annotation_id=of_one["source_id"],
                given=of_one["label"],
                evidence={
                    **evidence,
                    "layer": source.labels.layer,
                    "model": source.model.layer,
                    "task": evaluation.task,
                },
            )
        )
    return found
