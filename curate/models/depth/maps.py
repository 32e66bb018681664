"""Which image of a dataset has which map of depth: one table for each model, and files under the dataset's folder.

    tables/depth/MODEL.lance      a row for each image: its fingerprint, its map's file, nearest and farthest depth
    depth/MODEL/3f/3f0c…e2.png    the maps (`curate.models.depth.codec`), named after what is in them

A file is never changed, so that each commit's table names what was there when it was made: an undo finds the old maps. Of a file
that no commit names, because a run was killed before its end, the next run makes use.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.dataset.store import Dataset, Transaction
from curate.errors import CurateError, InputError
from curate.files import write_atomic
from curate.imaging import Pixels
from curate.models.depth.codec import decode_map, encode_map
from curate.models.passes import LeftOut, Progress, compute, image_items
from curate.models.predictors.base import DepthMap, Predictor
from curate.models.predictors.layer_store import choose_images, require_readable
from curate.models.predictors.predict_pass import default_batch

DEPTH: Final = "depth/"
"""Prefix of the tables, one for each model."""

MODEL_KEY: Final = "depth"
"""Key of the dataset's info: the model whose maps are used, which is the one that was run last."""


@dataclass(frozen=True)
class MapsUpdate:
    """What bringing a model's maps up to date did.

    Attributes:
        model: The model's name.
        table: Where its maps are listed.
        images: How many images were asked for.
        predicted: How many of them have a new map.
        reused: How many had one before, as they are now.
        metric: How many of the new ones are in metres.
        empty: How many of the new ones know no depth at all.
        flat: How many of the new ones are the same everywhere.
        left_out: Images without a map, and why: they cannot be read.
    """

    model: str
    table: str
    images: int
    predicted: int
    reused: int
    metric: int
    empty: int
    flat: int
    left_out: Sequence[LeftOut] = ()


@dataclass(frozen=True)
class DepthMaps:
    """One model's maps of n images.

    Attributes:
        model: The model's name.
        folder: Of the dataset.
        table: Columns id (of the image), fingerprint, file, near, far and metric; n rows.
    """

    model: str
    folder: Path
    table: pa.Table

    def read(self, row: int) -> npt.NDArray[np.float32]:
        """A map; float32 of shape (height, width), larger is farther, NaN where the depth is not known.

        Raises:
            InputError: Its file is gone, or broken.
        """
        file, near, far, metric = (self.table[name][row].as_py() for name in ("file", "near", "far", "metric"))
        path = self.folder / file
        try:
            return decode_map(path.read_bytes(), near, far, metric=metric)
        except OSError as error:
            raise InputError(
                f"a map of depth cannot be read: {error.strerror}", where=path, remedy="'curate predict' makes it again"
            ) from error
        except CurateError as error:
            raise InputError(error.what, where=path, remedy=error.remedy) from error


def depth_table(model: str) -> str:
    """Name of the table of a model's maps: a folder's name on every system."""
    return DEPTH + re.sub(r"[^0-9A-Za-z_.@-]+", "-", model)


