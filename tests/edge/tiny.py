"""Packages small enough for tests: graphs that find colored squares by arithmetic, exactly, with what is needed to run them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from curate.edge.package.reference import write_reference
from curate.edge.runtime.answers import open_runner
from curate.runner import FEATURES, Reference, features

SIDE = 64
SQUARE = 12
CLASSES = ("red", "green", "blue")


def detector(folder: Path, *, name: str = "squares", min_score: float = 0.05, **post: Any) -> Path:
    """Finds a red, a green and a blue square on a dark frame of 64 x 64: middles are means of places, weighed by light."""
    steps = np.arange(SIDE, dtype=np.float32) + 0.5
    constants: dict[str, npt.NDArray[Any]] = {
        "across": steps.reshape(1, 1, 1, SIDE),
        "down": steps.reshape(1, 1, SIDE, 1),
        "tiny": np.array(1e-3, np.float32),
        "area": np.array(SQUARE * SQUARE, np.float32),
        "half": np.array(SQUARE / 2, np.float32),
        "one": np.array(1, np.float32),
        "eye": np.eye(3, dtype=np.float32).reshape(1, 3, 3),
        "axes": np.array([2, 3], np.int64),
        "last": np.array([2], np.int64),
        "three": np.array([0, 3], np.int64),
        "row": np.array([0, 3, 1], np.int64),
    }
    nodes = [
        helper.make_node("ReduceSum", ["image", "axes"], ["mass"], keepdims=0),
        helper.make_node("Add", ["mass", "tiny"], ["weight"]),
        *_middle("across", "x"),
        *_middle("down", "y"),
        *(
            helper.make_node(kind, [axis, "half"], [f"{axis}_{end}"])
            for axis in "xy"
            for kind, end in (("Sub", "low"), ("Add", "high"))
        ),
        *(helper.make_node("Unsqueeze", [each, "last"], [f"{each}_c"]) for each in _CORNERS),
        helper.make_node("Concat", [f"{each}_c" for each in _CORNERS], ["boxes"], axis=2),
        helper.make_node("Div", ["mass", "area"], ["part"]),
        helper.make_node("Min", ["part", "one"], ["sure"]),
        helper.make_node("Unsqueeze", ["sure", "last"], ["column"]),
        helper.make_node("Mul", ["column", "eye"], ["scores"]),
    ]
    outputs = {"boxes": ["n", 3, 4], "scores": ["n", 3, 3]}
    read: dict[str, Any] = {
        "layout": "boxes_scores",
        "boxes": "boxes",
        "scores": "scores",
        "form": "xyxy",
        "activation": "none",
    }
    read |= {"normalised": False, "background": False, "outputs": ["boxes", "scores"]}
    return _package(folder, name, "detect", nodes, constants, outputs, {**read, "min_score": min_score, **post})


def classifier(folder: Path, *, name: str = "colors", gain: float = 4.0, tilt: float = 0.0, **post: Any) -> Path:
    """Which color a frame has most of; `gain` makes it surer, `tilt` favours red."""
    constants: dict[str, npt.NDArray[Any]] = {
        "axes": np.array([2, 3], np.int64),
        "gain": np.array(gain, np.float32),
        "tilt": np.array([tilt, 0, 0], np.float32),
    }
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "gain"], ["scaled"]),
        helper.make_node("Add", ["scaled", "tilt"], ["logits"]),
    ]
    read = {"layout": "logits", "output": "logits", "activation": "softmax", "outputs": ["logits"], "min_score": 0.0}
    return _package(folder, name, "classify", nodes, constants, {"logits": ["n", 3]}, {**read, **post})


def segmenter(folder: Path, *, name: str = "spots", **post: Any) -> Path:
    """Each pixel's color, or none where it is dark."""
    constants: dict[str, npt.NDArray[Any]] = {
        "gain": np.array(20, np.float32),
        "zero": np.full((1, 1, 1, 1), 10, np.float32),
        "first": np.array([[[[1]], [[0]], [[0]]]], np.float32),
        "channel": np.array([1], np.int64),
        "none": np.array(0, np.float32),
    }
    nodes = [
        helper.make_node("Mul", ["image", "gain"], ["colors"]),
        helper.make_node("ReduceMax", ["image", "channel"], ["light"], keepdims=1),
        helper.make_node("Mul", ["light", "none"], ["nothing"]),
        helper.make_node("Add", ["nothing", "zero"], ["background"]),
        helper.make_node("Concat", ["background", "colors"], ["map"], axis=1),
    ]
    read = {"layout": "class_map", "output": "map", "background": True, "activation": "softmax", "outputs": ["map"]}
    shape = {"map": ["n", 4, SIDE, SIDE]}
    return _package(folder, name, "segment", nodes, constants, shape, {**read, "min_score": 0.0, **post})


