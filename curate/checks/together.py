"""All checks on one dataset, in one commit: every image is decoded once for embeddings and measures.

The check of shift describes the light of whole images in a pass of its own, which is not worth its time on crops.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow.compute as pc

from curate.checks.base import Result, Settings, run_checks
from curate.checks.measures.table import MEASURES
from curate.checks.registry import CHECKS
from curate.dataset import Transaction
from curate.dataset.query import in_layer
from curate.models.passes import crop_items, image_items
from curate.models.spaces import choose_encoder, embedding_table, update_tables


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
    wanted = {name: CHECKS.get(name) for name in (CHECKS.names() if run is None else run)}
    chosen = [wanted[name] for name in CHECKS.names() if name in wanted]
    return run_checks(chosen, dataset, settings, command=command, prepare=prepare)


def prepare(transaction: Transaction, settings: Settings) -> None:
    """Embed and measure the chosen images, and the objects annotated on them, in one decoding of each."""
    images = transaction.read("images", columns=["image_id", "path"], where=settings.where)
    columns = ["annotation_id", "image_id", "bbox"]
    objects = transaction.read("annotations", columns=columns, where=in_layer(settings.layer))
    objects = objects.filter(pc.is_in(objects["image_id"], images["image_id"].combine_chunks()))
    encoder = choose_encoder(transaction.base, settings.encoder)
    update_tables(
        transaction,
        [embedding_table(encoder), MEASURES],
        {"images": image_items(images), "crops": crop_items(objects, images)},
        progress=settings.progress,
    )
