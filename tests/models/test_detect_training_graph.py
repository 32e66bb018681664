"""ONNX files as backbones: operators as onnxruntime computes them, and where the features are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("torchvision")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from curate.errors import InputError, UsageError  # noqa: E402
from curate.models.predictors.sidecar import Sidecar, write_sidecar  # noqa: E402
from curate.models.training.detect.backbones import (  # noqa: E402
    Normalisation,
    builtin_backbone,
    onnx_backbone,
    timm_backbone,
)
from curate.models.training.detect.features import find_features  # noqa: E402
from curate.models.training.detect.graph import GraphModule, read_model  # noqa: E402
from curate.models.training.detect.models import normalisation  # noqa: E402

YOLOX = Path(__file__).parents[3] / "shared/data/models/yolox_nano.onnx"
needs_yolox = pytest.mark.skipif(not YOLOX.is_file(), reason="the shared models are not here")

Weights = dict[str, Any]


def save(
    path: Path,
    nodes: Sequence[Any],
    weights: Weights,
    outputs: Sequence[str],
    *,
    shape: Sequence[int | str] = ("n", 3, 64, 64),
    opset: int = 17,
) -> Path:
    """A graph from the input 'x' to some tensors."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), str(path))
    return path


def noise(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def node(operator: str, inputs: Sequence[str] = ("x",), **attributes: Any) -> Any:
    return helper.make_node(operator, list(inputs), ["y"], **attributes)


OPERATORS: dict[str, tuple[Any, Weights]] = {
    "conv": (node("Conv", ["x", "w", "b"], pads=[1, 1, 1, 1], strides=[2, 2]), {"w": noise(4, 3, 3, 3), "b": noise(4)}),
    "conv_grouped_dilated": (node("Conv", ["x", "w"], pads=[2] * 4, dilations=[2, 2], group=3), {"w": noise(6, 1, 3, 3)}),
    "conv_uneven_padding": (node("Conv", ["x", "w"], pads=[0, 1, 2, 3], strides=[2, 2]), {"w": noise(4, 3, 3, 3)}),
    "conv_same_upper": (node("Conv", ["x", "w"], auto_pad="SAME_UPPER", strides=[2, 2]), {"w": noise(4, 3, 3, 3)}),
    "conv_same_lower": (node("Conv", ["x", "w"], auto_pad="SAME_LOWER", strides=[2, 2]), {"w": noise(4, 3, 5, 5)}),
    "max_pool": (node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), {}),
    "max_pool_uneven": (node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]), {}),
    "max_pool_ceil": (node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1), {}),
    "average_pool": (node("AveragePool", kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4), {}),
    "average_pool_pad": (node("AveragePool", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1), {}),
    "average_pool_uneven": (node("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]), {}),
    "global_pool": (node("GlobalAveragePool"), {}),
    "clip": (node("Clip", ["x", "l", "h"]), {"l": np.float32(-0.5), "h": np.float32(0.7)}),
    "clip_high_only": (node("Clip", ["x", "", "h"]), {"h": np.float32(0.7)}),
    "hard_sigmoid": (node("HardSigmoid", alpha=1 / 6), {}),
    "hard_swish": (node("HardSwish"), {}),
    "leaky": (node("LeakyRelu", alpha=0.1), {}),
    "elu": (node("Elu", alpha=0.5), {}),
    "prelu": (node("PRelu", ["x", "s"]), {"s": noise(3, 1, 1)}),
    "softplus": (node("Softplus"), {}),
    "norm": (
        node("BatchNormalization", ["x", "s", "b", "m", "v"], epsilon=1e-3),
        {"s": noise(3), "b": noise(3), "m": noise(3), "v": np.abs(noise(3)) + 0.1},
    ),
    "instance_norm": (node("InstanceNormalization", ["x", "s", "b"]), {"s": noise(3), "b": noise(3)}),
    "slice_steps": (
        node("Slice", ["x", "b", "e", "a", "t"]),
        {"b": np.array([1, 0]), "e": np.array([2**40, -1]), "a": np.array([2, 3]), "t": np.array([2, 3])},
    ),
    "slice_negative": (node("Slice", ["x", "b", "e", "a"]), {"b": np.array([-2]), "e": np.array([3]), "a": np.array([1])}),
    "resize_nearest": (
        node("Resize", ["x", "", "s"], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        {"s": np.array([1, 1, 2, 2], np.float32)},
    ),
    "resize_linear": (
        node("Resize", ["x", "", "s"], mode="linear", coordinate_transformation_mode="half_pixel"),
        {"s": np.array([1, 1, 2, 2], np.float32)},
    ),
    "resize_sizes": (
        node("Resize", ["x", "", "", "s"], mode="linear", coordinate_transformation_mode="align_corners"),
        {"s": np.array([1, 3, 96, 80])},
    ),
    "reshape": (node("Reshape", ["x", "s"]), {"s": np.array([1, 3, -1, 32])}),
    "reshape_zero": (node("Reshape", ["x", "s"]), {"s": np.array([0, 3, 64 * 64])}),
    "transpose": (node("Transpose", perm=[0, 2, 3, 1]), {}),
    "pad": (node("Pad", ["x", "p", "v"]), {"p": np.array([0, 0, 1, 2, 0, 0, 3, 4]), "v": np.float32(2)}),
    "pad_reflect": (node("Pad", ["x", "p"], mode="reflect"), {"p": np.array([0, 0, 1, 2, 0, 0, 3, 4])}),
    "mean": (node("ReduceMean", axes=[2, 3]), {}),
    "depth_to_space": (
        helper.make_node("DepthToSpace", ["c"], ["y"], blocksize=2, mode="CRD"),
        {"w": noise(8, 3, 1, 1)},
    ),
    "depth_to_space_dcr": (
        helper.make_node("DepthToSpace", ["c"], ["y"], blocksize=2),
        {"w": noise(8, 3, 1, 1)},
    ),
    "pow": (node("Pow", ["x", "e"]), {"e": np.float32(2)}),
    "scaled": (node("Mul", ["x", "s"]), {"s": noise(1, 3, 1, 1)}),
    "unsqueeze": (node("Unsqueeze", ["x", "a"]), {"a": np.array([0, 3])}),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_give_what_onnxruntime_gives(tmp_path: Path, name: str) -> None:
    import onnxruntime

    last, weights = OPERATORS[name]
    nodes = [last]
    if last.input[0] == "c":
        nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), last]
    path = save(tmp_path / "a.onnx", nodes, weights, ["y"])
    x = noise(1, 3, 64, 64, seed=1)
    wanted = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    given = GraphModule(path, ["y"], (1, 3, 64, 64))(torch.from_numpy(x))[0].detach().numpy()
    assert given.shape == wanted.shape
    np.testing.assert_allclose(given, wanted, rtol=1e-4, atol=1e-4)


def test_a_split_and_its_joining(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Split", ["c", "s"], ["p", "q"], axis=1),
        helper.make_node("Sigmoid", ["p"], ["r"]),
        helper.make_node("Concat", ["q", "r"], ["y"], axis=1),
    ]
    path = save(tmp_path / "a.onnx", nodes, {"w": noise(8, 3, 1, 1), "s": np.array([3, 5])}, ["y"])
    x = torch.from_numpy(noise(2, 3, 64, 64))
    module = GraphModule(path, ["c", "y"], (1, 3, 64, 64))
    c, y = module(x)
    torch.testing.assert_close(y, torch.cat([c[:, 3:], c[:, :3].sigmoid()], dim=1))


def test_shapes_that_the_graph_computes_are_folded_for_any_number_of_rows(tmp_path: Path) -> None:
    """A channel shuffle, with its shape taken from the input as exporters write it."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Shape", ["c"], ["s"]),
        helper.make_node("Slice", ["s", "two", "four"], ["hw"]),
        helper.make_node("Concat", ["groups", "hw"], ["t"], axis=0),
        helper.make_node("Reshape", ["c", "t"], ["r"]),
        helper.make_node("Transpose", ["r"], ["u"], perm=[0, 2, 1, 3, 4]),
        helper.make_node("Concat", ["flat", "hw"], ["f"], axis=0),
        helper.make_node("Reshape", ["u", "f"], ["y"]),
    ]
    weights = {
        "w": noise(8, 3, 1, 1), "two": np.array([2]), "four": np.array([4]),
        "groups": np.array([0, 2, 4]), "flat": np.array([-1, 8]),
    }  # fmt: skip
    path = save(tmp_path / "a.onnx", nodes, weights, ["y"], shape=("n", 3, "h", "w"))
    module = GraphModule(path, ["c", "y"], (1, 3, 32, 48))
    c, y = module(torch.from_numpy(noise(3, 3, 32, 48)))
    torch.testing.assert_close(y, c.reshape(3, 2, 4, 32, 48).transpose(1, 2).reshape(3, 8, 32, 48))


def test_weights_that_happen_to_be_equal_may_become_different(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w", "zero"], ["c"], pads=[1] * 4),
        helper.make_node("Conv", ["c", "v", "zero"], ["d"], pads=[1] * 4),
        helper.make_node("Conv", ["d", "v", "none"], ["y"], pads=[1] * 4),
    ]
    zero = np.zeros(3, np.float32)
    path = save(
        tmp_path / "a.onnx", nodes, {"w": noise(3, 3, 3, 3), "v": noise(3, 3, 3, 3), "zero": zero, "none": zero}, ["y"]
    )
    module = GraphModule(path, ["y"], (1, 3, 16, 16))
    # A kernel that is used twice stays one; biases do not, whether the file or the optimiser has made one of them.
    assert [tuple(each.shape) for each in module.parameters()] == [(3, 3, 3, 3), (3,), (3, 3, 3, 3), (3,), (3,)]


def detector(path: Path, *, heads: bool = True) -> Path:
    """Maps of 8 and 16 pixels per cell, with predictions read off each, or pooled to a vector."""
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], strides=[8, 8]),
        helper.make_node("Relu", ["c0"], ["a"]),
        helper.make_node("Conv", ["a", "w1"], ["c1"], strides=[2, 2]),
        helper.make_node("Relu", ["c1"], ["b"]),
    ]
    weights: Weights = {"w0": noise(6, 3, 8, 8), "w1": noise(10, 6, 2, 2)}
    if not heads:
        nodes += [helper.make_node("GlobalAveragePool", ["b"], ["y"])]
        return save(path, nodes, weights, ["y"])
    nodes += [
        helper.make_node("Conv", ["a", "p0"], ["h0"]),
        helper.make_node("Sigmoid", ["h0"], ["s0"]),
        helper.make_node("Conv", ["b", "p1"], ["h1"]),
        helper.make_node("Reshape", ["s0", "flat"], ["r0"]),
        helper.make_node("Reshape", ["h1", "flat"], ["r1"]),
        helper.make_node("Concat", ["r0", "r1"], ["y"], axis=2),
    ]
    weights |= {"p0": noise(7, 6, 1, 1), "p1": noise(7, 10, 1, 1), "flat": np.array([0, 7, -1])}
    return save(path, nodes, weights, ["y"])


@pytest.mark.parametrize("heads", [True, False])
def test_features_are_before_the_predictions_or_the_last_of_their_stride(tmp_path: Path, heads: bool) -> None:
    features = find_features(read_model(detector(tmp_path / "a.onnx", heads=heads)), (1, 3, 64, 64))
    assert [(each.stride, each.tensors, each.channels) for each in features] == [(8, ("a",), 6), (16, ("b",), 10)]


def test_features_by_name_at_another_size(tmp_path: Path) -> None:
    backbone = onnx_backbone(detector(tmp_path / "a.onnx"), (96, 128), Normalisation(), ["c0"])
    maps = backbone(torch.rand(2, 3, 96, 128))
    assert [tuple(each.shape) for each in maps] == [(2, 6, 12, 16)]
    assert len(list(backbone.parameters())) == 1


def test_colours_and_range_are_put_in_the_order_the_graph_wants(tmp_path: Path) -> None:
    path = detector(tmp_path / "a.onnx")
    images = torch.rand(1, 3, 64, 64) * 255
    plain = onnx_backbone(path, (64, 64), Normalisation())
    other = onnx_backbone(path, (64, 64), Normalisation("bgr", 1 / 255, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)))
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)))
    torch.testing.assert_close(other(images)[0], plain((images.flip(1) / 255 - mean) / std)[0], rtol=1e-3, atol=1e-3)


def test_what_is_no_backbone_is_told(tmp_path: Path) -> None:
    path = detector(tmp_path / "a.onnx")
    with pytest.raises(InputError, match="no tensor 'nothing'"):
        onnx_backbone(path, (64, 64), Normalisation(), ["nothing"])
    with pytest.raises(InputError, match="no map of features"):
        onnx_backbone(path, (64, 64), Normalisation(), ["y"])
    with pytest.raises(InputError, match="not there"):
        onnx_backbone(tmp_path / "b.onnx", (64, 64), Normalisation())
    (tmp_path / "b.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match="not an ONNX model"):
        onnx_backbone(tmp_path / "b.onnx", (64, 64), Normalisation())
    flat = save(tmp_path / "c.onnx", [helper.make_node("Relu", ["x"], ["y"])], {}, ["y"])
    with pytest.raises(InputError, match="no maps of features"):
        onnx_backbone(flat, (64, 64), Normalisation())


def test_an_operator_that_is_not_known_is_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], strides=[8, 8]),
        helper.make_node("Softsign", ["c"], ["a"]),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    path = save(tmp_path / "a.onnx", nodes, {"w": noise(4, 3, 8, 8)}, ["y"])
    with pytest.raises(InputError, match="Softsign"):
        onnx_backbone(path, (64, 64), Normalisation(), ["y"])


def test_the_builtin_encoder_is_a_backbone_at_any_size() -> None:
    backbone = builtin_backbone((64, 96))
    assert backbone.strides == [8, 16]
    maps = backbone(torch.rand(2, 3, 64, 96) * 255)
    assert [tuple(each.shape[2:]) for each in maps] == [(8, 12), (4, 6)]
    assert all(weight.requires_grad for weight in backbone.parameters())


def test_a_network_of_timm_is_a_backbone() -> None:
    from functools import partial

    timm = pytest.importorskip("timm")
    backbone = timm_backbone("test_resnet.r160_in1k", partial(timm.create_model, "test_resnet.r160_in1k"))
    maps = backbone(torch.rand(1, 3, 64, 64) * 255)
    assert backbone.strides == [8, 16, 32]
    assert [each.shape[1] for each in maps] == backbone.channels


def test_a_network_without_maps_is_told() -> None:
    def create(*, features_only: bool) -> Any:
        raise RuntimeError("features_only is not supported")

    with pytest.raises(UsageError, match="no feature maps"):
        timm_backbone("some_vit", create)


@needs_yolox
def test_what_a_detector_of_a_known_kind_wants_is_known() -> None:
    assert normalisation(YOLOX, {}) == Normalisation("bgr", 1.0, (0.0,), (1.0,))
    assert normalisation(YOLOX, {"color": "rgb"}).color == "rgb"


def test_what_a_sidecar_says_is_done_to_the_images(tmp_path: Path) -> None:
    path = detector(tmp_path / "a.onnx")
    write_sidecar(path, Sidecar(color="bgr", scale=1 / 255, mean=(0.5,), std=(0.2,)))
    assert normalisation(path, {}) == Normalisation("bgr", 1 / 255, (0.5,), (0.2,))


@needs_yolox
def test_a_real_detector_gives_both_branches_of_its_head() -> None:
    backbone = onnx_backbone(YOLOX, (96, 128), Normalisation("bgr"))
    assert backbone.strides == [8, 16, 32]
    assert backbone.channels == [128, 128, 128]  # 64 before the classes, 64 before the boxes
