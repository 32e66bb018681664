"""What a model has to compute and to move for one image, measured on the graph as it runs.

Operations are those of convolutions and matrix products (two for each multiply-and-add), which are nearly all; bytes are their
inputs, weights and outputs. Shapes are taken from a real run, not inferred, so that those which the graph computes are right too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.errors import InputError, MissingExtra

_OPS: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "ConvInteger", "MatMulInteger"})
_QUANTISED: Final = {"QLinearConv": (0, 3), "QLinearMatMul": (0, 3)}
_INTEGER: Final = frozenset({"ConvInteger", "MatMulInteger", *_QUANTISED})


@dataclass(frozen=True)
class Layer:
    """One convolution or matrix product.

    Attributes:
        ops: Operations.
        integer: Whether they are on 8-bit integers.
        weights: Bytes of its weights.
        activations: Bytes of its input and output.
    """

    ops: int
    integer: bool
    weights: int
    activations: int


@dataclass(frozen=True)
class Work:
    """What one image costs, whatever computes it.

    Attributes:
        layers: In the order in which they run.
        transfer: Numbers in the model's input and outputs.
    """

    layers: tuple[Layer, ...]
    transfer: int

    @property
    def float_ops(self) -> int:
        """Operations in floating point."""
        return sum(each.ops for each in self.layers if not each.integer)

    @property
    def int8_ops(self) -> int:
        """Operations on 8-bit integers."""
        return sum(each.ops for each in self.layers if each.integer)

    @property
    def weights(self) -> int:
        """Bytes of weights."""
        return sum(each.weights for each in self.layers)

    @property
    def activations(self) -> int:
        """Bytes of what is read and written between layers."""
        return sum(each.activations for each in self.layers)


def measure_work(path: Path, entry: str, image: npt.NDArray[np.generic]) -> Work:
    """Count what an ONNX model does with one image.

    Args:
        path: The model.
        entry: Name of its input.
        image: One image as the model takes it, with the batch's axis: shape (1, ...).

    Raises:
        MissingExtra: onnx is not installed.
        InputError: The model cannot be read or run.
    """
    try:
        import onnx
    except ImportError:
        raise MissingExtra("onnx", "train") from None
    import onnxruntime

    try:
        model = onnx.load(str(path))
        outputs = [each.name for each in model.graph.output]
        nodes = [node for node in model.graph.node if node.op_type in _OPS or node.op_type in _QUANTISED]
        known = {each.name: tuple(each.dims) for each in model.graph.initializer}
        wanted = sorted(
            {name for node in nodes for name in (*_operands(node), node.output[0])} - known.keys() - {entry}
        )
        model.graph.output.extend([onnx.ValueInfoProto(name=name) for name in wanted if name not in outputs])
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        asked = [*outputs, *(name for name in wanted if name not in outputs)]
        given = dict(zip(asked, session.run(asked, {entry: image}), strict=True))
    except Exception as error:  # onnx's and onnxruntime's exceptions have no common base
        raise InputError(f"the model's work cannot be measured: {error}", where=path) from error
    if not nodes:
        raise InputError("the model has no convolutions or matrix products, which is what is counted", where=path)
    shapes = {**known, entry: image.shape, **{name: np.shape(array) for name, array in given.items()}}
    dequantised = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    transfer = image.size + sum(np.size(given[name]) for name in outputs)
    return Work(tuple(_layer(node, shapes, dequantised) for node in nodes), transfer)


def _layer(node: Any, shapes: dict[str, tuple[int, ...]], dequantised: set[str]) -> Layer:
    """What a node does whose operands have these shapes."""
    data, weight = _operands(node)
    integer = node.op_type in _INTEGER or (data in dequantised and weight in dequantised)
    size = 1 if integer else 4
    inputs, weights, outputs = (int(np.prod(shapes[name], dtype=np.int64)) for name in (data, weight, node.output[0]))
    ops = 2 * _multiplications(node, shapes[data], shapes[weight], outputs)
    return Layer(ops, integer, size * weights, size * (inputs + outputs))


def _operands(node: Any) -> tuple[str, str]:
    """Names of a node's data and weights."""
    first, second = _QUANTISED.get(node.op_type, (0, 1))
    return node.input[first], node.input[second]


def _multiplications(node: Any, data: tuple[int, ...], weight: tuple[int, ...], outputs: int) -> int:
    """Multiplications of one node, from the shapes of its data and weights, and how many numbers it gives."""
    if node.op_type == "ConvTranspose":  # weights are [in, out / groups, ...], and each input goes to all of them
        return int(np.prod(data, dtype=np.int64)) * int(np.prod(weight[1:], dtype=np.int64))
    if "Conv" in node.op_type:  # [out, in / groups, ...]
        return outputs * int(np.prod(weight[1:], dtype=np.int64))
    transposed = any(each.name == "transA" and each.i for each in node.attribute)
    return outputs * int(data[-2] if transposed else data[-1])
