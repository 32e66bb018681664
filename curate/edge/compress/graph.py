"""An ONNX file made ready to be quantised: folded, every operator with a name of its own, shapes left to be inferred."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from curate.errors import InputError, MissingExtra

HEAVY: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that hold nearly all weights and do nearly all of the work."""

BETWEEN: Final = frozenset(
    {"Add", "Mul", "Relu", "Clip", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool", "Reshape", "Resize",
     "Transpose", "Flatten", "Squeeze", "Unsqueeze", "LeakyRelu", "Sigmoid", "HardSwish"}
)  # fmt: skip
"""Cheap operators that can compute with whole numbers where they stand between two of those."""

_OPSET: Final = 13
"""The first in which scales may differ from channel to channel."""

_ATTENTION: Final = frozenset({"LayerNormalization", "Softmax", "Erf"})


@dataclass(frozen=True)
class Layer:
    """An operator with weights.

    Attributes:
        name: Unique in the graph.
        operator: As ONNX calls it.
        weights: How many.
    """

    name: str
    operator: str
    weights: int


def ready(path: Path) -> Any:
    """Read a model as the quantiser wants it: `onnx.ModelProto`, whose file is not changed.

    Raises:
        InputError: It cannot be read, or is too large or too old.
        MissingExtra: The package onnx is not installed.
    """
    try:
        import onnx
        from onnx import version_converter
    except ImportError as error:
        raise MissingExtra("onnx", "train") from error
    try:
        model = onnx.load(str(path))
        version = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
        if version < _OPSET:
            model = version_converter.convert_version(model, _OPSET)
        model = _folded(model)
    except Exception as error:  # onnx, its converter and onnxruntime have no common base
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"the model cannot be made ready for quantising: {reason}",
            where=path,
            remedy=f"export it again, with opset {_OPSET} or later and below 2 GB",
        ) from error
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise InputError("the model is quantised already", where=path, remedy="name the run that it was made from")
    _name_all(model)
    # What an exporter says of shapes in between may contradict what is inferred; dynamo's does for convolutions.
    del model.graph.value_info[:]
    return model


def layers(model: Any) -> list[Layer]:
    """The operators with weights, in the order of the graph."""
    from math import prod

    sizes = {each.name: prod(each.dims) for each in model.graph.initializer}
    found = []
    for node in model.graph.node:
        weights = sum(sizes.get(name, 0) for name in node.input)
        if node.op_type in HEAVY and weights:
            found.append(Layer(node.name, node.op_type, weights))
    return found


def between(model: Any) -> list[str]:
    """Names of the cheap operators all of whose inputs come from layers and all of whose outputs go to layers.

    What stands before the first layer (light, hue) or behind the last (the corners of boxes, in pixels) would lose more by
    256 steps than a layer does, and costs nothing.
    """
    constants = {each.name for each in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output if name}
    users: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    outputs = {each.name for each in model.graph.output}
    heavy = {layer.name for layer in layers(model)}
    kept = {node.name for node in model.graph.node if node.op_type in BETWEEN}

    def stays(node: Any) -> bool:
        inner = heavy | kept
        given = [makers.get(name) for name in node.input if name and name not in constants]
        taken = [user for name in node.output for user in users.get(name, [])]
        return (
            all(maker is not None and (maker.name in inner or maker.op_type == "Constant") for maker in given)
            and bool(taken)
            and all(user.name in inner for user in taken)
            and not outputs.intersection(node.output)
        )

    while lost := [node.name for node in model.graph.node if node.name in kept and not stays(node)]:
        kept.difference_update(lost)
    return [node.name for node in model.graph.node if node.name in kept]


def has_attention(model: Any) -> bool:
    """Whether this is a transformer, whose normalisations and soft maxima lose too much as whole numbers."""
    return any(node.op_type in _ATTENTION for node in model.graph.node)


def _folded(model: Any) -> Any:
    """The same without batch normalisation and whatever else does not hang on the input."""
    import onnx
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    # Further optimisations are for one processor, and use operators that are none of ONNX's.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with TemporaryDirectory() as folder:
        target = Path(folder, "folded.onnx")
        options.optimized_model_filepath = str(target)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(str(target))


def _name_all(model: Any) -> None:
    """Give every operator a name that no other has."""
    taken: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{number}"
        taken.add(node.name)
