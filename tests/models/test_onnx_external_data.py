"""Weights beside an ONNX graph: found under any name, wherever in the graph they belong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.models.encoders.external_data import external_files
from curate.models.encoders.registry import load_encoder

onnx = pytest.importorskip("onnx")


def external(name: str, values: np.ndarray, location: str, folder: Path) -> Any:
    """A tensor in a file of its own."""
    tensor = onnx.numpy_helper.from_array(values, name)
    (folder / location).parent.mkdir(exist_ok=True)
    (folder / location).write_bytes(tensor.raw_data)
    onnx.external_data_helper.set_external_data(tensor, location=location, offset=0, length=len(tensor.raw_data))
    tensor.ClearField("raw_data")
    return tensor


def save(graph: Any, path: Path, functions: tuple[Any, ...] = ()) -> Path:
    imports = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("own", 1)]
    model = onnx.helper.make_model(graph, opset_imports=imports, functions=functions, ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def save_scaled_mean(path: Path, scale: list[float], location: str) -> Path:
    """A graph whose vector is the mean of each channel times a scale, which is beside it."""
    helper, types = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["vector"]),
    ]
    weights = [
        onnx.numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
        external("scale", np.array(scale, np.float32), location, path.parent),
    ]
    image = helper.make_tensor_value_info("image", types.FLOAT, ["n", 3, 8, 8])
    vector = helper.make_tensor_value_info("vector", types.FLOAT, ["n", 3])
    return save(helper.make_graph(nodes, "scaled", [image], [vector], weights), path)


@pytest.mark.parametrize("location", ["weights.bin", "parts/0"])
def test_other_weights_beside_the_graph_are_another_encoder(tmp_path: Path, location: str) -> None:
    path = save_scaled_mean(tmp_path / "encoder.onnx", [1, 2, 3], location)
    first = load_encoder(f"onnx:{path}")
    prepared = [first.prepare(np.full((8, 8, 3), 200, np.uint8))]
    vectors = first.encode(prepared)
    (tmp_path / "encoder.onnx.data").write_bytes(b"not the graph's")
    assert load_encoder(f"onnx:{path}").name == first.name
    graph = path.read_bytes()
    save_scaled_mean(path, [3, 2, 1], location)
    assert path.read_bytes() == graph
    second = load_encoder(f"onnx:{path}")
    assert second.name != first.name
    assert not np.allclose(second.encode(prepared), vectors)


def test_tensors_are_found_wherever_they_are(tmp_path: Path) -> None:
    helper, types = onnx.helper, onnx.TensorProto
    values = np.ones(2, np.float32)

    def constant(name: str) -> Any:
        return helper.make_node("Constant", [], [name], value=external(name, values, f"{name}.bin", tmp_path))

    def branch(name: str) -> Any:
        output = helper.make_tensor_value_info(name, types.FLOAT, [2])
        weights = [external(f"{name}_initial", values, f"{name}_initial.bin", tmp_path)]
        return helper.make_graph([constant(name)], name, [], [output], weights)

    sparse = helper.make_sparse_tensor(
        external("sparse", values, "sparse.bin", tmp_path),
        onnx.numpy_helper.from_array(np.array([0, 2], np.int64), "indices"),
        [4],
    )
    function = helper.make_function("own", "F", [], ["f"], [constant("f")], [helper.make_opsetid("", 18)])
    graph = helper.make_graph(
        [
            helper.make_node("If", ["condition"], ["y"], then_branch=branch("then"), else_branch=branch("else")),
            helper.make_node("F", [], ["z"], domain="own"),
        ],
        "nested",
        [helper.make_tensor_value_info("condition", types.BOOL, [])],
        [helper.make_tensor_value_info("y", types.FLOAT, [2])],
        sparse_initializer=[sparse],
    )
    path = save(graph, tmp_path / "nested.onnx", (function,))
    names = ["else.bin", "else_initial.bin", "f.bin", "sparse.bin", "then.bin", "then_initial.bin"]
    assert external_files(path) == [tmp_path / name for name in names]
    (tmp_path / "f.bin").unlink()
    assert external_files(path) == [tmp_path / name for name in names if name != "f.bin"]
    assert not (tmp_path / "nothing.bin").exists()


def test_what_is_no_graph_names_nothing(tmp_path: Path) -> None:
    whole = save_scaled_mean(tmp_path / "whole.onnx", [1, 2, 3], "weights.bin").read_bytes()
    path = tmp_path / "broken.onnx"
    for content in (b"", b"hello", whole[:40], bytes(range(256))):
        path.write_bytes(content)
        assert external_files(path) == []
