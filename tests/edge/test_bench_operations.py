"""Counting what a model does, against what is worked out by hand; and what follows for devices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from curate.edge.bench.devices import DEVICES, Device, estimate
from curate.edge.bench.operations import Layer, Work, measure_work
from curate.errors import InputError

IMAGE = np.zeros((1, 3, 32, 40), np.float32)
WIDE = Device(
    "wide",
    float_peak=1e9,
    int8_peak=4e9,
    bandwidth=1e12,
    cache=1000,
    on_chip=False,
    half=False,
    reached=(0.1, 0.2),
    reached_with="nothing",
    sources=("made up",),
)
CORAL = next(each for each in DEVICES if "Coral" in each.name)


def save(path: Path, nodes: list[Any], weights: dict[str, Any], output: str) -> Path:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_convolutions_by_hand(tmp_path: Path) -> None:
    """A strided one, one for each channel, and one that enlarges."""
    weights = {
        "a": np.ones((8, 3, 3, 3), np.float32),
        "b": np.ones((8, 1, 5, 5), np.float32),
        "c": np.ones((8, 4, 2, 2), np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "a"], ["x"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Conv", ["r", "b"], ["y"], group=8, pads=[2, 2, 2, 2]),
        helper.make_node("ConvTranspose", ["y", "c"], ["z"], strides=[2, 2]),
    ]
    work = measure_work(save(tmp_path / "m.onnx", nodes, weights, "z"), "image", IMAGE)
    small, large = 8 * 16 * 20, 4 * 32 * 40
    assert work.float_ops == 2 * (small * 27 + small * 25 + small * 4 * 4)
    assert work.int8_ops == 0
    assert work.weights == 4 * (8 * 27 + 8 * 25 + 8 * 16)
    assert work.activations == 4 * (IMAGE.size + small + 2 * small + small + large)
    assert work.transfer == IMAGE.size + large


def test_matrix_products_by_hand(tmp_path: Path) -> None:
    weights = {"w": np.ones((3, 7), np.float32), "v": np.ones((7, 5), np.float32)}
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["hidden"]),
        helper.make_node("Transpose", ["hidden"], ["column"]),
        helper.make_node("Gemm", ["column", "v"], ["out"], transA=1),
    ]
    work = measure_work(save(tmp_path / "m.onnx", nodes, weights, "out"), "image", IMAGE)
    assert work.float_ops == 2 * (3 * 7 + 7 * 5)


def test_quantised_operations_are_told_apart(tmp_path: Path) -> None:
    """The first convolution is between quantisers, the second is not."""
    weights = {
        "a8": np.ones((4, 3, 1, 1), np.int8),
        "b": np.ones((4, 4, 1, 1), np.float32),
        "s": np.array(0.1, np.float32),
        "z": np.array(0, np.uint8),
        "z8": np.array(0, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["a8", "s", "z8"], ["a"]),
        helper.make_node("Conv", ["d", "a"], ["x"]),
        helper.make_node("Conv", ["x", "b"], ["y"]),
    ]
    work = measure_work(save(tmp_path / "m.onnx", nodes, weights, "y"), "image", IMAGE)
    pixels = 32 * 40
    assert (work.int8_ops, work.float_ops) == (2 * pixels * 12, 2 * pixels * 16)
    assert work.weights == 12 + 4 * 16
    assert work.activations == pixels * (3 + 4) + 4 * pixels * (4 + 4)


def test_what_cannot_be_counted_is_refused(tmp_path: Path) -> None:
    bare = save(tmp_path / "m.onnx", [helper.make_node("Relu", ["image"], ["out"])], {}, "out")
    with pytest.raises(InputError, match="no convolutions"):
        measure_work(bare, "image", IMAGE)
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match="cannot be measured"):
        measure_work(tmp_path / "broken.onnx", "image", IMAGE)


@pytest.mark.parametrize(
    ("layers", "seconds"),
    [
        ([Layer(int(2e9), False, 0, 0)], 2.0),
        ([Layer(int(2e9), True, 0, 0)], 0.5),
        ([Layer(int(1e9), False, 0, 0), Layer(int(4e9), True, 0, 0)], 2.0),
        ([Layer(1, False, 2000, int(2e12))], 2.0),
        ([Layer(1, False, int(1e12), 900)], 1.0),  # what lies between layers is near; the weights are not
        ([Layer(1, False, 900, 900)], 0.0),
        ([Layer(int(5e9), False, int(1e12), 0), Layer(1, False, int(1e12), 0)], 6.0),  # each layer has its own limit
    ],
)
def test_the_roofline(layers: list[Layer], seconds: float) -> None:
    assert WIDE.roofline(Work(tuple(layers), 0)) == pytest.approx(seconds, abs=1e-6)


def test_weights_that_fit_into_the_cache_are_not_moved_again() -> None:
    slow = replace(WIDE, bandwidth=1000.0)
    fits, beyond = (slow.roofline(Work((Layer(1, False, size, 0),), 0)) for size in (900, 2000))
    assert fits == pytest.approx(0, abs=1e-6)
    assert beyond == pytest.approx(2.0)


def test_estimates_say_what_they_are() -> None:
    work = Work((Layer(int(6e8), True, 3 << 20, 6 << 20),), 151_000)
    said = [estimate(device, work).to_json() for device in DEVICES]
    assert {each["kind"] for each in said} == {"estimate"}
    assert all(0 < each["at_best_ms"] < each["low_ms"] < each["high_ms"] and each["sources"] for each in said)
    # MobileNet v2 is what the Coral's own figure is of: almost 400 a second.
    coral = next(each for each in said if "Coral" in each["device"])
    assert np.sqrt(coral["low_ms"] * coral["high_ms"]) == pytest.approx(2.5, rel=0.02)


def test_what_an_accelerator_cannot_run_has_no_time() -> None:
    said = estimate(CORAL, Work((Layer(10, False, 0, 0),), 0)).to_json()
    assert (said["at_best_ms"], said["low_ms"], said["high_ms"]) == (None, None, None)
    assert "8-bit" in said["note"]


def test_weights_beyond_an_accelerators_memory_are_moved_each_time() -> None:
    fits, beyond = (CORAL.roofline(Work((Layer(1, True, size << 20, 0),), 0)) for size in (8, 38))
    assert fits is not None
    assert beyond is not None
    assert beyond == pytest.approx((30 << 20) / 0.3e9)
    assert fits < beyond / 1000
