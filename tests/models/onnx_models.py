"""Small ONNX files for tests of predictors: networks whose outputs are known, or follow from the image in a known way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

Array = npt.NDArray[Any]
helper, types = onnx.helper, onnx.TensorProto
ELEMENTS = {"float32": types.FLOAT, "float16": types.FLOAT16, "uint8": types.UINT8, "int64": types.INT64}


def constant_model(
    path: Path,
    outputs: Mapping[str, Array],
    *,
    shape: tuple[int | str, ...] = (1, 3, 64, 64),
    dtype: str = "float32",
    metadata: Mapping[str, str] | None = None,
    told_sizes: bool = False,
) -> Path:
    """A network that gives the same for every image. The outputs' first axis is repeated for a batch that is open ("n")."""
    nodes, constants, infos = [], [], []
    open_batch = shape[0] == "n"
    nodes.append(helper.make_node("Shape", ["image"], ["shape"]))
    constants.append(onnx.numpy_helper.from_array(np.array([0]), "zero"))
    nodes.append(helper.make_node("Gather", ["shape", "zero"], ["count"]))
    for name, value in outputs.items():
        constants.append(onnx.numpy_helper.from_array(np.asarray(value), f"{name}_value"))
        if open_batch:
            constants.append(onnx.numpy_helper.from_array(np.ones(value.ndim - 1, np.int64), f"{name}_ones"))
            nodes.append(helper.make_node("Concat", ["count", f"{name}_ones"], [f"{name}_repeats"], axis=0))
            nodes.append(helper.make_node("Tile", [f"{name}_value", f"{name}_repeats"], [name]))
        else:
            nodes.append(helper.make_node("Identity", [f"{name}_value"], [name]))
        sides = [shape[0] if open_batch else value.shape[0], *value.shape[1:]] if value.ndim else []
        infos.append(helper.make_tensor_value_info(name, ELEMENTS[str(value.dtype)], sides))
    inputs = [helper.make_tensor_value_info("image", ELEMENTS[dtype], shape)]
    if told_sizes:
        inputs.append(helper.make_tensor_value_info("orig_target_sizes", types.INT64, [shape[0], 2]))
    return save(path, nodes, inputs, infos, constants, metadata)


def channel_means(path: Path, *, shape: tuple[int | str, ...] = ("n", 3, 8, 8), dtype: str = "float32") -> Path:
    """A classifier whose outputs are the means of the channels that it is given."""
    last = shape[-1] == 3
    nodes = [helper.make_node("Cast", ["image"], ["cast"], to=types.FLOAT)]
    axes = onnx.numpy_helper.from_array(np.array([1, 2] if last else [2, 3]), "axes")
    nodes.append(helper.make_node("ReduceMean", ["cast", "axes"], ["logits"], keepdims=0))
    return save(
        path,
        nodes,
        [helper.make_tensor_value_info("image", ELEMENTS[dtype], shape)],
        [helper.make_tensor_value_info("logits", types.FLOAT, [shape[0], 3])],
        [axes],
    )


def identity(path: Path, *, shape: tuple[int | str, ...] = ("n", 3, 32, 32), name: str = "logits") -> Path:
    """A segmenter whose channels are the image's own."""
    nodes = [helper.make_node("Identity", ["image"], [name])]
    return save(
        path,
        nodes,
        [helper.make_tensor_value_info("image", types.FLOAT, shape)],
        [helper.make_tensor_value_info(name, types.FLOAT, shape)],
        [],
    )


def grey_map(path: Path, *, shape: tuple[int | str, ...] = ("n", 3, 32, 32), name: str = "predicted_depth") -> Path:
    """A depth estimator that takes what is bright for large: [n, h, w]."""
    axes = onnx.numpy_helper.from_array(np.array([1]), "axes")
    nodes = [helper.make_node("ReduceMean", ["image", "axes"], [name], keepdims=0)]
    info = helper.make_tensor_value_info(name, types.FLOAT, [shape[0], *shape[2:]])
    return save(path, nodes, [helper.make_tensor_value_info("image", types.FLOAT, shape)], [info], [axes])


def bright_box(path: Path, *, shape: tuple[int | str, ...] = ("n", 3, 64, 64)) -> Path:
    """A detector that gives the box around what is brighter than half: boxes [n, 1, 4] in pixels and scores [n, 1, 1]."""
    constants = [
        onnx.numpy_helper.from_array(np.array(value), name)
        for name, value in {"one": [1], "rows": [2], "columns": [3], "half": np.float32(0.5)}.items()
    ]
    constants.append(onnx.numpy_helper.from_array(np.zeros(2, np.int64), "plane"))
    nodes = [
        helper.make_node("ReduceMean", ["image", "one"], ["grey"]),
        helper.make_node("Greater", ["grey", "half"], ["is_bright"]),
        helper.make_node("Cast", ["is_bright"], ["bright"], to=types.FLOAT),
        helper.make_node("ReduceMax", ["bright", "rows"], ["across"]),
        helper.make_node("ReduceMax", ["bright", "columns"], ["down"]),
    ]
    for name, profile, axis in (("x", "across", 3), ("y", "down", 2)):
        nodes += [
            helper.make_node("ArgMax", [profile], [f"{name}1"], axis=axis),
            helper.make_node("ArgMax", [profile], [f"{name}_last"], axis=axis, select_last_index=1),
            helper.make_node("Add", [f"{name}_last", "one"], [f"{name}2"]),
        ]
    nodes += [
        helper.make_node("Concat", ["x1", "y1", "x2", "y2"], ["corners"], axis=3),
        helper.make_node("Cast", ["corners"], ["floats"], to=types.FLOAT),
        helper.make_node("Squeeze", ["floats", "one"], ["boxes"]),
        helper.make_node("ReduceMax", ["bright", "rows"], ["any_row"]),
        helper.make_node("ReduceMax", ["any_row", "columns"], ["any"]),
        helper.make_node("Squeeze", ["any", "one"], ["scores"]),
    ]
    infos = [
        helper.make_tensor_value_info(name, types.FLOAT, [shape[0], 1, last])
        for name, last in (("boxes", 4), ("scores", 1))
    ]
    inputs = [helper.make_tensor_value_info("image", types.FLOAT, shape)]
    return save(path, nodes, inputs, infos, constants[:-1])


def save(
    path: Path,
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    constants: list[Any],
    metadata: Mapping[str, str] | None = None,
    *,
    check: bool = True,
) -> Path:
    """Write a graph to a file; returns its path."""
    graph = helper.make_graph(nodes, "test", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if metadata:
        helper.set_model_props(model, dict(metadata))
    if check:
        onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def picture(height: int, width: int, box: tuple[int, int, int, int]) -> npt.NDArray[np.uint8]:
    """A white rectangle [left, top, right, bottom] on black."""
    left, top, right, bottom = box
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[top:bottom, left:right] = 255
    return pixels