def with_reference(
    folder: Path, images: Sequence[npt.NDArray[np.uint8]], held_out: Sequence[npt.NDArray[np.uint8]] = ()
) -> Path:
    """Let a package know what training images look like, and how unsure it is of held-out ones if there are any."""
    runner = open_runner(str(folder))
    rows = np.array([features(image, runner.run([image])[0]) for image in images])
    assert rows.shape[1] == len(FEATURES)
    precision: npt.NDArray[np.float64] = np.linalg.inv(np.cov(rows.T) + 1e-3 * np.eye(len(FEATURES))).astype(np.float64)
    off = rows - rows.mean(axis=0)
    distances = np.sort(np.sqrt(np.einsum("ni,ij,nj->n", off, precision, off)))
    reference = Reference(rows.mean(axis=0), precision, distances)
    if held_out:
        unsure = sorted(result.uncertainty for result in runner.run(list(held_out)))
        reference = replace(reference, uncertainties=np.array(unsure))
    write_reference(folder / "reference.npz", reference)
    manifest = json.loads((folder / "package.json").read_text())
    manifest["reference"] = "reference.npz"
    manifest["files"]["reference.npz"] = hashlib.sha256((folder / "reference.npz").read_bytes()).hexdigest()
    (folder / "package.json").write_text(json.dumps(manifest))
    return folder


def frame(
    red: tuple[float, float] | None = None,
    green: tuple[float, float] | None = None,
    blue: tuple[float, float] | None = None,
    *,
    light: int = 255,
) -> npt.NDArray[np.uint8]:
    """A dark frame with squares of 12 x 12 around these middles; what lies outside is cut off."""
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    for channel, middle in enumerate((red, green, blue)):
        if middle is not None:
            x, y = (round(each - SQUARE / 2) for each in middle)
            pixels[max(y, 0) : max(y + SQUARE, 0), max(x, 0) : max(x + SQUARE, 0), channel] = light
    return pixels


_CORNERS = ("x_low", "y_low", "x_high", "y_high")


def _middle(place: str, name: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Mul", ["image", place], [f"{name}_weighed"]),
        helper.make_node("ReduceSum", [f"{name}_weighed", "axes"], [f"{name}_sum"], keepdims=0),
        helper.make_node("Div", [f"{name}_sum", "weight"], [name]),
    ]


def _package(
    folder: Path,
    name: str,
    task: str,
    nodes: list[onnx.NodeProto],
    constants: dict[str, npt.NDArray[Any]],
    outputs: dict[str, list[Any]],
    post: dict[str, Any],
) -> Path:
    used = {each for node in nodes for each in node.input}
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in outputs.items()],
        [numpy_helper.from_array(value, key) for key, value in constants.items() if key in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    manifest = {
        "format": 1,
        "name": name,
        "version": "1.0.0",
        "target": "onnx",
        "task": task,
        "classes": list(CLASSES),
        "model": {"file": "model.onnx"},
        "preprocess": {
            "input": "image",
            "dtype": "float32",
            "batch": None,
            "size": [SIDE, SIDE],
            "resize": "squash",
            "crop": 1.0,
            "multiple": 1,
            "pad": 0,
            "interpolation": "bilinear",
            "color": "rgb",
            "layout": "nchw",
            "scale": 1 / 255,
            "mean": [0.0],
            "std": [1.0],
        },
        "postprocess": {"nms_iou": 0.65, "most_objects": 100, **post},
        "files": {"model.onnx": hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()},
    }
    (folder / "package.json").write_text(json.dumps(manifest))
    return folder
