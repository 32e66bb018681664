"""How fast questions are answered about a dataset of a million images; and the maker of that dataset, for other benchmarks too.

The dataset is made of columns, with no image file behind it: as many boxes for each image as asked, findings on a fifth of
the images, and measures of all. Each question is a command in a process of its own, several times; the page cache is warm.

    python -m benchmarks.million [--images 1000000] [--boxes 1] [--repeats 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.report import Report, markdown, options, run
from curate.checks.measures.content import HASHED, HASHED_SCHEMA
from curate.checks.measures.table import MEASURES
from curate.dataset import begin
from curate.dataset.home import HOME_VARIABLE
from curate.dataset.ids import hash_texts, image_ids, mix, to_ids
from curate.dataset.schema import ANNOTATIONS, FINDINGS, IMAGES, embeddings_schema
from curate.dataset.store import EMBEDDINGS
from curate.errors import CurateError
from curate.models.passes import ITEMS, fingerprints, is_last, stored_schema
from curate.names import GROUND_TRUTH

Rows = npt.NDArray[np.int64]

CLASSES: Final = [f"class {number:02d}" for number in range(20)]
WIDTH, HEIGHT = 1920, 1080
NAME: Final = "million"

_COMMAND: Final = "import sys; sys.argv[0] = 'curate'; from curate.cli import main; main()"
_PIECE: Final = 65536
_CLUSTERS: Final = 1000
_FINDINGS: Final = (("mistakes", "mislabeled"), ("mistakes", "missing"), ("quality", "blurry"), ("quality", "dark"))
_QUESTIONS: Final = {
    "ls": ["ls"],
    "info": ["info", NAME],
    "history": ["history", NAME],
    "findings": ["findings", "-d", NAME],
    "findings --kind blurry": ["findings", "-d", NAME, "--kind", "blurry"],
    "findings --where": ["findings", "-d", NAME, "--where", "given = 'class 03' AND score > 0.9"],
    "findings --json": ["findings", "-d", NAME, "--json"],
}


def make_million(
    name: str,
    *,
    images: int = 1_000_000,
    boxes_per_image: int = 1,
    findings: int | None = None,
    measures: bool = True,
    space: str | None = None,
    dimensions: int = 512,
    file: Path | None = None,
    seed: int = 0,
) -> None:
    """Make a dataset of columns alone. The same arguments give the same rows.

    Args:
        name: The dataset.
        images: How many images; every tenth is of the split 'val'.
        boxes_per_image: Boxes of the ground truth on each, of 20 classes.
        findings: How many; None for a fifth of the images.
        measures: Whether to fill the table of measures of whole images, with random numbers.
        space: Name of an embedding space of the images ('builtin-v1-images'); None for none.
        dimensions: Length of its vectors: a thousand clusters on the unit sphere.
        file: A picture that stands for every image, so that measures, vectors and hashes count as made of it; None: no image
            has a file.
        seed: Of all random numbers.
    """
    print_of_file = fingerprints(_item(file))[0].as_py() or ""
    with begin(name, command=f"make {images} images", create=True) as transaction:
        transaction.classes = [{"name": each} for each in CLASSES]
        transaction.append("images", _images(images, file))
        transaction.append("annotations", _annotations(images, boxes_per_image, seed))
        transaction.append("findings", _findings(images, images // 5 if findings is None else findings, seed))
        transaction.append(HASHED, _keys(images, print_of_file), HASHED_SCHEMA)
        transaction.count("images added", images)
        transaction.count("annotations added", images * boxes_per_image)
        if measures:
            schema = stored_schema(MEASURES.computation)
            measured = _measures(images, print_of_file, schema, seed)
            transaction.append(f"{MEASURES.prefix}-images", measured, schema)
        if space is not None:
            schema = embeddings_schema(dimensions)
            transaction.append(f"{EMBEDDINGS}{space}", _vectors(images, dimensions, print_of_file, seed), schema)


def locations(rows: Rows) -> pa.Array:
    """Locations of n images by their numbers: 'cam3/000000017.jpg'."""
    numbers = pc.utf8_lpad(pa.array(rows).cast(pa.string()), 9, "0")
    return pc.binary_join_element_wise("cam", pa.array(rows % 8).cast(pa.string()), "/", numbers, ".jpg", "")


def pieces(count: int) -> Iterator[Rows]:
    """The row numbers up to a count, a piece at a time."""
    for start in range(0, count, _PIECE):
        yield np.arange(start, min(start + _PIECE, count))


def random_of(rows: Rows, seed: int) -> np.random.Generator:
    """Random numbers for a piece, the same whatever else is made."""
    return np.random.default_rng((seed, int(rows[0])))


def make_table(schema: pa.Schema, count: int, columns: Mapping[str, Any]) -> pa.Table:
    """Rows of a table; columns that are not given are null, texts the same in every row."""
    arrays = []
    for column in schema:
        values = columns.get(column.name)
        if values is None or isinstance(values, str):
            values = pa.repeat(pa.scalar(values, column.type), count)
        arrays.append(pa.array(values).cast(column.type) if isinstance(values, np.ndarray) else values)
    return pa.table(arrays, schema=schema)


def _item(file: Path | None) -> pa.Table:
    return pa.table([["0"], [None if file is None else str(file)], pa.nulls(1, ITEMS.field("bbox").type)], schema=ITEMS)


def image_rows(rows: Rows) -> pa.StringArray:
    return image_ids(locations(rows).to_pylist())


def _images(count: int, file: Path | None) -> Iterator[pa.Table]:
    for rows in pieces(count):
        tags = pa.ListArray.from_arrays(
            pa.array(np.concatenate([[0], np.cumsum(rows % 100 == 0)]), pa.int32()),
            pa.repeat("night", int((rows % 100 == 0).sum())),
        )
        columns = {
            "image_id": image_rows(rows),
            "location": locations(rows),
            "path": None if file is None else str(file),
            "width": np.full(len(rows), WIDTH),
            "height": np.full(len(rows), HEIGHT),
            "content_hash": to_ids(mix(rows.astype(np.uint64), 7)),
            "split": pc.if_else(pa.array(rows % 10 == 9), "val", "train"),
            "tags": tags,
            "metadata": "{}",
            "source_id": pa.array(rows).cast(pa.string()),
            "source": "million",
        }
        yield make_table(IMAGES, len(rows), columns)


def _annotations(images: int, boxes: int, seed: int) -> Iterator[pa.Table]:
    for rows in pieces(images * boxes):
        random = random_of(rows, seed)
        width, height = random.uniform(16, 400, (2, len(rows)))
        corner = random.uniform(0, 1, (2, len(rows))) * [WIDTH - width, HEIGHT - height]
        columns = {
            "annotation_id": to_ids(mix(rows.astype(np.uint64), 1)),
            "image_id": image_rows(rows // boxes),
            "layer": GROUND_TRUTH,
            "type": "box",
            "label": pa.array(CLASSES).take(pa.array(random.integers(0, len(CLASSES), len(rows)))),
            "bbox": pa.FixedSizeListArray.from_arrays(np.stack([*corner, width, height], 1).ravel(), 4),
            "area": width * height,
            "attributes": "{}",
            "source_id": pa.array(rows).cast(pa.string()),
            "source": "million",
        }
        yield make_table(ANNOTATIONS, len(rows), columns)


def _findings(images: int, count: int, seed: int) -> Iterator[pa.Table]:
    for rows in pieces(count):
        random = random_of(rows, seed)
        image = np.sort(random.integers(0, images, len(rows)))
        kinds = pa.array([kind for _, kind in _FINDINGS]).take(pa.array(rows % len(_FINDINGS)))
        checks = pa.array([check for check, _ in _FINDINGS]).take(pa.array(rows % len(_FINDINGS)))
        keys = pc.binary_join_element_wise(checks, kinds, image_rows(image), "", "", "\0")
        given, suggested = random.integers(0, len(CLASSES), (2, len(rows)))
        columns = {
            "id": to_ids(hash_texts(keys.to_pylist())),
            "kind": kinds,
            "score": random.uniform(0.01, 1, len(rows)).round(4),
            "image": locations(image),
            "image_id": image_rows(image),
            "given": pa.array(CLASSES).take(pa.array(given)),
            "suggested": pa.array(CLASSES).take(pa.array(suggested)),
            "evidence": '{"why": "looks like its neighbours of another class", "of_10_nearest": 9, "probability": 0.83}',
            "status": pc.if_else(pa.array(rows % 20 == 0), "rejected", "open"),
            "check": checks,
            "commit": np.ones(len(rows), np.int64),
        }
        table = make_table(FINDINGS, len(rows), columns)
        yield table.filter(pa.array(is_last(table["id"])))


def _keys(images: int, fingerprint: str) -> Iterator[pa.Table]:
    for rows in pieces(images):
        yield make_table(HASHED_SCHEMA, len(rows), {"id": image_rows(rows), "fingerprint": fingerprint})


def _measures(images: int, fingerprint: str, schema: pa.Schema, seed: int) -> Iterator[pa.Table]:
    for rows in pieces(images):
        random = random_of(rows, seed)
        columns: dict[str, Any] = {"id": image_rows(rows), "fingerprint": fingerprint}
        for place, column in enumerate(schema):
            if pa.types.is_floating(column.type):
                columns[column.name] = random.uniform(0, 1, len(rows))
            elif pa.types.is_fixed_size_list(column.type):
                values = random.uniform(0, 1, len(rows) * column.type.list_size).astype(np.float32)
                columns[column.name] = pa.FixedSizeListArray.from_arrays(values, column.type.list_size)
            elif pa.types.is_uint64(column.type):
                columns[column.name] = mix(rows.astype(np.uint64), place)
        yield make_table(schema, len(rows), columns)


def _vectors(images: int, dimensions: int, fingerprint: str, seed: int) -> Iterator[pa.Table]:
    schema = embeddings_schema(dimensions)
    centers = np.random.default_rng(seed).normal(size=(_CLUSTERS, dimensions)).astype(np.float32)
    for rows in pieces(images):
        random = random_of(rows, seed)
        vectors = centers[random.integers(0, _CLUSTERS, len(rows))]
        vectors = vectors + 0.5 * random.standard_normal(vectors.shape, np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        column = pa.FixedSizeListArray.from_arrays(vectors.astype(np.float16).ravel(), dimensions)
        columns = {"id": image_rows(rows), "fingerprint": fingerprint, "vector": column}
        yield make_table(schema, len(rows), columns)


@dataclass(frozen=True)
class Answer:
    """One command, several times.

    Attributes:
        question: The command, without the dataset's name.
        wall_s: Median of its seconds, start-up included.
        cpu_s: Median of its CPU seconds, start-up included.
        peak_mb: Highest resident memory, in 2^20 bytes.
    """

    question: str
    wall_s: float
    cpu_s: float
    peak_mb: float


def main() -> None:
    """Make the dataset and ask about it."""
    parser = options(__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--boxes", type=int, default=1, help="on each image (default 1)")
    parser.add_argument("--repeats", type=int, default=3)
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Ask every question, in turn, as often as asked for."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ[HOME_VARIABLE] = folder
        sizes = {"images": arguments.images, "boxes_per_image": arguments.boxes}
        # In a process of its own: what this one has held counts as its children's peak.
        maker = multiprocessing.get_context("spawn").Process(target=make_million, args=(NAME,), kwargs=sizes)
        maker.start()
        maker.join()
        asked = [[_ask(words) for words in _QUESTIONS.values()] for _ in range(arguments.repeats)]
    answers = [
        Answer(question, *(statistics.median(values) for values in zip(*times, strict=True)))
        for question, times in zip(_QUESTIONS, zip(*asked, strict=True), strict=True)
    ]
    rows = [[f"`{each.question}`", f"{each.wall_s:.2f}", f"{each.cpu_s:.2f}", round(each.peak_mb)] for each in answers]
    settings = {"images": arguments.images, "boxes": arguments.images * arguments.boxes, "repeats": arguments.repeats}
    return Report(
        settings, [asdict(each) for each in answers], markdown(["command", "wall s", "CPU s", "peak MB"], rows)
    )


def _ask(words: Sequence[str]) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak memory in MB of a command, whose output goes nowhere."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", _COMMAND, *words], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise CurateError(f"'curate {' '.join(words)}' ended with {process.returncode}")
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


if __name__ == "__main__":
    main()
