"""What an ONNX file shows of itself: its metadata, the names beside it, and what it gives for a picture of nothing."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.models.predictors.base import Size
from curate.models.predictors.network import Network
from curate.models.predictors.preparation import make_preparation
from curate.models.predictors.sidecar import Sidecar
from curate.runner import grid

Array = npt.NDArray[Any]

_NAME_FILES: Final = ("labels.txt", "classes.txt")
_NAMES_KEY: Final = "names"
_SIDES_KEY: Final = "imgsz"
_BACKGROUND: Final = frozenset({"background", "__background__", "_background_"})
_TOLERANCE: Final = 1e-3
_MOSTLY: Final = 0.999
_FOLLOWS_GRID: Final = 0.9


@dataclass(frozen=True)
class Names:
    """Class names and where they were found.

    Attributes:
        classes: Without a background.
        background: Whether the list began with one.
        source: 'sidecar', 'metadata', or the name of a file.
    """

    classes: tuple[str, ...]
    background: bool
    source: str


@dataclass(frozen=True)
class Evidence:
    """All that a reading of the outputs is judged by.

    Attributes:
        outputs: What the model gives for a picture of noise; with the batch's axis where there is one.
        size: Of the input.
        names: What is known of the classes.
        metadata: Texts in the file.
        told_sizes: Whether the model was told the input's size.
        stem: The file's name, lower case.
    """

    outputs: Mapping[str, Array]
    size: Size
    names: Names | None
    metadata: Mapping[str, str]
    told_sizes: bool
    stem: str

    def says_classes(self, count: int) -> bool | None:
        """Whether the model has so many classes; None where nothing says how many."""
        return None if self.names is None else len(self.names.classes) == count


def probe(network: Network, sidecar: Sidecar, names: Names | None) -> Evidence:
    """What a model gives for a picture of noise.

    Args:
        network: The model.
        sidecar: With a size.
        names: What is known of the classes.

    Raises:
        InputError: The model fails.
    """
    side = sidecar.size or 0
    size = (side, side) if isinstance(side, int) else side
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    array = make_preparation(sidecar, network.entry.dtype)(noise).array
    wanted = [port.name for port in network.graph.outputs]
    (outputs,) = network.whole.run([array], wanted, lambda _, given: given)
    return Evidence(
        outputs=outputs,
        size=size,
        names=names,
        metadata=network.graph.metadata,
        told_sizes=network.sizes is not None,
        stem=network.path.stem.lower(),
    )


def find_names(path: Path, sidecar: Sidecar, metadata: Mapping[str, str]) -> Names | None:
    """Names of a model's classes: the sidecar's, those in the file's metadata, or in `labels.txt` or `classes.txt` beside it."""
    if sidecar.classes is not None:
        return Names(sidecar.classes, False, "sidecar")
    told = _literal(metadata.get(_NAMES_KEY, ""))
    if isinstance(told, dict) and sorted(map(str, told)) == sorted(map(str, range(len(told)))):
        by_number = {int(key): str(value) for key, value in told.items()}
        return _names([by_number[number] for number in range(len(by_number))], "metadata")
    if isinstance(told, list | tuple) and told:
        return _names([str(value) for value in told], "metadata")
    for name in _NAME_FILES:
        beside = path.with_name(name)
        if beside.is_file():
            lines = beside.read_text(encoding="utf-8", errors="replace").splitlines()
            return _names([line.strip() for line in lines if line.strip()], name)
    return None


def stated_size(metadata: Mapping[str, str]) -> Size | None:
    """(height, width) that the file's metadata tell, as Ultralytics' exports do."""
    sides = _literal(metadata.get(_SIDES_KEY, ""))
    if isinstance(sides, int):
        sides = [sides, sides]
    if (
        isinstance(sides, list | tuple)
        and len(sides) == 2
        and all(isinstance(side, int) and side > 0 for side in sides)
    ):
        return sides[0], sides[1]
    return None


def are_probabilities(values: Array) -> bool:
    """Whether all are in [0, 1]."""
    return bool(values.size and values.min() >= -_TOLERANCE and values.max() <= 1 + _TOLERANCE)


def sum_to_one(rows: Array) -> bool:
    """Whether the last axis holds probabilities of classes that exclude one another."""
    return are_probabilities(rows) and bool(np.abs(rows.sum(axis=-1) - 1).max() <= 10 * _TOLERANCE)


def are_corners(boxes: Array) -> bool:
    """Whether boxes, shape (k, 4), can be [x1, y1, x2, y2]."""
    return bool(len(boxes) and (boxes[:, 2:] >= boxes[:, :2]).all(axis=1).mean() >= _MOSTLY)


def follow_grid(boxes: Array, size: Size, strides: Sequence[int], per_cell: int = 1) -> bool:
    """Whether boxes, shape (k, 4), lie about the cells of grids: whether they are decoded, in pixels or parts of sides.

    Before decoding, x and y are offsets within a cell and say nothing of where it is.
    """
    cells = np.concatenate([np.tile(grid(size, (stride,)), (per_cell, 1)) for stride in strides])
    middles = (cells[:, :2] + 0.5) * cells[:, 2:]
    return all(_correlation(boxes[:, axis], middles[:, axis]) >= _FOLLOWS_GRID for axis in (0, 1))


def _correlation(first: Array, second: Array) -> float:
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _names(found: list[str], source: str) -> Names:
    background = found[0].lower() in _BACKGROUND if found else False
    return Names(tuple(found[int(background) :]), background, source)


def _literal(text: str) -> Any:
    """What Python or JSON would call a value; nothing is run."""
    for parse in (ast.literal_eval, json.loads):
        try:
            return parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
    return None
