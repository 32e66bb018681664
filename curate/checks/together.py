"""All checks on one dataset, in one commit: every image is decoded once for embeddings, measures and the light in it.

Which images may be copies of one another is known only then. The images of pairs that were never compared, on the first run
nearly all, are read a second time, at 320 pixels, for the local features that pairs are compared by (`duplicates.compared`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pyarrow.compute as pc

from curate.checks.base import Check, Result, Settings, run_checks
from curate.checks.measures.table import MEASURES
from curate.checks.registry import CHECKS
from curate.checks.shift.compare import NAME as SHIFT
from curate.checks.shift.light import LIGHT
from curate.dataset import Transaction
from curate.dataset.query import in_layer
from curate.models.passes import crop_items, image_items
from curate.models.spaces import Kept, choose_encoder, embedding_table, update_tables


def check_dataset(dataset: str, settings: Settings, *, run: Sequence[str] | None = None, command: str) -> list[Result]:
    """Run checks on a dataset; one commit.

    Args:
        dataset: Its name.
        settings: For all checks.
        run: Names of the checks; None for all.
        command: The command line, for the history.

    Returns:
        What each found, in the order of the registry.

    Raises:
        UsageError: There is no such check, or no image is chosen.
        DatasetNotFound: There is no such dataset.
        UnavailableError: The encoder's weights cannot be had.
    """
    chosen = chosen_checks(run)
    kept = [MEASURES, LIGHT] if any(check.name == SHIFT for check in chosen) else [MEASURES]
    return run_checks(chosen, dataset, settings, command=command, prepare=partial(prepare, kept))


def chosen_checks(run: Sequence[str] | None) -> list[Check]:
    """Checks by their names, each once, in the order of the registry; None for all.

    Raises:
        UsageError: There is no such check.
    """
    wanted = {name: CHECKS.get(name) for name in (CHECKS.names() if run is None else run)}
    return [wanted[name] for name in CHECKS.names() if name in wanted]


def prepare(kept: Sequence[Kept], transaction: Transaction, settings: Settings) -> None:
    """Embed the chosen images and the objects annotated on them, and compute what else is kept, in one decoding of each."""
    images = transaction.read("images", columns=["image_id", "path"], where=settings.where)
    columns = ["annotation_id", "image_id", "bbox"]
    objects = transaction.read("annotations", columns=columns, where=in_layer(settings.layer))
    objects = objects.filter(pc.is_in(objects["image_id"], images["image_id"].combine_chunks()))
    encoder = choose_encoder(transaction.base, settings.encoder)
    update_tables(
        transaction,
        [embedding_table(encoder), *kept],
        {"images": image_items(images), "crops": crop_items(objects, images)},
        progress=settings.progress,
    )
