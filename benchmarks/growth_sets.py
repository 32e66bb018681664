"""Datasets of columns for `benchmarks.growth` and its test: every table that a command looks at, and one picture for all images.

As many boxes as images, a detector's boxes on the same images, findings, measures, vectors of images and crops that tell the
class, and how the images that look most alike compare: all that passes over the pixels leave behind. A fixed number of labels
is wrong, whatever the size: what grows with it is the looking, not what is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from benchmarks.embed import natural_noise
from benchmarks.million import CLASSES, HEIGHT, WIDTH, image_rows, make_million, make_table, pieces, random_of
from curate.checks.duplicates.candidates import FIRST, embedding_neighbors, neighbor_pairs
from curate.checks.duplicates.compared import COMPARED, COMPARED_SCHEMA
from curate.checks.duplicates.find import COLUMNS
from curate.checks.measures.computation import HASHES
from curate.checks.measures.table import MEASURES
from curate.checks.shift.light import LIGHT
from curate.dataset import Transaction, begin, open_dataset
from curate.dataset.ids import from_ids, mix, to_ids
from curate.dataset.schema import ANNOTATIONS, embeddings_schema
from curate.dataset.store import EMBEDDINGS
from curate.models.passes import ITEMS, fingerprints, image_items, stored_schema
from curate.models.spaces import choose_encoder, space_name, update_tables
from curate.names import GROUND_TRUTH, PREDICTIONS

Kind = Literal["boxes", "labels"]
Rows = npt.NDArray[np.int64]

WRONG: Final = 100
"""Labels that another class was written for."""
FINDINGS: Final = 1000
_NOISE: Final = 1.0
"""Length of a vector's difference from its class's mean, which has length 1: cosines within a class are about 0.5."""


def make_set(name: str, images: int, folder: Path, kind: Kind = "boxes", encoder: str | None = None) -> None:
    """Make a dataset.

    Args:
        name: The dataset.
        images: How many.
        folder: Where the picture goes.
        kind: One box on each image, and a model's boxes; or one label for each image, and nothing of a model.
        encoder: Spec of the encoder that the vectors are of; None for the default.
    """
    picture = folder / "picture.jpg"
    if not picture.exists():
        small = Image.fromarray(natural_noise(WIDTH // 2, HEIGHT // 2, np.random.default_rng(0)))
        small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(picture, quality=90)  # neither grainy nor blurred
    make_million(name, images=images, boxes_per_image=0, findings=FINDINGS, measures=False, file=picture)
    chosen = choose_encoder(open_dataset(name), encoder)
    dimensions = len(chosen.encode([chosen.prepare(np.zeros((64, 64, 3), np.uint8))])[0])
    space, schema = EMBEDDINGS + space_name(chosen), embeddings_schema(dimensions)
    with begin(name, command="fill") as transaction:
        transaction.info = {**transaction.info, "encoder": encoder or chosen.name}
        pictures = _Prints(str(picture))
        vectors = _vectors(images, dimensions, image_rows, lambda rows: pictures.of(None, len(rows)))
        transaction.append(f"{space}-images", vectors, schema)
        if kind == "labels":
            transaction.append("annotations", (_labels(rows) for rows in pieces(images)))
        else:
            transaction.append("annotations", (_boxes(rows) for rows in pieces(images)))
            transaction.append("annotations", (_predictions(rows) for rows in pieces(images)))
            crops = _vectors(images, dimensions, _annotation_ids, lambda rows: pictures.of(_places(rows), len(rows)))
            transaction.append(f"{space}-crops", crops, schema)
        one = pa.table({"image_id": ["picture"], "path": [str(picture)]})
        _add_measures(transaction, images, pictures, one)
    with begin(name, command="compare") as transaction:
        _add_compared(transaction, f"{space}-images", pictures)


class _Prints:
    """Fingerprints of the picture and of boxes on it."""

    def __init__(self, path: str) -> None:
        self._path = path

    def of(self, boxes: npt.NDArray[np.float64] | None, count: int) -> pa.Array:
        kind = ITEMS.field("bbox").type
        bbox = pa.nulls(count, kind) if boxes is None else pa.FixedSizeListArray.from_arrays(pa.array(boxes.ravel()), 4)
        ids = pa.repeat("", count)
        return fingerprints(pa.table([ids, pa.repeat(self._path, count), bbox.cast(kind)], schema=ITEMS))


def _annotation_ids(rows: Rows) -> pa.Array:
    return to_ids(mix(rows.astype(np.uint64), 1))


def _classes(rows: Rows) -> Rows:
    """What each image, or the box on it, really shows."""
    return np.asarray(mix(rows.astype(np.uint64), 2) % np.uint64(len(CLASSES)), dtype=np.int64)


def _given(rows: Rows) -> Rows:
    """What it is labelled as."""
    return np.where(rows < WRONG, (_classes(rows) + 1) % len(CLASSES), _classes(rows))


def _places(rows: Rows) -> npt.NDArray[np.float64]:
    """Boxes, shape (n, 4)."""
    random = random_of(rows, 3)
    size = random.uniform(16, 400, (len(rows), 2))
    return np.concatenate([random.uniform(0, 1, (len(rows), 2)) * ([WIDTH, HEIGHT] - size), size], axis=1)


def _labels(rows: Rows) -> pa.Table:
    return _annotations(rows, _annotation_ids(rows), GROUND_TRUTH, "label", _given(rows), {})


def _boxes(rows: Rows) -> pa.Table:
    return _annotations(rows, _annotation_ids(rows), GROUND_TRUTH, "box", _given(rows), _bbox(_places(rows)))


def _predictions(rows: Rows) -> pa.Table:
    """A box of the right class close to each, and how sure the detector is."""
    random, boxes = random_of(rows, 4), _places(rows)
    boxes[:, :2] += random.normal(0, 0.03, (len(rows), 2)) * boxes[:, 2:]
    columns = {**_bbox(boxes), "score": random.beta(8, 2, len(rows))}
    ids = to_ids(mix(rows.astype(np.uint64), 5))
    return _annotations(rows, ids, PREDICTIONS + "model", "box", _classes(rows), columns)


def _bbox(boxes: npt.NDArray[np.float64]) -> dict[str, Any]:
    column = pa.FixedSizeListArray.from_arrays(pa.array(boxes.ravel()), 4)
    return {"bbox": column, "area": boxes[:, 2] * boxes[:, 3]}


def _annotations(rows: Rows, ids: pa.Array, layer: str, kind: str, label: Rows, columns: dict[str, Any]) -> pa.Table:
    names = pa.array(CLASSES).take(pa.array(label))
    own = {"annotation_id": ids, "image_id": image_rows(rows), "layer": layer, "type": kind, "label": names}
    return make_table(ANNOTATIONS, len(rows), {**own, "attributes": "{}", "source": "growth", **columns})


def _vectors(
    images: int, dimensions: int, ids: Callable[[Rows], pa.Array], prints: Callable[[Rows], pa.Array]
) -> Iterator[pa.Table]:
    """Unit vectors around their class's mean."""
    schema = embeddings_schema(dimensions)
    means = np.random.default_rng(6).standard_normal((len(CLASSES), dimensions), np.float32)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    for rows in pieces(images):
        noise = random_of(rows, 7).standard_normal((len(rows), dimensions), np.float32) / np.sqrt(dimensions)
        vectors = means[_classes(rows)] + _NOISE * noise
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        column = pa.FixedSizeListArray.from_arrays(vectors.astype(np.float16).ravel(), dimensions)
        yield make_table(schema, len(rows), {"id": ids(rows), "fingerprint": prints(rows), "vector": column})


