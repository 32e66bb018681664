"""Which images a model is shown: real, labelled ones that it has not learnt from, a sample of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow.compute as pc

from curate.dataset import Dataset
from curate.dataset.query import in_layer, quote
from curate.dataset.synthetic import real_only
from curate.errors import UsageError
from curate.models.predictors.base import Task
from curate.models.training.base import Task as LearntTask
from curate.models.training.examples import TEST, VALIDATION, Material, load_material
from curate.wording import counted

HELD_OUT: Final = (VALIDATION, TEST)

_LEARNT: Final[dict[Task, LearntTask]] = {
    "classify": "classify",
    "detect": "detect",
    "segment": "segment",
    "instances": "segment",
}


@dataclass(frozen=True)
class Sample:
    """Labelled images.

    Attributes:
        material: They, and what is on them.
        chosen: Which they are, in words.
        notes: What is left out.
    """

    material: Material
    chosen: str
    notes: list[str]


def learnt_task(task: Task, model: str) -> LearntTask:
    """What a model's labels are called in training.

    Raises:
        UsageError: The model gives depths, for which there are no labels.
    """
    if task not in _LEARNT:
        raise UsageError(
            "there are no labels to measure a map of depths by",
            where=model,
            remedy="name a detector, segmenter or classifier",
        )
    return _LEARNT[task]


def draw_sample(
    dataset: Dataset,
    task: LearntTask,
    *,
    layer: str,
    splits: Sequence[str] | None,
    where: str | None,
    limit: int,
    seed: int,
) -> Sample:
    """Choose images.

    Args:
        dataset: A commit of it.
        task: Whose labels they need.
        layer: Of the labels.
        splits: Of which; None for val and test where there are any, else all.
        where: SQL condition on the images.
        limit: At most so many, drawn at random; 0 for all.
        seed: Of the draw.

    Raises:
        UsageError: There are none.
    """
    notes: list[str] = []
    condition, chosen = _condition(dataset, splits, real_only(dataset, where), notes)
    ids = dataset.table("images", columns=["image_id"], where=condition)["image_id"]
    labelled = pc.unique(dataset.table("annotations", columns=["image_id"], where=in_layer(layer))["image_id"])
    there = sorted(ids.filter(pc.is_in(ids, value_set=labelled)).to_pylist())
    if not there:
        raise UsageError(
            f"no image of {chosen} has a label in the layer '{layer}'",
            where=where or dataset.name,
            remedy="loosen --where, or name other --splits or another --layer",
        )
    if 0 < limit < len(there):
        rows = np.sort(np.random.default_rng(seed).permutation(len(there))[:limit])
        chosen = f"{limit:,} of {counted(len(there), 'labelled images')} of {chosen}"
        there = [there[row] for row in rows.tolist()]
    else:
        chosen = f"{counted(len(there), 'labelled images')} of {chosen}"
    condition = f"image_id IN ({', '.join(map(quote, there))})"
    material = load_material(dataset, task, layer, condition)
    return Sample(material, chosen, [*notes, *material.notes])


def _condition(
    dataset: Dataset, splits: Sequence[str] | None, where: str | None, notes: list[str]
) -> tuple[str | None, str]:
    """The condition on the images, and which they are in words."""
    asked = HELD_OUT if splits is None else tuple(splits)
    named = " and ".join(asked)
    of_splits = f"split IN ({', '.join(map(quote, asked))})"
    if splits is None and not dataset.count("images", where=of_splits):
        notes.append("no image is in the splits val or test: the model may have learnt from these")
        return where, "all splits"
    return of_splits if where is None else f"({where}) AND {of_splits}", f"the splits {named}" if len(
        asked
    ) > 1 else named
