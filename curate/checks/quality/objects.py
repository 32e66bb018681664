"""Objects on a picture: what is wrong with them though the picture is good.

An object is compared with those of its class and size, and so is by how much it is worse than its own picture: a part in a
dark picture is dark as its picture is. Whether an object is out of focus is not asked of crops that are too small to tell their
edges from their grain, nor of those which the border of the picture cuts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.findings import FLAGGED
from curate.checks.measures.table import Measures
from curate.checks.quality.faults import FAULTS, OF_OBJECTS, judge_fault, levels_kept
from curate.checks.quality.judge import Odds, relative_odds

FloatArray = npt.NDArray[np.float64]

# Pixels on the shorter side at which a crop tells nothing of light, and all.
_NOTHING: Final = 12.0
_EVERYTHING: Final = 96.0
# Pixels on the shorter side that hold three blocks each way, of which those without edges tell the grain.
_FOCUS: Final = 52.0
# Width (pixels) of the sharpest edges from which on an object is out of focus. The thread of a bolt has sharp edges one way and
# none the other, which a move would leave as well: that is not asked of objects.
_WIDE: Final = 1.0
# Pixels from the border at which a box is cut by it.
_AT_BORDER: Final = 1.0


@dataclass(frozen=True)
class Objects:
    """The boxes of n objects.

    Attributes:
        image: Row of each one's picture, shape (n,).
        side: Pixels on the shorter side, shape (n,).
        group: Numbers shared by objects of one class and about one size (an octave): they are compared with one another. Small
            objects have fewer fine details than large ones, and some classes are darker than others. Shape (n,).
        cut: Whether the border of the picture cuts it, shape (n,).
    """

    image: npt.NDArray[np.int64]
    side: FloatArray
    group: npt.NDArray[np.int64]
    cut: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, objects: pa.Table, images: pa.Table) -> Objects:
        """From columns image_id, label and bbox, which is not null, and from those of the images: image_id, width, height."""
        image = pc.index_in(objects["image_id"], value_set=images["image_id"].combine_chunks()).to_numpy()
        flat = objects["bbox"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        x, y, width, height = flat.reshape(-1, 4).T
        side = np.maximum(np.minimum(width, height), 1.0)
        right, bottom = (
            pc.fill_null(pc.cast(images[name], pa.float64()), np.inf).to_numpy()[image] for name in ("width", "height")
        )
        cut = (np.minimum(x, y) <= _AT_BORDER) | (np.minimum(right - x - width, bottom - y - height) <= _AT_BORDER)
        return cls(image.astype(np.int64), side, _groups(objects["label"], side), cut)


def judge_objects(
    objects: Objects, crops: Measures, images: Measures, of_images: Mapping[str, Odds]
) -> dict[str, tuple[FloatArray, Odds]]:
    """How probable a fault of each object is that its picture has not.

    Args:
        objects: n objects.
        crops: What was measured of them, n rows.
        images: What was measured of the pictures.
        of_images: What `judge_faults` gave for those.

    Returns:
        Probability, shape (n,), and the odds that it was made from, by the names `OF_OBJECTS`.
    """
    found = {}
    for fault in FAULTS:
        if fault.name not in OF_OBJECTS:
            continue
        rows = _focusable(objects) if fault.name == "blur" else levels_kept(crops) & (objects.side > _NOTHING)
        own = judge_fault(fault, crops, objects.group, rows)
        of_image = fault.severity(images)[objects.image]
        worse = np.zeros(len(rows))
        worse[rows] = relative_odds((own.severity - of_image)[rows], objects.group[rows], fault.spread)[0]
        on_good_image = of_images[fault.name].probability[objects.image] < FLAGGED
        wide = crops.columns["edge_width"] >= _WIDE
        plausible = wide if fault.name == "blur" else _evidence_of_size(objects.side)
        found[fault.name] = own.probability * worse * on_good_image * plausible, own
    return found


def _focusable(objects: Objects) -> npt.NDArray[np.bool_]:
    """Which objects are large enough, and whole, to ask whether they are blurred."""
    return np.asarray((objects.side >= _FOCUS) & ~objects.cut)


def _groups(labels: pa.ChunkedArray, sides: FloatArray) -> npt.NDArray[np.int64]:
    label = pc.fill_null(labels, "").combine_chunks().dictionary_encode().indices.to_numpy()
    octave = np.floor(np.log2(sides)).astype(np.int64)
    return np.asarray(np.unique(np.stack([label, octave], axis=1), axis=0, return_inverse=True)[1].ravel())


def _evidence_of_size(sides: FloatArray) -> FloatArray:
    """How much a crop of that size can tell of light, in [0, 1]; grows with the logarithm of its size."""
    span = np.log2(_EVERYTHING / _NOTHING)
    return np.asarray(np.clip(np.log2(sides / _NOTHING) / span, 0, 1))
