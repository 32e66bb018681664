"""Reading Open Images: which files there are, then their rows as annotations; see `curate.formats.open_images`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final

import pyarrow as pa

from curate.errors import FormatError
from curate.formats.base import Detection, ReadOptions, Records
from curate.formats.files import is_image, list_files, peek_files
from curate.formats.losses import LossReport
from curate.formats.nearest import NearestImages, images_beside
from curate.formats.open_images.annotations import BOX_COLUMNS, CLICK_COLUMNS, LABEL_COLUMNS, MACHINE_LAYER, Rows
from curate.formats.open_images.classes import Classes, read_hierarchy
from curate.formats.open_images.images import IMAGE_COLUMNS, place_images, read_named
from curate.formats.open_images.masks import MASK_COLUMNS, read_masks
from curate.formats.open_images.tables import TableFile, batches, table_file
from curate.names import GROUND_TRUTH

_NOT_KEPT: Final = {
    "relationships": "relations between two objects have no place",
    "points": "labels of single points have no place",
}
_KNOWN: Final[Mapping[str, frozenset[str]]] = {
    "images": frozenset(IMAGE_COLUMNS),
    "boxes": frozenset({*BOX_COLUMNS, *CLICK_COLUMNS}),
    "labels": frozenset(LABEL_COLUMNS),
    "masks": frozenset(MASK_COLUMNS),
}


def detect(source: Path) -> Detection | None:
    """CSV files with Open Images' columns."""
    if source.is_file():
        file = table_file(source.parent, source.name) if source.suffix.lower() == ".csv" else None
        return Detection(0.9, f"Open Images' columns of {file.kind}") if file and file.kind != "classes" else None
    names = [name for name in peek_files(source) if name.lower().endswith(".csv")]
    files = [file for name in names if (file := table_file(source, name)) is not None]
    kinds = sorted({file.kind for file in files} - {"classes"})
    return Detection(0.95, f"{len(files)} CSV files with Open Images' columns: {', '.join(kinds)}") if kinds else None


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read a folder, or one CSV file with the class descriptions beside it.

    Raises:
        FormatError: No CSV file has Open Images' columns.
    """
    source = source.absolute()
    root = source.parent if source.is_file() else source
    every = list_files(root)
    tables = [file for name in every if name.lower().endswith(".csv") and (file := table_file(root, name)) is not None]
    if source.is_file():
        tables = [file for file in tables if file.path == source or file.kind == "classes"]
        options = options if options.images else replace(options, images=images_beside(root))
    by_kind: dict[str, list[TableFile]] = {}
    for file in tables:
        by_kind.setdefault(file.kind, []).append(file)
    if not set(by_kind) - {"classes"}:
        remedy = "the first line of each CSV must name its columns, ImageID among them"
        raise FormatError("there is no CSV file of Open Images here", where=source, remedy=remedy)
    _report_unread(root, every, tables, source, losses)
    named, mids = read_named(tables, losses)
    classes = Classes(by_kind.get("classes", []), losses)
    named.absent.update({row: [classes.name(mid) for mid in absent] for row, absent in named.absent.items()})
    mask_files = _mask_files(root, every, by_kind.get("masks", []))
    found = NearestImages(root, options, every, keep=lambda name: PurePosixPath(name).name not in mask_files)
    images = place_images(
        named, found, [root / name for name in every if name.endswith("images.meta")], options, losses
    )
    tree = read_hierarchy([root / name for name in every if name.endswith("hierarchy.json")], losses)
    infos, info = classes.listed(list(mids.known), tree, losses)
    masks = read_masks(by_kind.get("masks", []), mask_files, named.ids, mids, images, losses)
    labels = pa.array([classes.name(mid) for mid in mids.known], pa.string())
    rows = Rows(images, named.ids, mids, labels, masks, options.layer, losses)
    layers = {options.layer, MACHINE_LAYER} if options.layer == GROUND_TRUTH else {options.layer}
    return Records(images.table, _pieces(rows, by_kind), infos, info, frozenset(layers))


def _pieces(rows: Rows, by_kind: Mapping[str, Sequence[TableFile]]) -> Iterator[pa.Table]:
    """Boxes first, since masks may belong to them."""
    for file in by_kind.get("boxes", ()):
        yield from rows.of_boxes(file)
    yield from rows.of_masks()
    for file in by_kind.get("labels", ()):
        yield from rows.of_labels(file)


def _mask_files(root: Path, every: Sequence[str], tables: Sequence[TableFile]) -> dict[str, Path]:
    """Files of masks by name: those that a mask CSV names, and what is in a folder of masks."""
    named: set[str] = set()
    for file in tables:
        for batch in batches(file, ("MaskPath",), None):
            named.update(PurePosixPath(text).name for text in batch["MaskPath"].to_pylist() if text)
    found = {}
    for name in every:
        *folders, base = name.split("/")
        if is_image(name) and (base in named or any(folder.lower().endswith("masks") for folder in folders)):
            found[base] = root / name
    return found


def _report_unread(
    root: Path, every: Sequence[str], tables: Sequence[TableFile], source: Path, losses: LossReport
) -> None:
    """Mention the files and columns that are not kept."""
    for file in tables:
        if file.kind in _NOT_KEPT:
            column = file.header[0]
            count = sum(len(batch[column]) for batch in batches(file, (column,), None))
            losses.dropped(file.kind, _NOT_KEPT[file.kind], file.name, count)
        for column in file.header if file.kind in _KNOWN else ():
            if column not in _KNOWN[file.kind]:
                losses.dropped("columns", "not one of Open Images'", f"{file.name}: {column}")
    known = {file.name for file in tables}
    for name in every if source.is_dir() else ():
        if name.lower().endswith(".jsonl"):
            losses.dropped("files", "localized narratives have no place", name)
        elif name.lower().endswith(".csv") and name not in known:
            losses.dropped("files", "no columns of Open Images", name)
