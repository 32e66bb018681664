"""`fiftyone://NAME`: a FiftyOne dataset as a source, and as a target as its users make them: splits as tags, layers as fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from curate.connectors.fiftyone.environment import connected
from curate.connectors.fiftyone.labels import Document
from curate.connectors.fiftyone.layout import IMAGE_FIELDS, Layout, declare_labels, extended
from curate.connectors.fiftyone.publish import Progress, insert_all
from curate.connectors.fiftyone.reading import CLASSES, LAYERS, read_dataset
from curate.connectors.fiftyone.samples import Renderer
from curate.connectors.fiftyone.target import open_target
from curate.dataset import Dataset, open_dataset
from curate.dataset.query import in_layer
from curate.errors import FormatError, UsageError
from curate.formats.base import ReadOptions
from curate.formats.importing import ImportResult, import_records
from curate.formats.losses import LossReport
from curate.names import ALL_LAYERS, GROUND_TRUTH

SCHEME = "fiftyone://"


def dataset_of(address: str) -> str:
    """The name in ``fiftyone://NAME``.

    Raises:
        UsageError: There is none.
    """
    name = address.removeprefix(SCHEME).strip("/")
    if not name:
        raise UsageError("an address without a dataset", where=address, remedy=f"for example {SCHEME}quickstart")
    return name


def import_fiftyone(name: str, address: str, *, options: ReadOptions, strict: bool, command: str) -> ImportResult:
    """Import a FiftyOne dataset; importing again updates.

    Args:
        name: curate's dataset, made if it is not there.
        address: ``fiftyone://NAME``.
        options: Layer of labels without a confidence; split of all images.
        strict: Raise at the first thing that would be lost or changed; nothing is then written.
        command: The command line, for the history.

    Raises:
        MissingExtra: FiftyOne is not installed.
        UnavailableError: Its database cannot be used.
        UsageError: It has no dataset of that name.
        FormatError: The dataset has no images, or (with `strict`) something would be lost.
    """
    with connected() as fiftyone:
        wanted = dataset_of(address)
        if not fiftyone.dataset_exists(wanted):
            there = ", ".join(fiftyone.list_datasets()[:20]) or "none"
            raise UsageError(
                f"FiftyOne has no dataset named '{wanted}'",
                where=address,
                remedy=f"datasets there: {there}; FIFTYONE_DATABASE_URI or FIFTYONE_DATABASE_DIR says which database",
            )
        source = open_target(fiftyone, fiftyone.load_dataset(wanted))
        return import_records(
            name,
            lambda losses: read_dataset(source, options, losses),
            format="fiftyone",
            source=address,
            layer=options.layer,
            strict=strict,
            command=command,
        )


def export_fiftyone(
    name: str,
    address: str,
    *,
    layer: str = GROUND_TRUTH,
    where: str | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> LossReport:
    """Make a FiftyOne dataset of a dataset, or of part of it.

    Args:
        name: The dataset.
        address: ``fiftyone://NAME``, which must not be there yet.
        layer: Whose annotations to write; 'all' for every layer.
        where: SQL condition on the images table; None for all images.
        strict: Raise at the first thing that would be lost or changed; nothing is then kept.
        progress: Told (done, total).

    Raises:
        MissingExtra: FiftyOne is not installed.
        UnavailableError: Its database cannot be used.
        UsageError: FiftyOne has a dataset of that name, there is no such layer, or no image is chosen.
        FormatError: With `strict`, something would be lost.
    """
    dataset = open_dataset(name)
    layout = _layout(dataset, layer)
    losses = LossReport(strict=strict)
    total = dataset.count("images", where=where)
    if not total:
        raise UsageError(
            "there are no images to export", where=where or name, remedy="loosen --where, or import images"
        )
    with connected() as fiftyone:
        made = _new(fiftyone, dataset_of(address), address)
        try:
            target = open_target(fiftyone, made)
            declare_labels(fiftyone, made, layout)
            for field, type_ in (*IMAGE_FIELDS.items(), ("source_id", "StringField")):
                made.add_sample_field(field, getattr(fiftyone, type_))
            renderer = Renderer(dataset, layout, target.make_id, losses, bare=True)
            done = 0
            for count in insert_all(target, _counted(renderer.documents(where=where), layout, losses), own=False):
                done += count
                if progress is not None:
                    progress(done, total)
            made.info = {
                LAYERS: {field: held[0] for field, held in layout.fields.items()},
                CLASSES: dataset.commit.classes,
            }
            losses.carried("classes", len(dataset.commit.classes))
            made.default_classes = [info["name"] for info in dataset.commit.classes]
            made.save()
        except BaseException:
            fiftyone.delete_dataset(made.name)
            raise
    return losses


def _counted(batches: Iterable[list[Document]], layout: Layout, losses: LossReport) -> Iterator[list[Document]]:
    """Samples as they come, counted with their labels as carried."""
    for batch in batches:
        losses.carried("images", len(batch))
        labels = sum(len(sample[name][family]) for sample in batch for name, (_, family) in layout.fields.items())
        losses.carried("annotations", labels)
        yield batch


def _new(fiftyone: Any, name: str, address: str) -> Any:
    if fiftyone.dataset_exists(name):
        raise UsageError("the target is there already", where=address, remedy="choose another name, or delete it first")
    try:
        made = fiftyone.Dataset(name, persistent=True)
    except ValueError as error:
        raise FormatError(f"FiftyOne refuses the name: {error}", where=address, remedy="choose another") from error
    made.media_type = "image"
    return made


def _layout(dataset: Dataset, layer: str) -> Layout:
    layout = extended(Layout(), dataset)
    if layer == ALL_LAYERS:
        return layout
    if layer != GROUND_TRUTH and not dataset.count("annotations", where=in_layer(layer)):
        layers = sorted({held[0] for held in layout.fields.values()})
        raise UsageError(f"there is no layer '{layer}'", where=dataset.name, remedy=f"layers: {', '.join(layers)}")
    return replace(layout, fields={name: held for name, held in layout.fields.items() if held[0] == layer})
