"""What sets a part of the images apart: the axes on which it differs most, in words, and what its metadata says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from curate.checks.shift.axes import AXES, Axis
from curate.checks.shift.two_sample import unit_means

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

MOST_WORDS: Final = 4
_MEDIUM: Final = 0.33
_ALPHA: Final = 0.01
_MOST_VALUES: Final = 50
_LIFT: Final = 1.5


@dataclass(frozen=True)
class Difference:
    """How a part differs from the rest on one axis.

    Attributes:
        axis: Its place among `AXES`.
        effect: Cliff's delta in [-1, 1]: how much more often an image of the part lies above one of the rest than below.
        inside: Median of the part.
        outside: Median of the rest.
    """

    axis: int
    effect: float
    inside: float
    outside: float

    @property
    def word(self) -> str:
        """What it is called; empty where there is no word for it, or it is not on that side of what is neutral."""
        axis: Axis = AXES[self.axis]
        if axis.signed and self.inside * np.sign(self.effect) < axis.least:
            return ""
        return axis.high if self.effect > 0 else axis.low


@dataclass(frozen=True)
class Column:
    """One key of the metadata of n images.

    Attributes:
        codes: Which value each image has, int64 of shape (n,); -1 where it has none.
        values: As text, each once, in order.
    """

    codes: IntArray
    values: list[str]

    @classmethod
    def of(cls, values: Sequence[str | None] | pa.ChunkedArray) -> Column:
        """A column of texts, None where there is none."""
        column = pa.chunked_array([pa.array(values, pa.string())]) if isinstance(values, Sequence) else values
        return cls._coded(column.combine_chunks().dictionary_encode())

    @classmethod
    def _coded(cls, column: pa.DictionaryArray) -> Column:
        order = pc.sort_indices(column.dictionary).to_numpy()
        rank = np.append(np.argsort(order), -1)  # what has no value has the last place
        codes = pc.fill_null(column.indices, -1).to_numpy(zero_copy_only=False)
        return cls(rank[codes].astype(np.int64), column.dictionary.take(pa.array(order)).to_pylist())


@dataclass(frozen=True)
class Shared:
    """A value of the metadata that is more frequent in a part than in the rest.

    Attributes:
        key: Of the metadata, or 'split'.
        value: As text.
        inside: Share of the part that has it.
        outside: Share of the rest.
        p_value: Fisher's exact test, corrected for the number of values (Holm).
    """

    key: str
    value: str
    inside: float
    outside: float
    p_value: float


def differences(values: FloatArray, inside: BoolArray, groups: IntArray) -> list[Difference]:
    """How the chosen images differ from the others, the largest effect first; only what is not chance.

    Args:
        values: Axes, shape (n, k) in the order of `AXES`.
        inside: Which are chosen, shape (n,).
        groups: Numbers that images share which are not independent, shape (n,): each counts once on a side.
    """
    keys, unit = np.unique(2 * groups + inside, return_inverse=True)
    side = (keys % 2).astype(bool)
    means = unit_means(np.asarray(values, np.float64), unit)
    few, many = int(side.sum()), int((~side).sum())
    if not few or not many:
        return []
    ranks = stats.rankdata(means, axis=0)
    effect = 2 * (ranks[side].mean(axis=0) - (few + 1) / 2) / many - 1
    chance = np.sqrt((few + many + 1) / (3 * few * many)) * stats.norm.isf(_ALPHA / 2 / values.shape[1])
    return [
        Difference(k, float(effect[k]), float(np.median(values[inside, k])), float(np.median(values[~inside, k])))
        for k in np.argsort(-np.abs(effect), kind="stable")
        if abs(effect[k]) > max(chance, _MEDIUM)
    ]


def words(found: Sequence[Difference]) -> list[str]:
    """The words for the largest differences, one for each thing that they tell of."""
    chosen: dict[str, str] = {}
    for difference in found:
        if difference.word:
            chosen.setdefault(AXES[difference.axis].concept, difference.word)
    return list(chosen.values())[:MOST_WORDS]


def shared_values(columns: Mapping[str, Column], inside: BoolArray, groups: IntArray) -> list[Shared]:
    """Values of metadata that are more frequent among the chosen images, the surest first.

    Args:
        columns: Of n images, by key. Keys with more than 50 values name images, not kinds.
        inside: Which images are chosen, shape (n,).
        groups: As above.
    """
    keys, first = np.unique(2 * groups + inside, return_index=True)
    side = (keys % 2).astype(bool)
    few, many = int(side.sum()), int((~side).sum())
    tried: list[tuple[str, str, int, int]] = []
    for key, column in columns.items():
        codes = column.codes[first]
        everywhere, here = (np.bincount(part + 1, minlength=len(column.values) + 1) for part in (codes, codes[side]))
        if not 1 < np.count_nonzero(everywhere) <= _MOST_VALUES:
            continue
        for code in np.flatnonzero(everywhere[1:]):
            inner, total = int(here[code + 1]), int(everywhere[code + 1])
            tried.append((key, column.values[code], inner, total - inner))
    p = [stats.hypergeom.sf(a - 1, few + many, a + b, few) for _, _, a, b in tried]
    adjusted = _holm(np.array(p))
    found = [
        Shared(key, value, a / few, b / many if many else 0.0, float(q))
        for (key, value, a, b), q in zip(tried, adjusted, strict=True)
        if q <= _ALPHA and a / few >= _LIFT * b / max(many, 1)
    ]
    return sorted(found, key=lambda each: (each.p_value, -each.inside, each.key, each.value))


def metadata_columns(metadata: pa.ChunkedArray, **others: pa.ChunkedArray) -> dict[str, Column]:
    """The plain values of JSON objects as columns, with other columns of texts beside them. Equal texts are read once."""
    coded = metadata.combine_chunks().dictionary_encode()
    of_text: dict[str, list[str | None]] = {}
    for place, text in enumerate(coded.dictionary.to_pylist()):
        content = json.loads(text) if text else {}
        for key, value in content.items() if isinstance(content, dict) else ():
            if isinstance(value, str | int | float):
                of_text.setdefault(key, [None] * len(coded.dictionary))[place] = str(value)
    columns = {key: Column.of(column) for key, column in others.items()}
    for key, values in of_text.items():
        columns.setdefault(key, Column.of(pa.chunked_array([pa.array(values, pa.string()).take(coded.indices)])))
    return columns


def _holm(p: FloatArray) -> FloatArray:
    """Holm's correction."""
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p)))) if len(p) else p
    out = np.empty(len(p))
    out[order] = np.minimum(steps, 1)
    return out
