"""Small convolutional networks as ONNX files, made by hand, with weights that a seed decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 16


def conv_net(path: Path, *, classes: int = 3, outlier: float = 1.0, seed: int = 0) -> Path:
    """Three convolutions and a linear layer: float32 images (n, 3, 16, 16) to logits (n, classes).

    Args:
        path: Of the file.
        classes: Of the output.
        outlier: Before the second convolution one channel in 8 is so much larger than the others, and as much smaller in its
            weights: the same network, whose second layer alone is hard to compute with few bits.
        seed: Of the weights.
    """
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> npt.NDArray[np.float32]:
        return np.asarray(rng.normal(size=shape) / np.sqrt(np.prod(shape[1:])), np.float32)

    first, second, third, last = weights(8, 3, 3, 3), weights(8, 8, 3, 3), weights(16, 8, 3, 3), weights(classes, 16)
    first[0] *= outlier
    second[:, 0] /= outlier
    arrays = {"w1": first, "w2": second, "w3": third, "w4": last}
    biases = {"b1": 8, "b2": 8, "b3": 16, "b4": classes}
    arrays |= {name: rng.normal(scale=0.1, size=count).astype(np.float32) for name, count in biases.items()}
    conv = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["images", "w1", "b1"], ["c1"], name="first", **conv),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="second", **conv),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["c3"], name="third", **conv, strides=[2, 2]),
        helper.make_node("Relu", ["c3"], ["r3"], name="relu3"),
        helper.make_node("GlobalAveragePool", ["r3"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w4", "b4"], ["logits"], name="last", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes])],
        [numpy_helper.from_array(value, name) for name, value in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def rows(count: int, *, low: float = 0.0, high: float = 1.0, seed: int = 0) -> list[np.ndarray]:
    """Inputs of one row each: smooth noise between two values."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(low, high, (count, 1, 3, SIDE // 4, SIDE // 4)).astype(np.float32)
    return list(coarse.repeat(4, axis=3).repeat(4, axis=4))
