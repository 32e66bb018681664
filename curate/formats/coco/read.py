"""Reading COCO: a dataset of one or several files, or results files as a predictions layer (`results`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from curate.errors import UsageError
from curate.formats.base import ReadOptions, Records, merge_classes
from curate.formats.coco.annotations import Reader, Seen
from curate.formats.coco.categories import read_categories, read_info, without_placeholder
from curate.formats.coco.files import dataset_root, open_files
from curate.formats.coco.images import CocoFile, ImageRows, place_file, read_images
from curate.formats.coco.objects import ANNOTATION_FIELDS
from curate.formats.coco.panoptic import segment_folders
from curate.formats.coco.results import read_results
from curate.formats.losses import LossReport


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read a COCO file or a folder of them.

    A results file (a JSON array of predictions) needs a predictions layer and the dataset's images and classes in
    `options`; its images must be in the dataset already.

    Raises:
        FormatError: Nothing can be read from it.
        UsageError: The folder of images that the user named does not exist.
    """
    if options.images is not None and not options.images.is_dir():
        raise UsageError("there is no such folder of images", where=options.images, remedy="check --images")
    source = Path(source).absolute()
    root = dataset_root(source)
    files = open_files(source, losses)
    results = [file for file in files if "" in file.arrays]
    if len(results) == len(files):
        return read_results(results, root, options, losses)
    for file in results:
        losses.dropped("files", "a results file is imported by itself, with --layer predictions/NAME", file.path)
    images = options.images.absolute() if options.images else None
    return _read_datasets(
        [place_file(file, root, images, options.split) for file in files if "" not in file.arrays], options, losses
    )


def _read_datasets(files: list[CocoFile], options: ReadOptions, losses: LossReport) -> Records:
    images = ImageRows()
    categories = [read_categories(file, losses) for file in files]
    row_of = [read_images(file, images, losses) for file in files]
    if images.stored:
        turned = next(iter(images.stored))
        losses.converted(
            "images",
            "labelled as stored; coordinates were turned to the EXIF orientation",
            images.columns["path"][turned],
            len(images.stored),
        )
    hashes, stored = images.hashes, images.stored
    others = Seen() if images.shared else None
    info = read_info(files, categories, losses)
    fields: set[str] = set()

    def annotations() -> Iterator[pa.Table]:
        for file, rows, own in zip(files, row_of, categories, strict=True):
            folders = segment_folders(file.json.path, file.root)
            reader = Reader(
                file.source, options.layer, rows, hashes, stored, own.names, losses, others, fields, folders
            )
            yield from reader.tables(file.json, "annotations")
        if fields:
            info[ANNOTATION_FIELDS] = dict.fromkeys(sorted(fields), "beside attributes")

    classes = merge_classes(without_placeholder(files, categories, losses), losses)
    return Records(images.table(), annotations(), classes, info)
