"""Operators of ONNX in torch: those that convolutional detectors and image encoders are made of.

Each takes its attributes and inputs: tensors, or arrays of numpy for what says how it works. The ONNX specification
(https://onnx.ai/onnx/operators) says what they mean; a comparison with onnxruntime follows wherever a graph is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Attributes = Mapping[str, Any]
Operator = Callable[..., Any]


def _conv(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    kernel = tuple(weight.shape[2:])
    x, padding = _padded(x, attributes, kernel)
    dilation = attributes.get("dilations", [1] * len(kernel))
    stride = attributes.get("strides", [1] * len(kernel))
    return functional.conv2d(x, weight, bias, stride, padding, dilation, attributes.get("group", 1))


def _max_pool(attributes: Attributes, x: Tensor) -> Tensor:
    kernel = attributes["kernel_shape"]
    x, padding = _padded(x, attributes, kernel, filling=-float("inf"))
    stride = attributes.get("strides", [1] * len(kernel))
    return functional.max_pool2d(x, kernel, stride, padding, ceil_mode=bool(attributes.get("ceil_mode", 0)))


def _average_pool(attributes: Attributes, x: Tensor) -> Tensor:
    kernel = attributes["kernel_shape"]
    stride = attributes.get("strides", [1] * len(kernel))
    ceil = bool(attributes.get("ceil_mode", 0))
    padded, padding = _padded(x, attributes, kernel)
    counted = bool(attributes.get("count_include_pad", 0))
    pooled = functional.avg_pool2d(padded, kernel, stride, padding, ceil, counted)
    if counted or padded is x:
        return pooled
    there, _ = _padded(torch.ones_like(x), attributes, kernel)  # what was put on by hand does not count
    return pooled / functional.avg_pool2d(there, kernel, stride, 0, ceil)


def _padded(
    x: Tensor, attributes: Attributes, kernel: Sequence[int], filling: float = 0.0
) -> tuple[Tensor, tuple[int, int]]:
    """The input, with what torch cannot pad by itself (another width on each side) put on it; and what torch shall pad."""
    pads = list(attributes.get("pads", [0, 0, 0, 0]))
    auto = attributes.get("auto_pad", "NOTSET")
    if auto in {"SAME_UPPER", "SAME_LOWER"}:
        strides = attributes.get("strides", [1, 1])
        dilations = attributes.get("dilations", [1, 1])
        pads = _same_padding(tuple(x.shape[2:]), kernel, strides, dilations, upper=auto == "SAME_UPPER")
    top, left, bottom, right = pads
    if (top, left) == (bottom, right):
        return x, (top, left)
    return functional.pad(x, (left, right, top, bottom), value=filling), (0, 0)


def _same_padding(
    size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], *, upper: bool
) -> list[int]:
    """[top, left, bottom, right] that keep a side's length, divided by the stride and rounded up."""
    low, high = [], []
    for side, width, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
        lacking = max(0, (-(-side // stride) - 1) * stride + (width - 1) * dilation + 1 - side)
        small, large = lacking // 2, lacking - lacking // 2
        low.append(small if upper else large)
        high.append(large if upper else small)
    return [*low, *high]


def _batch_norm(attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    return functional.batch_norm(x, mean, var, scale, bias, eps=attributes.get("epsilon", 1e-5))


def _instance_norm(attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return functional.instance_norm(x, weight=scale, bias=bias, eps=attributes.get("epsilon", 1e-5))


def _clip(attributes: Attributes, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    low = attributes.get("min") if low is None else low
    high = attributes.get("max") if high is None else high
    return torch.clamp(x, None if low is None else float(low), None if high is None else float(high))


def _resize(attributes: Attributes, x: Tensor, *inputs: Any) -> Tensor:
    """Opset 10 has (scales); later ones (roi, scales, sizes)."""
    scales = inputs[0] if len(inputs) == 1 else inputs[1] if len(inputs) > 1 else attributes.get("scales")
    sizes = inputs[2] if len(inputs) > 2 else None
    if sizes is not None:
        size = [int(side) for side in np.asarray(sizes)[2:]]
    else:
        factors = scales.tolist() if isinstance(scales, Tensor) else list(np.asarray(scales))
        size = [int(side * factor) for side, factor in zip(x.shape[2:], factors[2:], strict=True)]
    mode = attributes.get("mode", "nearest")
    if mode == "nearest":
        return functional.interpolate(x, size, mode="nearest")
    corners = attributes.get("coordinate_transformation_mode") == "align_corners"
    return functional.interpolate(x, size, mode="bicubic" if mode == "cubic" else "bilinear", align_corners=corners)


def _slice(attributes: Attributes, x: Tensor, *inputs: Any) -> Tensor:
    """Up to opset 9 the places are attributes."""
    starts, ends, axes, steps = [*inputs, None, None, None, None][:4]
    starts = attributes["starts"] if starts is None else starts
    ends = attributes["ends"] if ends is None else ends
    axes = attributes.get("axes", range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    index: list[Any] = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[int(axis)] = slice(int(start), min(int(end), x.shape[int(axis)]), int(step))
    return x[tuple(index)]


def _split(attributes: Attributes, x: Tensor, sizes: Any = None) -> tuple[Tensor, ...]:
    axis = attributes.get("axis", 0)
    sizes = attributes.get("split") if sizes is None else sizes
    count = attributes.get("num_outputs", 2)
    return tuple(torch.split(x, -(-x.shape[axis] // count) if sizes is None else [int(s) for s in sizes], axis))


def _reshape(attributes: Attributes, x: Tensor, shape: Any) -> Tensor:
    """The graph was folded for one row: a shape that starts with it is meant for any number of them."""
    sides = [int(side) for side in shape]
    sides = [x.shape[at] if side == 0 else side for at, side in enumerate(sides)]
    if sides[0] == 1:
        sides[0] = x.shape[0]
    return x.reshape(sides)


def _pad(attributes: Attributes, x: Tensor, pads: Any = None, value: Any = None, axes: Any = None) -> Tensor:
    pads = attributes["pads"] if pads is None else pads
    value = attributes.get("value", 0.0) if value is None else value
    places = range(x.ndim) if axes is None else [int(axis) % x.ndim for axis in axes]
    widths = [[0, 0] for _ in range(x.ndim)]
    for axis, low, high in zip(places, pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True):
        widths[axis] = [int(low), int(high)]
    mode = {"constant": "constant", "edge": "replicate", "reflect": "reflect"}[attributes.get("mode", "constant")]
    if mode == "constant":
        return functional.pad(x, [width for pair in reversed(widths) for width in pair], value=float(value))
    return functional.pad(x, [width for pair in reversed(widths[2:]) for width in pair], mode=mode)


def _reduce_mean(attributes: Attributes, x: Tensor, axes: Any = None) -> Tensor:
    axes = attributes["axes"] if axes is None else axes
    return x.mean(dim=[int(axis) for axis in axes], keepdim=bool(attributes.get("keepdims", 1)))


def _gemm(attributes: Attributes, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a = a.T if attributes.get("transA") else a
    b = b.T if attributes.get("transB") else b
    product = attributes.get("alpha", 1.0) * (a @ b)
    return product if c is None else product + attributes.get("beta", 1.0) * c


def _axes(attributes: Attributes, axes: Any) -> list[int]:
    return [int(axis) for axis in (attributes["axes"] if axes is None else axes)]


def _unsqueeze(attributes: Attributes, x: Tensor, axes: Any = None) -> Tensor:
    for axis in sorted(_axes(attributes, axes)):
        x = x.unsqueeze(axis)
    return x


def _depth_to_space(attributes: Attributes, x: Tensor) -> Tensor:
    side = attributes["blocksize"]
    if attributes.get("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(x, side)
    rows, channels, height, width = x.shape
    parts = x.reshape(rows, side, side, channels // side**2, height, width)
    return parts.permute(0, 3, 4, 1, 5, 2).reshape(rows, -1, height * side, width * side)


def _cast(attributes: Attributes, x: Tensor) -> Tensor:
    """Whole numbers stand for pixels here, and are given as floating point already."""
    return x.float()


def _gelu(attributes: Attributes, x: Tensor) -> Tensor:
    return functional.gelu(x, approximate=attributes.get("approximate", "none"))


OPERATORS: Final[dict[str, Operator]] = {
    "Add": lambda _, a, b: a + b,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda attributes, *parts: torch.cat(parts, dim=attributes["axis"]),
    "Conv": _conv,
    "DepthToSpace": _depth_to_space,
    "Div": lambda _, a, b: a / b,
    "Elu": lambda attributes, x: functional.elu(x, attributes.get("alpha", 1.0)),
    "Erf": lambda _, x: torch.erf(x),
    "Exp": lambda _, x: torch.exp(x),
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda _, x: x.mean(dim=(2, 3), keepdim=True),
    "HardSigmoid": lambda attributes, x: torch.clamp(
        attributes.get("alpha", 0.2) * x + attributes.get("beta", 0.5), 0.0, 1.0
    ),
    "HardSwish": lambda _, x: functional.hardswish(x),
    "Identity": lambda _, x: x,
    "InstanceNormalization": _instance_norm,
    "LeakyRelu": lambda attributes, x: functional.leaky_relu(x, attributes.get("alpha", 0.01)),
    "MaxPool": _max_pool,
    "Mish": lambda _, x: functional.mish(x),
    "Mul": lambda _, a, b: a * b,
    "PRelu": lambda _, x, slope: torch.where(x >= 0, x, x * slope),
    "Pad": _pad,
    "Pow": lambda _, x, exponent: x**exponent,
    "ReduceMean": _reduce_mean,
    "Relu": lambda _, x: functional.relu(x),
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": lambda _, x: torch.sigmoid(x),
    "Slice": _slice,
    "Softplus": lambda _, x: functional.softplus(x),
    "Split": _split,
    "Sqrt": lambda _, x: torch.sqrt(x),
    "Sub": lambda _, a, b: a - b,
    "Tanh": lambda _, x: torch.tanh(x),
    "Transpose": lambda attributes, x: x.permute(attributes["perm"]),
    "Unsqueeze": _unsqueeze,
    "Upsample": _resize,
}
"""By name."""
