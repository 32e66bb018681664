"""What can be wrong with how a picture was taken: for each fault a number that grows with it, and where it certainly is one.

The numbers are on scales where equal steps look about alike (octaves, mostly), so that their distribution over a set is
not far from normal on the side of the fault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.checks.findings import Kind
from curate.checks.measures.table import Measures
from curate.checks.quality.judge import Odds, fault_odds

FloatArray = npt.NDArray[np.float64]

_PLAIN_BITS: Final = 8


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: Unique; several faults may be of one kind.
        kind: Of the findings.
        why: A sentence for people.
        severity: From measures to numbers that grow with the fault, shape (n,).
        harmless: Below this nobody would call it a fault, however unusual it is in its set.
        hopeless: From here on it is one, however usual.
        spread: Deviations smaller than this are taken for none: what a set of one scene taken in one light may show.
        shown: The columns that say it in the evidence.
        by_level: Whether grey levels tell it, which pixels that are scaled by their own range do not keep.
    """

    name: str
    kind: Kind
    why: str
    severity: Callable[[Measures], FloatArray]
    harmless: float
    hopeless: float
    spread: float
    shown: tuple[str, ...]
    by_level: bool = False


def _column(measures: Measures, name: str) -> FloatArray:
    return measures.columns[name].astype(np.float64)


def _darkness(measures: Measures) -> FloatArray:
    """Octaves below white of the lightest parts: a face lit from one side is dark in most places and not a dark picture."""
    lightest = (_column(measures, "luminance_p95") + _column(measures, "luminance_p99")) / 2
    return -np.log2(np.maximum(lightest, 1 / 255))


def _overexposure(measures: Measures) -> FloatArray:
    """Share of clipped pixels, and how light the darker parts are: 2 for white paper, about 1 for a thing on a white ground."""
    darker = sum(_column(measures, f"luminance_p{percentile}") for percentile in ("05", "25", "50"))
    return np.asarray(_column(measures, "clipped_bright") + darker / 3)


def _flatness(measures: Measures) -> FloatArray:
    return np.asarray(-np.log2(_column(measures, "contrast") + 0.004))


def _tint(measures: Measures) -> FloatArray:
    return np.hypot(_column(measures, "cast_a"), _column(measures, "cast_b"))


def _blur(measures: Measures) -> FloatArray:
    """About the logarithm of the width of the edges: the gradient that is kept tends to a limit as they get wider.

    Near the limit widths cannot be told apart, so that nothing is hopeless by this alone.
    """
    above_limit = 16 * 4 ** _column(measures, "sharpness") - 1
    return np.asarray(-0.5 * np.log2(np.maximum(above_limit, 0.05)))


def _noisiness(measures: Measures) -> FloatArray:
    return np.log2(_column(measures, "noise") * 255 + 0.3)


def _emptiness(measures: Measures) -> FloatArray:
    """Few grey levels and few edges: a page of text has few levels but many edges."""
    return -(_column(measures, "entropy") + 10 * _column(measures, "edge_density"))


FAULTS: Final = (
    Fault(
        "dark", "dark", "even its lightest parts are dark", _darkness, 1.4, 3.0, 0.25,
        ("luminance_p95", "luminance_p99", "brightness"), True,
    ),
    Fault(
        "overexposed", "overexposed", "much of it is clipped to white", _overexposure, 0.9, 1.75, 0.1,
        ("clipped_bright", "luminance_p05", "luminance_p50"), True,
    ),
    Fault(
        "low contrast", "low_contrast", "its grey levels are close together", _flatness, 3.2, 5.6, 0.2,
        ("contrast", "luminance_p05", "luminance_p95"), True,
    ),
    Fault(
        "color cast", "color_cast", "what should be neutral is tinted", _tint, 12.0, 38.0, 2.0,
        ("cast_a", "cast_b", "red_gain", "blue_gain"), True,
    ),
    Fault(
        "blur", "blurry", "not even its edges are sharp",
        _blur, -0.5, 3.3, 0.2, ("sharpness", "edge_width", "motion_blur", "motion_angle"),
    ),
    Fault(
        "noise", "noisy", "grain, even in its smooth parts", _noisiness, 1.5, 4.0, 0.3, ("noise",), True,
    ),
    Fault(
        "compression", "noisy", "the blocks of strong JPEG compression show",
        lambda measures: _column(measures, "blockiness"), 0.15, 1.1, 0.05, ("blockiness",),
    ),
    Fault(
        "quantization", "noisy", "it was once compressed so much that JPEG left few levels of each frequency",
        lambda measures: np.log2(_column(measures, "quantization")), 3.5, 5.0, 0.3, ("quantization", "blockiness"),
    ),
    Fault(
        "banding", "noisy", "grey levels are missing, so that slopes show as bands",
        lambda measures: _column(measures, "banding"), 0.2, 0.6, 0.05, ("banding",), True,
    ),
    Fault(
        "low information", "low_information", "there is hardly anything on it", _emptiness, -5.0, -2.5, 0.4,
        ("entropy", "edge_density", "contrast"),
    ),
)  # fmt: skip
"""All faults of light, color, focus and noise."""

OF_OBJECTS: Final = ("dark", "overexposed", "low contrast", "blur")
"""Names of those that an object can have though its image has not."""


def judge_faults(measures: Measures, groups: npt.NDArray[np.int64] | None = None) -> dict[str, Odds]:
    """How probable each fault is, by its name; `groups` as for `fault_odds`.

    What grey levels tell is not judged of pictures of more than 8 bits: the probability is 0, and nothing is compared with them.
    """
    everything = np.ones(len(measures), dtype=bool)
    return {
        fault.name: judge_fault(fault, measures, groups, levels_kept(measures) if fault.by_level else everything)
        for fault in FAULTS
    }


def levels_kept(measures: Measures) -> npt.NDArray[np.bool_]:
    """Of which pictures grey levels are those of the file; bool array of shape (n,)."""
    return np.asarray(measures.columns["bits"] <= _PLAIN_BITS)


def judge_fault(
    fault: Fault, measures: Measures, groups: npt.NDArray[np.int64] | None, rows: npt.NDArray[np.bool_]
) -> Odds:
    """Odds of one fault: of some rows, compared with one another; 0 for the others."""
    severity = fault.severity(measures)
    judged = fault_odds(
        severity[rows],
        harmless=fault.harmless,
        hopeless=fault.hopeless,
        spread=fault.spread,
        groups=None if groups is None else groups[rows],
    )
    columns = {name: np.zeros(len(rows)) for name in vars(judged)}
    for name, values in vars(judged).items():
        columns[name][rows] = values
    return Odds(**columns)
