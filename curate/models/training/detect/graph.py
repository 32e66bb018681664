"""An ONNX file as a torch module whose weights can learn: what turns somebody's detector or encoder into a backbone.

Only the part of the graph that leads to the wanted tensors is kept. onnxruntime first folds what depends on nothing but the
input's size (shape arithmetic, batch normalisation), so that a few dozen operators are enough for convolutional networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from curate.errors import InputError
from curate.models.training.detect.operators import OPERATORS, Attributes

_LEARN = {"Conv": (1, 2), "BatchNormalization": (1, 2), "PRelu": (1,), "Gemm": (1, 2), "InstanceNormalization": (1, 2)}
"""Which inputs of an operator are weights that may learn."""


_MERGES = "ConstantSharing"
"""An optimisation that makes one of all weights that happen to be equal, which must be free to become different."""

_TOLD_HOW = frozenset({"Clip", "Pad", "Resize", "Upsample"})
"""Operators whose other inputs are numbers that say how they work."""


class GraphModule(torch.nn.Module):  # type: ignore[misc]
    """The part of an ONNX graph between its input and some of its tensors.

    Args:
        path: The file.
        outputs: Names of the tensors wanted.
        shape: Of the input, with one row; its sides are fixed, the number of rows is not.

    Raises:
        InputError: The file is no ONNX graph of one input, has no such tensor, or uses an operator that is not known here.
    """

    def __init__(self, path: Path, outputs: Sequence[str], shape: Sequence[int]) -> None:
        super().__init__()
        model = fold(subgraph(read_model(path), outputs, shape))
        unknown = sorted({node.op_type for node in model.graph.node} - OPERATORS.keys())
        if unknown:
            raise InputError(
                f"the part of the graph before the features uses {', '.join(unknown)}, which cannot be trained here",
                where=path,
                remedy="name earlier features (option 'features'), or give another backbone",
            )
        self._input = model.graph.input[0].name
        self._outputs = list(outputs)
        self._constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        self._steps = [_Step(node) for node in model.graph.node]
        self.weights = torch.nn.ParameterDict()
        self._adopt_weights()
        self._adopt_constants()

    def forward(self, images: Tensor) -> list[Tensor]:
        """The wanted tensors of n inputs."""
        values: dict[str, Any] = {self._input: images}
        for step in self._steps:
            inputs = [self._value(step, place, values) for place in range(len(step.inputs))]
            results = OPERATORS[step.operator](step.attributes, *inputs)
            values.update(zip(step.outputs, results if isinstance(results, tuple) else (results,), strict=False))
        return [values[name] for name in self._outputs]

    def _value(self, step: _Step, place: int, values: dict[str, Any]) -> Any:
        """A tensor; or an array of numpy's, for what says how an operator works (sizes, axes)."""
        name = step.inputs[place]
        if name in values:
            return values[name]
        own = step.own.get(place)
        if own is not None:
            return self.weights[own] if own in self.weights else getattr(self, own)
        return self._constants[name] if name else None

    def _adopt_weights(self) -> None:
        """Make parameters of weights, in the order of the graph.

        Kernels that are used several times (one head for all maps) stay one. Vectors do not: exporters make one of all that
        are equal, as biases of zero are.
        """
        kernels: dict[str, str] = {}
        for step in self._steps:
            for place in _LEARN.get(step.operator, ()):
                name = step.inputs[place] if place < len(step.inputs) else ""
                if name not in self._constants:
                    continue
                value = torch.tensor(self._constants[name])
                own = kernels.get(name) if value.ndim > 1 else None
                if own is None:
                    own = f"w{len(self.weights):04d}"
                    self.weights[own] = torch.nn.Parameter(value)
                    if value.ndim > 1:
                        kernels[name] = own
                step.own[place] = own

    def _adopt_constants(self) -> None:
        """Make buffers of numbers that are computed with, so that they go to where the weights are."""
        count = 0
        for step in self._steps:
            for place, name in enumerate(step.inputs[:1] if step.operator in _TOLD_HOW else step.inputs):
                constant = self._constants.get(name)
                if constant is not None and place not in step.own and constant.dtype == np.float32:
                    step.own[place] = f"c{count:04d}"
                    self.register_buffer(step.own[place], torch.tensor(constant), persistent=False)
                    count += 1


class _Step:
    """One operator of the graph."""

    def __init__(self, node: Any) -> None:
        self.operator: str = node.op_type
        self.inputs: list[str] = list(node.input)
        self.outputs: list[str] = list(node.output)
        self.own: dict[int, str] = {}  # parameters and buffers, by place among the inputs
        self.attributes: Attributes = {each.name: _plain(each) for each in node.attribute}


def read_model(path: Path) -> Any:
    """An ONNX model of one image input.

    Raises:
        InputError: It cannot be read, or takes something else.
    """
    if not path.is_file():
        raise InputError("the ONNX file is not there", where=path)
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's errors have no common base
        raise InputError("the file is not an ONNX model", where=path) from error
    constants = {each.name for each in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in constants]
    if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != 4:
        raise InputError("the graph does not take one image", where=path, remedy="give a detector or an image encoder")
    del model.graph.input[:]
    model.graph.input.append(inputs[0])
    return model


def subgraph(model: Any, outputs: Sequence[str], shape: Sequence[int]) -> Any:
    """What leads to some tensors, as a model of its own with the input's sides fixed.

    Raises:
        InputError: There is no such tensor.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    missing = [name for name in outputs if name not in makers]
    if missing:
        raise InputError(f"the graph has no tensor '{missing[0]}'", remedy="look at the file with netron")
    wanted, needed = list(outputs), set()
    while wanted:
        name = wanted.pop()
        if name in needed:
            continue
        needed.add(name)
        if name in makers:
            wanted += makers[name].input
    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.node[:], part.graph.initializer[:], part.graph.output[:], part.graph.value_info[:]
    part.graph.node.extend(node for node in model.graph.node if needed.intersection(node.output))
    part.graph.initializer.extend(each for each in model.graph.initializer if each.name in needed)
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    for side, dimension in zip(shape, part.graph.input[0].type.tensor_type.shape.dim, strict=True):
        dimension.dim_value = side
    return part


def open_session(model: Any, *, optimised: str | None = None) -> Any:
    """An onnxruntime session on the CPU, in one thread.

    Args:
        model: The ONNX model.
        optimised: Where to write what is left after folding; then nothing is fused that is no operator of ONNX itself.

    Raises:
        InputError: It cannot be run.
    """
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if optimised is not None:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = optimised
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"], disabled_optimizers=[_MERGES]
        )
    except Exception as error:  # onnxruntime's exceptions have no common base
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"the graph cannot be run at this image size: {reason}") from error


def fold(model: Any) -> Any:
    """The same model without what is constant for its input's shape."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = Path(folder, "folded.onnx")
        open_session(model, optimised=str(path))
        return onnx.load(str(path))


def _plain(attribute: Any) -> Any:
    """An attribute's value as Python has it."""
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return list(value) if attribute.type in {onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS} else value
