"""The map of a dataset's images: what looks alike lies together."""

from __future__ import annotations

import base64
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.shift.check import MAPS
from curate.checks.shift.map import make_map
from curate.dataset import Dataset
from curate.dataset.store import EMBEDDINGS

MOST: Final = 6_000
"""Images that a map shows at most."""

LANDMARKS: Final = 1_500
"""As many of them are laid out by t-SNE where the dataset has no map: some seconds of one core."""

_STEPS: Final = 65535
_IMAGES: Final = "-images"


@dataclass(frozen=True)
class Places:
    """Where images lie.

    Attributes:
        ids: Of the n images.
        x: From 0 on the left to 1, shape (n,).
        y: From 0 at the top to 1, shape (n,).
        total: How many images there are, of which these are some.
        source: Where the layout is from, in words.
    """

    ids: list[str]
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    total: int
    source: str

    def to_json(self) -> dict[str, Any]:
        """The places as little-endian 16-bit numbers in base 64."""
        packed = {
            name: base64.b64encode(np.rint(values * _STEPS).astype("<u2").tobytes()).decode("ascii")
            for name, values in (("x", self.x), ("y", self.y))
        }
        return {**packed, "total": self.total, "source": self.source}


def place_images(dataset: Dataset, shown: Collection[str], *, seed: int = 0) -> Places | None:
    """The dataset's map, or one made of its embeddings; None where it has neither.

    Args:
        dataset: The dataset.
        shown: Images that should be on it if any are left out.
        seed: Of the choice and the layout.
    """
    table = _largest(dataset, MAPS)
    if table is not None:
        rows = dataset.table(table, columns=["id", "x", "y"])
        kept = _chosen(rows["id"], shown, seed)
        rows = rows.take(pa.array(kept[0]))
        points = np.stack([rows["x"].to_numpy(), rows["y"].to_numpy()], axis=1)
        return _places(rows["id"], points, kept[1], f"laid out by 'curate shift --map' from {table.removeprefix(MAPS)}")
    table = _largest(dataset, EMBEDDINGS, _IMAGES)
    if table is None:
        return None
    ids, total = _chosen_ids(dataset, table, shown, seed)
    batches = [
        batch.filter(pc.is_in(batch["id"], value_set=ids)) for batch in dataset.scan(table, columns=["id", "vector"])
    ]
    rows = pa.Table.from_batches(batches)
    if rows.num_rows < 2:
        return None
    vectors = pc.list_flatten(rows["vector"]).to_numpy().reshape(rows.num_rows, -1)
    points = make_map(vectors, seed=seed, landmarks=LANDMARKS)
    return _places(rows["id"], points, total, f"laid out from {table.removeprefix(EMBEDDINGS)}")


def _largest(dataset: Dataset, prefix: str, suffix: str = "") -> str | None:
    """The table of most rows among those of a name."""
    names = [name for name in dataset.commit.tables if name.startswith(prefix) and name.endswith(suffix)]
    return max(sorted(names), key=dataset.count, default=None)


def _chosen_ids(dataset: Dataset, table: str, shown: Collection[str], seed: int) -> tuple[pa.Array, int]:
    column = dataset.table(table, columns=["id"])["id"]
    rows, total = _chosen(column, shown, seed)
    return column.take(pa.array(rows)).combine_chunks(), total


def _chosen(ids: pa.ChunkedArray, shown: Collection[str], seed: int) -> tuple[npt.NDArray[np.int64], int]:
    """Rows that the map has, in order, and out of how many: those shown first, then any."""
    total = len(ids)
    first = np.asarray(pc.is_in(ids, value_set=pa.array(sorted(shown), pa.string())).to_numpy(), bool)
    random = np.random.default_rng(seed).permutation(total)
    order = random[np.argsort(~first[random], kind="stable")]
    return np.sort(order[:MOST]), total


def _places(ids: pa.ChunkedArray, points: npt.NDArray[np.floating[Any]], total: int, source: str) -> Places:
    # A few images far out would press the others into a corner.
    low, high = np.quantile(points, [0.001, 0.999], axis=0)
    inside = ((points - low) / np.maximum(high - low, 1e-9)).clip(0, 1).astype(np.float64)
    return Places(ids.to_pylist(), inside[:, 0], 1 - inside[:, 1], total, source)