def _add_measures(transaction: Transaction, images: int, pictures: _Prints, one: pa.Table) -> None:
    """What was measured of the picture, as that of every image, each with hashes of its own.

    Nothing stands out, and no two are copies.
    """
    update_tables(transaction, [MEASURES, LIGHT], {"images": image_items(one)})
    for kept in (MEASURES, LIGHT):
        table, schema = f"{kept.prefix}-images", stored_schema(kept.computation)
        row = transaction.read(table)
        transaction.delete(table, "id", row["id"].combine_chunks())
        transaction.append(table, (_repeated(row, rows, schema, pictures) for rows in pieces(images)), schema)


def _repeated(row: pa.Table, rows: Rows, schema: pa.Schema, pictures: _Prints) -> pa.Table:
    same = row.take(pa.array(np.zeros(len(rows), np.int64)))
    columns = {name: same[name].combine_chunks() for name in schema.names}
    for place, name in enumerate(HASHES):
        if name in columns:
            columns[name] = pa.array(mix(rows.astype(np.uint64), 10 + place))
    columns |= {"id": image_rows(rows), "fingerprint": pictures.of(None, len(rows))}
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _add_compared(transaction: Transaction, table: str, pictures: _Prints) -> None:
    """That the nearest images of each were compared, and are not alike."""
    rows = transaction.read(table, columns=["id", "vector"]).sort_by("id")
    vectors = rows["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(rows.num_rows, -1)
    every = np.arange(rows.num_rows)
    pairs = neighbor_pairs(embedding_neighbors(vectors.astype(np.float32)), every, FIRST)
    ids, file = from_ids(rows["id"]), from_ids(pictures.of(None, 1))
    numbers = np.zeros((len(pairs), len(COLUMNS)), np.float32)
    columns = {
        "id": to_ids(mix(ids[pairs[:, 0]], ids[pairs[:, 1]])),
        "fingerprint": pa.repeat(to_ids(mix(file, file))[0], len(pairs)),
        "numbers": pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), len(COLUMNS)),
        "matrix": pa.FixedSizeListArray.from_arrays(
            pa.array(np.tile(np.eye(2, 3, dtype=np.float32).ravel(), len(pairs))), 6
        ),
    }
    transaction.append(COMPARED, [pa.table(columns, schema=COMPARED_SCHEMA)], COMPARED_SCHEMA)
