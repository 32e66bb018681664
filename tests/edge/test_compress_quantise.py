"""INT8 models: close to what they were made from, a quarter of it, with the layers in float that are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from curate.edge.compress.graph import between, layers, ready
from curate.edge.compress.latency import latencies
from curate.edge.compress.quantise import Calibrated, calibrate, quantise, schemes
from curate.edge.compress.sensitivity import _outputs, distance, sensitivities
from curate.errors import InputError
from tests.edge.small_networks import conv_net, rows

NAMES = ["first", "second", "third", "last"]


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    path = conv_net(tmp_path_factory.mktemp("net") / "net.onnx")
    return calibrate(ready(path), "images", rows(12))


def whole_number_layers(model: onnx.ModelProto) -> set[str]:
    """Layers whose weights are stored as int8."""
    dequantised = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    heavy = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    return {node.name for node in heavy if node.input[1] in dequantised}


@pytest.mark.parametrize("scheme", ["whole", "heavy"])
@pytest.mark.parametrize("ranges", ["extremes", "percentile"])
def test_outputs_hardly_move(calibrated: Calibrated, scheme: Any, ranges: Any) -> None:
    fresh = rows(8, seed=1)
    model = quantise(calibrated, scheme, ranges)
    moved = distance(_outputs(calibrated.model, "images", fresh), _outputs(model, "images", fresh))
    assert 0 < moved < 0.05
    assert whole_number_layers(model) == set(NAMES)


def test_weights_have_a_scale_for_each_channel(calibrated: Calibrated) -> None:
    arrays = {each.name: onnx.numpy_helper.to_array(each) for each in quantise(calibrated).graph.initializer}
    assert arrays["w2_quantized"].dtype == np.int8
    assert arrays["w2_scale"].shape == (8,)


def test_named_layers_stay_in_float(calibrated: Calibrated) -> None:
    model = quantise(calibrated, excluded=["second", "last"])
    assert whole_number_layers(model) == {"first", "third"}
    assert whole_number_layers(quantise(calibrated, only=["third"])) == {"third"}


def test_the_layer_that_is_hard_to_round_is_found(tmp_path: Path) -> None:
    path = conv_net(tmp_path / "net.onnx", outlier=200.0)
    found = calibrate(ready(path), "images", rows(12), ["extremes"])
    costs = sensitivities(found, rows(6), "heavy", "extremes")
    assert set(costs) == set(NAMES)
    assert next(iter(costs)) in ("first", "second")  # between them flows what is hard
    fresh = rows(8, seed=1)
    wanted = _outputs(found.model, "images", fresh)

    def moved(excluded: list[str]) -> float:
        return distance(wanted, _outputs(quantise(found, "heavy", "extremes", excluded=excluded), "images", fresh))

    assert moved(list(costs)[:2]) < moved([]) / 3
    assert moved(list(costs)[2:]) > moved(list(costs)[:2])


def test_the_original_is_not_changed(calibrated: Calibrated) -> None:
    before = calibrated.model.SerializeToString()
    quantise(calibrated)
    assert calibrated.model.SerializeToString() == before


def test_what_stands_before_the_first_layer_and_behind_the_last_is_left_alone(calibrated: Calibrated) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(calibrated.model)
    graph = model.graph
    graph.node[0].input[0] = "doubled"
    graph.node.insert(0, onnx.helper.make_node("Mul", ["images", "b1_0"], ["doubled"], name="before"))
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([2.0], np.float32), "b1_0"))
    graph.node[-1].output[0] = "raw"
    graph.node.append(onnx.helper.make_node("Mul", ["raw", "b1_0"], ["logits"], name="behind"))
    assert between(model) == ["relu1", "relu2", "relu3", "pool", "flat"]
    moved = quantise(calibrate(model, "images", rows(4), ["extremes"]))
    dequantised = {node.output[0] for node in moved.graph.node if node.op_type == "DequantizeLinear"}
    behind = next(node for node in moved.graph.node if node.name == "behind")
    assert behind.output[0] == "logits"
    assert behind.input[1] not in dequantised


def test_values_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    model = ready(conv_net(tmp_path / "net.onnx"))
    with pytest.raises(InputError, match="is no number"):
        calibrate(model, "images", [np.full((1, 3, 16, 16), np.nan, np.float32)])


def test_layers_and_schemes(calibrated: Calibrated, tmp_path: Path) -> None:
    assert [layer.name for layer in layers(calibrated.model)] == NAMES
    assert layers(calibrated.model)[0].weights == 8 * 3 * 9 + 8
    assert schemes(calibrated.model) == ("whole", "heavy")
    with_attention = onnx.ModelProto()
    with_attention.CopyFrom(calibrated.model)
    with_attention.graph.node.append(onnx.helper.make_node("LayerNormalization", ["f", "w"], ["y"]))
    assert schemes(with_attention) == ("heavy",)


def test_what_is_quantised_already_is_refused(calibrated: Calibrated, tmp_path: Path) -> None:
    path = tmp_path / "int8.onnx"
    onnx.save(quantise(calibrated), str(path))
    with pytest.raises(InputError, match="quantised already"):
        ready(path)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(InputError, match="cannot be made ready"):
        ready(path)


def test_old_files_are_brought_up_to_date(tmp_path: Path) -> None:
    path = conv_net(tmp_path / "net.onnx")
    old = onnx.load(str(path))
    old.opset_import[0].version = 11  # whose operators these are already
    onnx.save(old, str(tmp_path / "old.onnx"))
    fresh = rows(4)
    found = calibrate(ready(tmp_path / "old.onnx"), "images", fresh, ["extremes"])
    wanted = _outputs(onnx.load(str(path)), "images", fresh)
    assert distance(wanted, _outputs(quantise(found), "images", fresh)) < 0.05


def test_every_model_is_timed(tmp_path: Path) -> None:
    paths = {"a": conv_net(tmp_path / "a.onnx"), "b": conv_net(tmp_path / "b.onnx", seed=1)}
    found = latencies(paths, rows(1)[0], rounds=2)
    assert found.keys() == paths.keys()
    assert all(0 < seconds < 60 for seconds in found.values())
