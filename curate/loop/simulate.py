"""A loop without a server: people's answers are the labels that the dataset has, so that strategies can be compared.

Each strategy plays on a copy of the dataset whose labels are hidden: it selects by the very code of `curate select`, and is told
the labels of what it chose. What that is worth is measured by the probe (`curate.loop.probe`) on images that no strategy may
choose: the split 'test' or 'val', else a quarter of the groups.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset import Dataset, begin, open_dataset, remove
from curate.dataset.query import in_layer
from curate.errors import DatasetNotFound, UsageError
from curate.loop.plan import Plan
from curate.loop.probe import BoolArray, Samples, accuracy, load_samples
from curate.loop.select import select_images
from curate.names import GROUND_TRUTH

_COMMAND: Final = "curate loop run --simulate"
_HELD_OUT: Final = 4


def simulate(plan: Plan, strategies: Sequence[str]) -> list[dict[str, Any]]:
    """Play a plan's rounds with each strategy.

    Args:
        plan: Its dataset, budget, rounds and seed.
        strategies: Names of strategies.

    Returns:
        One row for each strategy and round: images labelled so far, accuracy in [0, 1], and what the round gained.

    Raises:
        UsageError: The dataset has no labels to answer from, or a strategy is not known.
    """
    with begin(plan.dataset, command=_COMMAND) as transaction:
        samples = load_samples(transaction)
    held_out = samples.held_out if samples.held_out.any() else _quarter(samples, plan.seed)
    dataset = open_dataset(plan.dataset)
    tested = {samples.image_ids[number] for number in np.unique(samples.image[held_out]).tolist()}
    rows = []
    for strategy in strategies:
        with _hidden(dataset, tested) as copy:
            rows += list(_play(plan, strategy, copy, dataset, samples, held_out))
    return rows


def _play(
    plan: Plan, strategy: str, copy: str, dataset: Dataset, samples: Samples, held_out: BoolArray
) -> Iterator[dict[str, Any]]:
    answers = dataset.table("annotations", where=in_layer(GROUND_TRUTH))
    labelled: set[str] = set()
    before: float | None = None
    for number in range(1, plan.rounds + 1):
        try:
            chosen = select_images(
                copy, budget=plan.budget, strategy=strategy, seed=plan.seed + number, command=_COMMAND
            ).selected
        except UsageError:
            if number == 1:
                raise
            return  # nothing is left to label
        ids = [each.image_id for each in chosen]
        if not ids:
            return  # what is left are copies of what is labelled
        labelled.update(ids)
        with begin(copy, command=_COMMAND) as transaction:
            transaction.append("annotations", [answers.filter(pc.is_in(answers["image_id"], pa.array(ids)))])
        known = np.array([samples.image_ids[image] in labelled for image in samples.image.tolist()], dtype=bool)
        found = accuracy(samples, known & ~held_out, held_out)
        yield {
            "strategy": strategy,
            "round": number,
            "images": len(labelled),
            "accuracy": found,
            "gain": None if found is None or before is None else found - before,
        }
        before = found if found is not None else before


def _quarter(samples: Samples, seed: int) -> BoolArray:
    """A quarter of the groups, for datasets without a split to test on."""
    groups = np.random.default_rng(seed).permutation(np.unique(samples.groups))
    return np.isin(samples.groups, groups[: max(1, len(groups) // _HELD_OUT)])


@contextmanager
def _hidden(dataset: Dataset, tested: set[str]) -> Iterator[str]:
    """A copy of a dataset without labels, and without the images to test on; it goes with the block.

    What was computed of the images is copied, so that nothing is embedded again.
    """
    name = f"simulated-{secrets.token_hex(6)}"
    try:
        with begin(name, command=_COMMAND, create=True) as transaction:
            images = dataset.table("images")
            kept = pc.invert(pc.is_in(images["image_id"], pa.array(sorted(tested), pa.string())))
            transaction.append("images", [images.filter(kept)])
            for table in dataset.commit.tables:
                if table.endswith("-images"):
                    transaction.append(table, [dataset.table(table)], dataset.schema(table))
            transaction.classes = list(dataset.commit.classes)
            transaction.info = {key: value for key, value in dataset.commit.info.items() if key == "encoder"}
        yield name
    finally:
        with suppress(DatasetNotFound):  # it may not have come to be
            remove(name)