def update_maps(
    transaction: Transaction,
    predictor: Predictor,
    *,
    where: str | None = None,
    replace: bool = False,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> MapsUpdate:
    """Make the maps that are missing, or of other pixels than the images have now; what is done survives an interruption.

    Args:
        transaction: The commit being made.
        predictor: One that estimates depth. Its maps are those in use from now on.
        where: SQL condition on the images; None for all.
        replace: Make all anew.
        batch_size: Images for each call of the predictor; None for as many as fit well into memory.
        progress: Told (done, to do).

    Raises:
        UsageError: The condition cannot be understood, or chooses no image.
        InputError: Not one image can be read, or what the predictor gives is no map of depth.
    """
    images = choose_images(transaction, where)
    table = depth_table(predictor.name)
    folder = transaction.base.path
    computation = _DepthPass(predictor, lambda content: _keep(folder, table, content))
    result = compute(
        image_items(images.table),
        None if replace else _stored(transaction, table),
        computation,
        folder / "spool" / table.replace("/", "-"),
        batch_size=batch_size or default_batch(predictor.input_size),
        progress=progress,
    )
    require_readable(result.unreadable, images.table.num_rows)
    new = result.new.replace_schema_metadata(None).combine_chunks()
    if new.num_rows:
        transaction.upsert(table, new, "id")
        transaction.count("depth maps", new.num_rows)
        transaction.after_commit(result.discard_spool)
    transaction.info = {**transaction.info, MODEL_KEY: predictor.name}
    near, far = (new[name].to_numpy() for name in ("near", "far"))
    return MapsUpdate(
        predictor.name,
        table,
        images.table.num_rows,
        new.num_rows,
        result.reused,
        metric=int(np.count_nonzero(new["metric"].to_numpy())),
        empty=new["near"].null_count,
        flat=int(np.count_nonzero(near == far)),
        left_out=result.unreadable,
    )


def open_maps(dataset: Dataset) -> DepthMaps | None:
    """The maps of the model that was run last; None if there are none."""
    model = dataset.commit.info.get(MODEL_KEY)
    if not model or depth_table(model) not in dataset.commit.tables:
        return None
    rows = dataset.table(depth_table(model), columns=["id", "fingerprint", "file", "near", "far", "metric"])
    return DepthMaps(str(model), dataset.path, rows) if rows.num_rows else None


class _DepthPass:
    """A model of depth as a computation; see `curate.models.passes.Computation`.

    Args:
        predictor: What predicts.
        keep: Keeps a file's content, and says where, relative to the dataset's folder.
    """

    margin = 0.0
    columns = pa.schema(
        [
            pa.field("file", pa.string(), nullable=False),
            pa.field("height", pa.int32(), nullable=False),
            pa.field("width", pa.int32(), nullable=False),
            pa.field("near", pa.float64()),
            pa.field("far", pa.float64()),
            pa.field("metric", pa.bool_(), nullable=False),
            pa.field("known", pa.float32(), nullable=False),
        ]
    )

    def __init__(self, predictor: Predictor, keep: Callable[[bytes], str]) -> None:
        self._predictor = predictor
        self._keep = keep
        self.name = predictor.name
        self.input_size = predictor.input_size

    def prepare(self, pixels: Pixels) -> Any:
        """What the predictor makes of one image; called from decoding threads."""
        return self._predictor.prepare(pixels)

    def run(self, batch: Sequence[Any]) -> pa.RecordBatch:
        """The maps of n prepared images, written, and what there is to know of each."""
        rows = []
        for given in self._predictor.predict(batch):
            if not isinstance(given, DepthMap):
                raise InputError("what the model gives is no map of depth", where=self.name)
            found = encode_map(given)
            rows.append(
                {
                    "file": self._keep(found.content),
                    "height": found.size[0],
                    "width": found.size[1],
                    "near": found.near,
                    "far": found.far,
                    "metric": found.metric,
                    "known": found.known,
                }
            )
        return pa.RecordBatch.from_pylist(rows, schema=self.columns)


def _keep(folder: Path, table: str, content: bytes) -> str:
    """Write a file under the name that follows from its content, unless it is there."""
    name = hashlib.blake2b(content, digest_size=16).hexdigest()
    file = f"{table}/{name[:2]}/{name}.png"
    path = folder / file
    if not (path.is_file() and path.stat().st_size == len(content)):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
    return file


def _stored(transaction: Transaction, table: str) -> pa.Table | None:
    """Columns id and fingerprint of the maps whose files are there."""
    if not transaction.has(table):
        return None
    rows = transaction.read(table, columns=["id", "fingerprint", "file"])
    there = [(transaction.base.path / file).is_file() for file in rows["file"].to_pylist()]
    return rows.filter(pa.array(there, pa.bool_())).select(["id", "fingerprint"])
