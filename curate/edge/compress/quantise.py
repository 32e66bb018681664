"""Static INT8 by onnxruntime's quantiser: weights as int8 for each channel, what flows between layers as uint8, as QDQ.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018.
Ranges of what flows are measured once; every variant of a model (other layers left out, say) is made from them.
"""

from __future__ import annotations

import copy
import io
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from curate.edge.compress.graph import BETWEEN, HEAVY, between, has_attention, layers
from curate.errors import InputError

Array = npt.NDArray[Any]

Scheme = Literal["heavy", "whole"]
"""Which operators compute with whole numbers: those with weights, or the cheap ones between them too, so that nothing has to
be turned into floats and back."""

Ranges = Literal["extremes", "percentile"]
"""How far a range reaches: to the extremes that were seen, or so far that one value in ten thousand is cut off."""

_REACH: Final[dict[Ranges, float]] = {"extremes": 100.0, "percentile": 99.99}
"""Percent of the values of each image that a range holds; the widest over all images counts, so that what is rare stays in."""


@dataclass(frozen=True)
class Calibrated:
    """A model and the ranges of what flows in it.

    Attributes:
        model: As `curate.edge.compress.graph.ready` gives it; not to be changed.
        entry: Name of the input.
        ranges: By how far they reach.
    """

    model: Any = field(repr=False)
    entry: str
    ranges: dict[Ranges, Any] = field(repr=False)


def schemes(model: Any) -> tuple[Scheme, ...]:
    """Those that make sense for a model: of transformers only what has weights is quantised."""
    return ("heavy",) if has_attention(model) else ("whole", "heavy")


def calibrate(
    model: Any, entry: str, images: Sequence[Array], methods: Sequence[Ranges] = ("extremes", "percentile")
) -> Calibrated:
    """Measure the ranges of all that flows through the layers of a model and between them.

    Args:
        model: As `curate.edge.compress.graph.ready` gives it.
        entry: Name of its input.
        images: Inputs of one row each.
        methods: How far ranges reach.

    Raises:
        InputError: The model fails on them, or gives what is no number.
    """
    from onnxruntime.quantization import CalibrationMethod, TensorsData

    session, names = _watched(model)
    edges = {method: (50 - _REACH[method] / 2, 50 + _REACH[method] / 2) for method in methods}
    found: dict[Ranges, dict[str, tuple[float, float]]] = {method: {} for method in methods}
    for image in images:
        for name, values in zip(names, session.run(names, {entry: np.ascontiguousarray(image)}), strict=True):
            if values.dtype.kind != "f" or not values.size:
                continue
            for method in methods:
                low, high = np.percentile(values, edges[method])
                before = found[method].get(name, (0.0, 0.0))  # zero must be a number that has no error
                found[method][name] = (min(low, before[0]), max(high, before[1]))
    wrong = [name for ranges in found.values() for name, ends in ranges.items() if not np.isfinite(ends).all()]
    if wrong:
        raise InputError(
            f"what flows through '{wrong[0]}' is no number for some images",
            where="calibration",
            remedy="quantise it by another method, or export the model anew",
        )
    kind = CalibrationMethod.MinMax
    return Calibrated(
        model,
        entry,
        {
            method: TensorsData(
                kind, {name: tuple(np.array(end, np.float32) for end in ends) for name, ends in each.items()}
            )
            for method, each in found.items()
        },
    )


def _watched(model: Any) -> tuple[Any, list[str]]:
    """A session that tells all that flows through the operators that may be quantised, and the names of that."""
    import onnx
    import onnxruntime

    constants = {each.name for each in model.graph.initializer}
    chosen = set(between(model)) | {layer.name for layer in layers(model)}
    names = [
        name
        for node in model.graph.node
        if node.name in chosen
        for name in (*node.input, *node.output)
        if name and name not in constants
    ]
    names = list(dict.fromkeys(names))
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    known = {each.name for each in model.graph.output}
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(
            watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
        ), names
    except Exception as error:  # onnxruntime's exceptions have no common base
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"the model cannot be calibrated: {reason}", where="calibration") from error


def quantise(
    calibrated: Calibrated,
    scheme: Scheme = "whole",
    ranges: Ranges = "extremes",
    *,
    excluded: Collection[str] = (),
    only: Collection[str] | None = None,
) -> Any:
    """An INT8 model as `onnx.ModelProto`.

    Args:
        calibrated: The model with its ranges.
        scheme: Which operators.
        ranges: How far ranges reach.
        excluded: Names of operators that stay in float.
        only: Names of the operators that do not; None for those of the scheme.

    Raises:
        InputError: The model cannot be quantised.
    """
    from onnxruntime.quantization import QDQQuantizer, QuantType

    model = copy.deepcopy(calibrated.model)
    if only is None:
        only = [layer.name for layer in layers(model)] + (between(model) if scheme == "whole" else [])
    with _quiet():
        try:
            quantiser = QDQQuantizer(
                model, True, False, QuantType.QInt8, QuantType.QUInt8, calibrated.ranges[ranges],
                sorted(only), sorted(excluded), sorted(HEAVY | BETWEEN), {},
            )  # fmt: skip
            quantiser.quantize_model()
        except Exception as error:  # the quantiser's exceptions have no common base
            reason = str(error).strip().partition("\n")[0]
            raise InputError(f"the model cannot be quantised: {reason}", where=f"{scheme}, {ranges}") from error
    return quantiser.model.model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser from advising what is done here already, through the root logger and on stdout."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(before)
