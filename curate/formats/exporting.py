"""From a dataset to files: a folder or an archive that appears whole, or not at all."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.query import in_layer
from curate.dataset.store import Dataset, open_dataset
from curate.errors import InputError, UsageError
from curate.formats.archives import kind_of_name, pack
from curate.formats.base import Export, Format, WriteOptions
from curate.formats.importing import class_infos
from curate.formats.losses import LossReport
from curate.formats.registry import FORMATS
from curate.names import ALL_LAYERS, GROUND_TRUTH, SETTINGS


def export_dataset(
    name: str,
    target: Path,
    *,
    format: str,
    layer: str = GROUND_TRUTH,
    where: str | None = None,
    options: WriteOptions | None = None,
    strict: bool = False,
) -> LossReport:
    """Write a dataset, or part of it, in a file format: a folder, or an archive of it.

    Args:
        name: The dataset.
        target: Folder to make, or, by the end of its name ('.zip', '.tar', '.tar.gz' ...), archive of what would be in it;
            it must not be there yet.
        format: A format's name.
        layer: Whose annotations to write; 'all' for every layer, in formats that can keep them apart.
        where: SQL condition on the images table; None for all images.
        options: Whether images are copied or linked, and the format's variant.
        strict: Raise at the first thing that would be lost or changed; nothing is then written.

    Returns:
        What was carried, converted and dropped.

    Raises:
        UsageError: The target is there already, or there is no such format, layer or column.
        FormatError: With `strict`, something would be lost.
        InputError: The disk is full, or the target cannot be written.
    """
    writer = _writer(format, layer)
    target = target.expanduser().absolute()
    if target.exists():
        raise UsageError("the target is there already", where=target, remedy="choose another, or delete it first")
    export = _select(open_dataset(name), layer, where)
    losses = LossReport(strict=strict)
    kind = kind_of_name(target.name)
    options = options or WriteOptions()
    if kind is not None and options.images == "copy":
        options = replace(options, images="link")  # they are copied into the archive, once is enough
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    packed = target.with_name(f"{temporary.name}.{kind}")
    try:
        temporary.mkdir(parents=True)
        writer.write(export, temporary, options, losses)
        if kind is not None:
            pack(temporary, packed, kind)
        (temporary if kind is None else packed).rename(target)
    except OSError as error:
        raise InputError(
            f"the export cannot be written: {error}", where=target, remedy="free space, or choose another target"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        packed.unlink(missing_ok=True)
    return losses


def _writer(format: str, layer: str) -> Format:
    writer = FORMATS.get(format)
    if not writer.is_written:
        able = ", ".join(name for name, known in FORMATS if known.is_written)
        raise UsageError(f"{format} can be read, but not written", remedy=f"choose one of: {able}")
    if layer == ALL_LAYERS and not writer.holds_layers:
        able = ", ".join(name for name, known in FORMATS if known.is_written and known.holds_layers)
        raise UsageError(
            f"{format} cannot hold several layers",
            where="--layer",
            remedy=f"name one layer, or choose a format that can: {able or 'none yet'}",
        )
    return writer


def _select(dataset: Dataset, layer: str, where: str | None) -> Export:
    images = dataset.table("images", where=where)
    condition = None if layer == ALL_LAYERS else in_layer(layer)
    if layer not in {GROUND_TRUTH, ALL_LAYERS} and dataset.count("annotations", where=condition) == 0:
        layers = pc.unique(dataset.table("annotations", columns=["layer"])["layer"]).to_pylist()
        raise UsageError(
            f"there is no layer '{layer}'", where=dataset.name, remedy=f"layers: {', '.join(sorted(layers))}"
        )
    chosen = images["image_id"].combine_chunks()
    batches = dataset.scan("annotations", where=condition)
    if where is not None:  # batch by batch, so that what is not exported is never in memory all at once
        batches = (batch.filter(pc.is_in(batch["image_id"], chosen)) for batch in batches)
    # Writers take rows batch by batch, which puts the pieces of a column together anew each time if they are many.
    annotations = pa.Table.from_batches(batches, schema=dataset.schema("annotations")).combine_chunks()
    info = {key: value for key, value in dataset.commit.info.items() if key not in SETTINGS}
    return Export(_sorted(images), annotations, class_infos(dataset), info)


def _sorted(images: pa.Table) -> pa.Table:
    """Images by location: updates move rows about in the store, and exports of equal content should be equal."""
    return images.sort_by("location")
