"""Random datasets for round trips, and reading what came back. Used by the tests of every format."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st
from PIL import Image

from curate.dataset.ids import annotation_ids, hash_texts, image_ids
from curate.dataset.schema import ANNOTATIONS, GROUND_TRUTH
from curate.formats.base import ClassInfo, Export, Format, ReadOptions, Records, WriteOptions
from curate.formats.columns import annotations_table, images_table
from curate.formats.losses import LossReport

CLASSES = ["bolt", "Mutter groß", "齿轮", "no", "07"]


@dataclass(frozen=True)
class Case:
    """One image of a random dataset, with its annotations as columns by name."""

    location: str
    size: tuple[int, int]
    split: str | None
    annotations: Sequence[dict[str, Any]]


def locations() -> st.SearchStrategy[str]:
    """Nested, non-ASCII names of PNG files."""
    part = st.text(st.sampled_from("abzAÖé车 _-.1"), min_size=1, max_size=6).map(lambda text: f"p{text}q")
    return st.lists(part, min_size=1, max_size=3).map(lambda parts: "/".join(parts) + ".png")


@st.composite
def boxes(draw: st.DrawFn, size: tuple[int, int]) -> list[float]:
    """[x, y, width, height] inside an image, width and height above 0."""
    x = draw(st.floats(0, size[0] - 1))
    y = draw(st.floats(0, size[1] - 1))
    return [x, y, draw(st.floats(0.01, size[0] - x)), draw(st.floats(0.01, size[1] - y))]


def box_annotations(size: tuple[int, int]) -> st.SearchStrategy[dict[str, Any]]:
    """Boxes with a class."""
    return st.fixed_dictionaries({"type": st.just("box"), "label": st.sampled_from(CLASSES), "bbox": boxes(size)})


@st.composite
def cases(draw: st.DrawFn, annotations: Any = box_annotations) -> list[Case]:
    """A few images with different names, sizes and splits."""
    names = draw(st.lists(locations(), min_size=1, max_size=4, unique_by=lambda name: name.lower()))
    found = []
    for name in names:
        size = (draw(st.integers(2, 60)), draw(st.integers(2, 60)))
        split = draw(st.sampled_from(["train", "val", "test"]))
        found.append(Case(name, size, split, draw(st.lists(annotations(size), max_size=4))))
    return found


def write_image(path: Path, size: tuple[int, int], *, orientation: int = 1) -> Path:
    """A small grey image; its EXIF orientation is set where it is not 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L", size)
    exif = image.getexif()
    if orientation != 1:
        exif[0x0112] = orientation
    image.save(path, exif=exif)
    return path


def make_export(folder: Path, found: Sequence[Case], classes: Sequence[str] = CLASSES) -> Export:
    """The images of cases written below a folder, and the dataset they make."""
    names = [case.location for case in found]
    paths: list[Path | None] = [write_image(folder / case.location, case.size) for case in found]
    sizes = np.array([case.size for case in found], dtype=np.int64).reshape(-1, 2)
    images = images_table(names, paths, sizes[:, 0], sizes[:, 1], {"split": [case.split for case in found]})
    rows = np.array([row for row, case in enumerate(found) for _ in case.annotations], dtype=np.int64)
    every = [annotation for case in found for annotation in case.annotations]
    columns: dict[str, Any] = {name: [row.get(name) for row in every] for name in ANNOTATIONS.names}
    columns["annotation_id"] = annotation_ids(hash_texts(names)[rows], GROUND_TRUTH, "")
    columns["image_id"] = image_ids(names).take(pa.array(rows))
    columns["layer"] = GROUND_TRUTH
    infos = [ClassInfo(name, source_id=number) for number, name in enumerate(classes)]
    return Export(images, annotations_table(len(every), columns), infos, {})


@contextmanager
def written(format: Format, found: Sequence[Case], options: WriteOptions) -> Iterator[tuple[Path, LossReport]]:
    """A folder with the cases as a format writes them."""
    with tempfile.TemporaryDirectory() as name:
        target, losses = Path(name) / "out", LossReport()
        target.mkdir()
        format.write(make_export(Path(name) / "in", found), target, options, losses)
        yield target, losses


def read(format: Format, source: Path, options: ReadOptions | None = None) -> tuple[Records, pa.Table, LossReport]:
    """What a format reads, with its annotations in one table."""
    losses = LossReport()
    records = format.read(source, options or ReadOptions(), losses)
    return records, pa.concat_tables([ANNOTATIONS.empty_table(), *records.annotations]), losses


def by_location(records: Records, annotations: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """The annotations of each image, in order."""
    names = dict(zip(records.images["image_id"].to_pylist(), records.images["location"].to_pylist(), strict=True))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names.values()}
    for row in annotations.to_pylist():
        found[names[row["image_id"]]].append(row)
    return found


def reasons(losses: LossReport) -> set[str]:
    """Why things were converted or dropped."""
    return {loss.reason for loss in losses.losses}
