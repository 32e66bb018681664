"""ONNX encoders: what is guessed from the graph, what the sidecar says, fixed batches, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.errors import InputError, UsageError
from curate.models.encoders.base import TextEncoder, require_text
from curate.models.encoders.clip_tokenizer import ClipTokenizer
from curate.models.encoders.registry import load_encoder

onnx = pytest.importorskip("onnx")

MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])


def save_mean_graph(
    path: Path, shape: list[int | str], *, dtype: str = "FLOAT", axes: tuple[int, int] = (2, 3)
) -> Path:
    """A graph whose vector is the mean of each input channel, next to an output that is no vector."""
    helper, types = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=types.FLOAT),
        helper.make_node("Identity", ["pixels"], ["map"]),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["vector"], keepdims=0),
    ]
    channels = 6 - sum(axes)  # the axis that is neither the batch nor reduced
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("image", getattr(types, dtype), shape)],
        [
            helper.make_tensor_value_info("map", types.FLOAT, shape),
            helper.make_tensor_value_info("vector", types.FLOAT, [shape[0], shape[channels]]),
        ],
        [onnx.numpy_helper.from_array(np.array(axes, np.int64), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / np.linalg.norm(vector))


def flat(red: int, green: int, blue: int, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    return np.full((*size, 3), (red, green, blue), np.uint8)


def test_size_layout_and_normalisation_are_guessed_from_the_input(tmp_path: Path) -> None:
    path = save_mean_graph(tmp_path / "mean.onnx", ["n", 3, 48, 64])
    encoder = load_encoder(f"onnx:{path}")
    assert encoder.name.startswith(f"onnx:{path}@")
    assert (encoder.dimensions, encoder.input_size) == (3, 48)
    images = [flat(200, 10, 30), flat(0, 0, 255)]
    prepared = [encoder.prepare(image) for image in images]
    assert prepared[0].shape == (3, 48, 64)
    expected = [unit((image[0, 0] / 255 - MEAN) / STD) for image in images]
    np.testing.assert_allclose(encoder.encode(prepared), expected, atol=1e-5)
    assert load_encoder(encoder.name).name == encoder.name


def test_the_sidecar_overrules(tmp_path: Path) -> None:
    path = save_mean_graph(tmp_path / "mean.onnx", ["n", "height", "width", 3], axes=(1, 2))
    sidecar = {"size": [20, 30], "mean": [0, 0, 0], "std": [1, 1, 0.5], "color": "bgr", "layout": "nhwc"}
    (tmp_path / "mean.curate.json").write_text(json.dumps(sidecar))
    encoder = load_encoder(f"onnx:{path}")
    prepared = encoder.prepare(flat(51, 102, 204))
    assert prepared.shape == (20, 30, 3)
    np.testing.assert_allclose(encoder.encode([prepared])[0], unit(np.array([0.8, 0.4, 0.4])), atol=1e-5)


def test_an_open_size_is_224_and_channels_last_is_seen(tmp_path: Path) -> None:
    path = save_mean_graph(tmp_path / "mean.onnx", ["n", "height", "width", 3], axes=(1, 2))
    encoder = load_encoder(f"onnx:{path}")
    assert encoder.prepare(flat(1, 2, 3)).shape == (224, 224, 3)


def test_uint8_inputs_get_raw_pixels_and_one_channel_gets_grey(tmp_path: Path) -> None:
    path = save_mean_graph(tmp_path / "mean.onnx", ["n", 1, 8, 8], dtype="UINT8")
    prepared = load_encoder(f"onnx:{path}").prepare(flat(255, 0, 0))
    assert prepared.dtype == np.uint8
    assert np.unique(prepared).tolist() == [76]


def test_a_fixed_batch_is_filled_up(tmp_path: Path) -> None:
    path = save_mean_graph(tmp_path / "mean.onnx", [4, 3, 8, 8])
    encoder = load_encoder(f"onnx:{path}")
    images = [flat(20 * number, 0, 100) for number in range(6)]
    vectors = encoder.encode([encoder.prepare(image) for image in images])
    assert vectors.shape == (6, 3)
    np.testing.assert_allclose(vectors[5], unit((np.array([100, 0, 100]) / 255 - MEAN) / STD), atol=1e-5)


def test_a_named_feature_map_is_averaged_over_space(tmp_path: Path) -> None:
    path = save_mean_graph(tmp_path / "mean.onnx", ["n", 3, 8, 8])
    vector = load_encoder(f"onnx:{path}").encode([load_encoder(f"onnx:{path}").prepare(flat(9, 99, 199))])
    (tmp_path / "mean.curate.json").write_text('{"output": "map"}')
    encoder = load_encoder(f"onnx:{path}")
    np.testing.assert_allclose(encoder.encode([encoder.prepare(flat(9, 99, 199))]), vector, atol=1e-5)


def test_whatever_changes_the_numbers_changes_the_name(tmp_path: Path) -> None:
    path = save_mean_graph(tmp_path / "mean.onnx", ["n", 3, 8, 8])
    names = [load_encoder(f"onnx:{path}").name]
    (tmp_path / "mean.curate.json").write_text('{"color": "bgr"}')
    names.append(load_encoder(f"onnx:{path}").name)
    (tmp_path / "mean.curate.json").write_text('{"color": "rgb"}')
    names.append(load_encoder(f"onnx:{path}").name)
    save_mean_graph(path, ["rows", 3, 8, 8])
    names.append(load_encoder(f"onnx:{path}").name)
    assert len(set(names)) == 4


def test_a_name_reads_the_same_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_mean_graph(tmp_path / "mean.onnx", ["n", 3, 8, 8])
    monkeypatch.chdir(tmp_path)
    name = load_encoder("onnx:mean.onnx").name
    assert name == load_encoder(f"onnx:{tmp_path / 'mean.onnx'}").name
    assert load_encoder(f"onnx:mean.onnx@{name[-8:]}").name == name
    monkeypatch.chdir("/")
    assert load_encoder(name).name == name


@pytest.mark.parametrize(
    ("sidecar", "message"),
    [
        ("{", "cannot be read"),
        ('{"colour": "rgb"}', "colour"),
        ('{"color": "lab"}', "lab"),
        ('{"std": [1, 0, 1]}', "above 0"),
        ('{"mean": [1, 2]}', "3 finite numbers"),
        ('{"output": "nothing"}', "outputs: map, vector"),
        ('{"size": 0}', "from 1 to 8192 pixels"),
        ('{"size": -5}', "from 1 to 8192 pixels"),
        ('{"size": [8, 0]}', "from 1 to 8192 pixels"),
        ('{"size": 100000000}', "from 1 to 8192 pixels"),
        ('{"size": 64}', r"takes images of shape \(3, 8, 8\), and gets \(3, 64, 64\)"),
        ('{"size": [8, 4]}', "gets .3, 8, 4."),
        ('{"layout": "nhwc"}', "gets .3, 8, 3."),
        ('{"color": "gray"}', "gets .1, 8, 8."),
        ('{"text": {"graph": "t.onnx", "tokenizer": "t.npz", "logit_scale": -5}}', "above 0"),
    ],
)
def test_a_wrong_sidecar_is_named(tmp_path: Path, sidecar: str, message: str) -> None:
    path = save_mean_graph(tmp_path / "mean.onnx", ["n", 3, 8, 8])
    (tmp_path / "mean.curate.json").write_text(sidecar)
    with pytest.raises(InputError, match=message):
        load_encoder(f"onnx:{path}")


def test_a_graph_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    """Its sides are open, and it cuts the image into 7 x 7 pieces of 32 pixels."""
    helper, types = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["image", "shape"], ["vector"])],
        "pieces",
        [helper.make_tensor_value_info("image", types.FLOAT, ["n", 3, "height", "width"])],
        [helper.make_tensor_value_info("vector", types.FLOAT, ["n", 3 * 224 * 224])],
        [onnx.numpy_helper.from_array(np.array([-1, 3 * 224 * 224], np.int64), "shape")],
    )
    path = tmp_path / "pieces.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    assert load_encoder(f"onnx:{path}").input_size == 224
    (tmp_path / "pieces.curate.json").write_text('{"size": 100}')
    with pytest.raises(InputError, match=r"cannot be run.*size") as caught:
        load_encoder(f"onnx:{path}")
    assert caught.value.where == str(path)


def save_text_graph(
    path: Path, rows: int | str = "n", *, inputs: tuple[str, ...] = ("tokens",), width: int = 3
) -> Path:
    """A graph whose vector is the first of the tokens."""
    helper, types = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Slice", ["tokens", "start", "end", "axis"], ["first"]),
        helper.make_node("Cast", ["first"], ["floats"], to=types.FLOAT),
        *(helper.make_node("Identity", [name], [f"{name}_out"]) for name in inputs[1:]),
    ]
    names = {"start": 0, "end": width, "axis": 1}
    graph = helper.make_graph(
        nodes,
        "first",
        [helper.make_tensor_value_info(name, types.INT64, [rows, 8]) for name in inputs],
        [
            helper.make_tensor_value_info("floats", types.FLOAT, [rows, width]),
            *(helper.make_tensor_value_info(f"{name}_out", types.INT64, [rows, 8]) for name in inputs[1:]),
        ],
        [onnx.numpy_helper.from_array(np.array([value], np.int64), name) for name, value in names.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def with_texts(folder: Path) -> TextEncoder:
    """An encoder of the graphs mean.onnx and text.onnx."""
    path = save_mean_graph(folder / "mean.onnx", ["n", 3, 8, 8])
    letters = ClipTokenizer(np.arange(256), np.zeros((0, 2), np.int64), start=1, end=2, context_length=8)
    letters.save(folder / "letters.npz")
    text = {"graph": "text.onnx", "tokenizer": "letters.npz", "logit_scale": 10}
    (folder / "mean.curate.json").write_text(json.dumps({"text": text}))
    return require_text(load_encoder(f"onnx:{path}"))


@pytest.mark.parametrize("rows", ["n", 1, 2])
def test_a_text_graph_for_any_number_of_rows(tmp_path: Path, rows: int | str) -> None:
    save_text_graph(tmp_path / "text.onnx", rows)
    vectors = with_texts(tmp_path).encode_text(["a", "b", "c"])
    expected = [unit(np.array([1, 256 + ord(letter), 2])) for letter in "abc"]
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"inputs": ("tokens", "mask")}, "cannot be run"),
        ({"width": 2}, r"gives shape \(1, 2\) for 1 texts, and images have 3 numbers"),
    ],
)
def test_a_text_graph_of_another_kind_is_named(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    encoder = with_texts(tmp_path)
    save_text_graph(tmp_path / "text.onnx", **wrong)
    with pytest.raises(InputError, match=message) as caught:
        encoder.encode_text(["a"])
    assert caught.value.where == str(tmp_path / "text.onnx")
    assert "tokens alone" in str(caught.value)


def test_a_missing_text_graph_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an ONNX model") as caught:
        with_texts(tmp_path).encode_text(["a"])
    assert caught.value.where == str(tmp_path / "text.onnx")


def test_what_is_no_image_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="onnx:PATH"):
        load_encoder("onnx")
    with pytest.raises(InputError, match="not there"):
        load_encoder(f"onnx:{tmp_path / 'nothing.onnx'}")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(InputError, match="not an ONNX model"):
        load_encoder(f"onnx:{tmp_path / 'text.onnx'}")
    path = save_mean_graph(tmp_path / "flags.onnx", ["n", 3, 8, 8], dtype="BOOL")
    with pytest.raises(InputError, match="does not take one image"):
        load_encoder(f"onnx:{path}")


def test_a_real_detector_gives_vectors_of_a_sort(shared_data: Path) -> None:
    """Its output is (1, 3549, 85): no vector, and the error says so."""
    with pytest.raises(InputError, match="not one vector per image"):
        load_encoder(f"onnx:{shared_data / 'models' / 'yolox_nano.onnx'}")
