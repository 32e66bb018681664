"""Loading ONNX models: what is recognised, what is asked for, class names, and errors that say what to do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from curate.errors import InputError, UsageError
from curate.models.predictors.base import VOID, Classes, ClassMap, DepthMap, Options, Predictor
from curate.models.predictors.coco import COCO_NAMES, coco_names
from curate.models.predictors.onnx import OnnxPredictor, load
from curate.models.predictors.registry import load_predictor
from curate.models.predictors.sidecar import (
    BoxesScores,
    ClassMapLayout,
    DepthMapLayout,
    LabelMap,
    Logits,
    Sidecar,
    Yolox,
    read_sidecar,
    sidecar_path,
    sidecar_text,
    write_sidecar,
)
from tests.models.onnx_models import channel_means, constant_model, grey_map, identity, picture

GREY = np.full((40, 60, 3), 128, np.uint8)


def open_model(path: Path, options: Options | None = None) -> OnnxPredictor:
    return load(str(path), options or Options())


def test_a_classifier(tmp_path: Path) -> None:
    logits = np.log(np.array([[0.2, 0.7, 0.1]], np.float32))
    path = constant_model(tmp_path / "classifier.onnx", {"logits": logits}, shape=("n", 3, "h", "w"))
    predictor: Predictor = load_predictor(f"onnx:{path}")
    assert predictor.task == "classify"
    assert predictor.classes == ("class_0", "class_1", "class_2")
    assert predictor.input_size == 256  # the usual crop: 224 of it
    for found in predictor.predict([predictor.prepare(GREY)] * 3):
        assert isinstance(found, Classes)
        np.testing.assert_allclose(found.probabilities, [0.2, 0.7, 0.1], rtol=1e-5)


def test_probabilities_stay_as_they_are(tmp_path: Path) -> None:
    given = np.array([[0.25, 0.5, 0.25]], np.float32)
    predictor = open_model(constant_model(tmp_path / "m.onnx", {"probabilities": given}))
    assert predictor.sidecar.output == Logits(output="probabilities", activation="none")
    (found,) = predictor.predict([predictor.prepare(GREY)])
    assert isinstance(found, Classes)
    np.testing.assert_array_equal(found.probabilities, given[0])


def test_uint8_goes_in_as_it_is(tmp_path: Path) -> None:
    predictor = open_model(channel_means(tmp_path / "m.onnx", dtype="uint8"))
    prepared = predictor.prepare(np.full((40, 60, 3), [10, 20, 30], np.uint8))
    assert prepared.array.dtype == np.uint8
    (found,) = predictor.predict([prepared])
    expected = np.exp([-20, -10, 0]) / np.exp([-20, -10, 0]).sum()
    assert isinstance(found, Classes)
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-4)


@pytest.mark.parametrize("resize", ["squash", "letterbox", "letterbox_centre"])
def test_a_segmenter(tmp_path: Path, resize: str) -> None:
    """The network's channels are the image's: what is red is of class 0, green of 1, blue of 2."""
    path = identity(tmp_path / "segmenter.onnx")
    output = ClassMapLayout(activation="none")
    write_sidecar(path, Sidecar(classes=("red", "green", "blue"), resize=resize, scale=1 / 255, output=output))  # type: ignore[arg-type]
    predictor = open_model(path)
    assert predictor.task == "segment"
    pixels = np.zeros((48, 96, 3), np.uint8)
    pixels[:, :48, 0] = pixels[:24, 48:, 1] = pixels[24:, 48:, 2] = 255
    for found in predictor.predict([predictor.prepare(pixels)] * 2):
        assert isinstance(found, ClassMap)
        clear = np.ones((48, 96), bool)
        clear[:, 45:51] = clear[21:27, 48:] = False
        np.testing.assert_array_equal(found.labels[clear], pixels.argmax(axis=2)[clear])
        assert found.confidence[clear].min() > 0.9


def test_a_background_in_the_names_is_the_first_channel(tmp_path: Path) -> None:
    path = identity(tmp_path / "segmenter.onnx", name="out")
    (tmp_path / "classes.txt").write_text("Background\ngreen\n\nblue\n")
    predictor = open_model(path)
    assert predictor.sidecar.output == ClassMapLayout(output="out", background=True)
    assert predictor.classes == ("green", "blue")
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16, :, 0] = pixels[16:, :, 2] = 255
    (found,) = predictor.predict([predictor.prepare(pixels)])
    assert isinstance(found, ClassMap)
    assert (found.labels[:15] == VOID).all()
    assert (found.labels[17:] == 1).all()


def test_a_label_map(tmp_path: Path) -> None:
    labels = np.zeros((1, 32, 32), np.int64)
    labels[:, 16:] = 2
    path = constant_model(tmp_path / "m.onnx", {"labels": labels}, shape=(1, 3, 32, 32))
    with pytest.raises(InputError, match="nothing says what they mean"):
        open_model(path)
    (tmp_path / "labels.txt").write_text("road\nsky\ncar")
    predictor = open_model(path)
    assert predictor.sidecar.output == LabelMap(output="labels")
    (found,) = predictor.predict([predictor.prepare(np.zeros((64, 64, 3), np.uint8))])
    assert isinstance(found, ClassMap)
    np.testing.assert_array_equal(found.labels, labels[0].repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("midas_small", DepthMapLayout(output="predicted_depth", inverse=True)),
        ("depth_anything_v2_vits", DepthMapLayout(output="predicted_depth", inverse=True)),
        ("depth_anything_v2_metric_indoor", DepthMapLayout(output="predicted_depth", inverse=False, metric=True)),
        ("zoedepth", DepthMapLayout(output="predicted_depth", inverse=False, metric=True)),
    ],
)
def test_depth_by_name(tmp_path: Path, name: str, layout: DepthMapLayout) -> None:
    path = grey_map(tmp_path / f"{name}.onnx")
    predictor = open_model(path)
    assert predictor.sidecar.output == layout
    assert predictor.task == "depth"
    assert predictor.classes == ()
    write_sidecar(path, Sidecar(resize="squash", scale=1 / 255, output=layout))
    predictor = open_model(path)
    bright_left = picture(32, 64, (0, 0, 32, 32))
    bright_left[bright_left == 0] = 51
    (found,) = predictor.predict([predictor.prepare(bright_left)])
    assert isinstance(found, DepthMap)
    assert found.metric == layout.metric
    left, right = found.depth[:, :28], found.depth[:, 36:]
    if layout.metric:
        np.testing.assert_allclose(left, 1, rtol=1e-3)
        np.testing.assert_allclose(right, 0.2, rtol=1e-2)
    else:
        np.testing.assert_allclose(left, 0, atol=1e-3)
        np.testing.assert_allclose(right, 1, atol=1e-3)


def test_what_may_be_two_things_is_asked_for(tmp_path: Path) -> None:
    path = grey_map(tmp_path / "estimator.onnx")
    with pytest.raises(InputError, match="can be read in 2 ways") as caught:
        open_model(path)
    assert caught.value.where == str(path)
    starts = [json.loads(text) for text in str(caught.value.remedy).split(": ", 1)[1].split(" or ")]
    assert [start["output"].get("inverse", True) for start in starts] == [True, False]
    for start in starts:
        sidecar_path(path).write_text(json.dumps(start))
        assert open_model(path).task == "depth"


def test_a_task_settles_what_one_channel_is(tmp_path: Path) -> None:
    path = constant_model(tmp_path / "m.onnx", {"out": np.full((1, 1, 32, 32), 3, np.float32)}, shape=(1, 3, 32, 32))
    with pytest.raises(InputError, match="can be read in 3 ways"):
        open_model(path)
    write_sidecar(path, Sidecar(task="segment", classes=("crack",)))
    predictor = open_model(path)
    assert predictor.sidecar.output == ClassMapLayout(output="out", activation="sigmoid")
    (found,) = predictor.predict([predictor.prepare(GREY)])
    assert isinstance(found, ClassMap)
    assert (found.labels == 0).all()


def test_metadata_name_classes_and_sides(tmp_path: Path) -> None:
    metadata = {"names": "{0: 'bolt', 1: 'it\\'s'}", "imgsz": "[64, 96]", "task": "classify", "stride": "32"}
    logits = np.array([[1, 2]], np.float32)
    path = constant_model(tmp_path / "m.onnx", {"output0": logits}, shape=("n", 3, "h", "w"), metadata=metadata)
    predictor = open_model(path)
    assert predictor.classes == ("bolt", "it's")
    assert predictor.sidecar.size == (64, 96)
    listed = {"names": '["a", "b"]'}
    path = constant_model(tmp_path / "m.onnx", {"output0": logits}, metadata=listed)
    assert open_model(path).classes == ("a", "b")
    for strange in ("__import__('os').getcwd()", "{0: 'a', 2: 'b'}", "", "{" * 500, "7"):
        path = constant_model(tmp_path / "m.onnx", {"output0": logits}, metadata={"names": strange})
        assert open_model(path).classes == ("class_0", "class_1")


def test_names_that_do_not_fit_are_not_used(tmp_path: Path) -> None:
    path = constant_model(tmp_path / "m.onnx", {"logits": np.array([[3, 1, 2]], np.float32)})
    (tmp_path / "labels.txt").write_text("a\nb")
    predictor = open_model(path)
    assert predictor.classes == ("class_0", "class_1", "class_2")
    assert "labels.txt has 2 names, not 3: not used" in predictor.notes
    write_sidecar(path, Sidecar(classes=("a", "b")))
    with pytest.raises(InputError, match="names 2 classes, and the model tells 3 apart"):
        open_model(path)
    sidecar_path(path).unlink()
    (tmp_path / "labels.txt").write_text("background\na\nb")
    assert open_model(path).classes == ("background", "a", "b")


def test_80_classes_are_cocos(tmp_path: Path) -> None:
    path = constant_model(tmp_path / "m.onnx", {"logits": np.arange(80, dtype=np.float32)[None]})
    assert open_model(path).classes == COCO_NAMES
    assert len(COCO_NAMES) == len(set(COCO_NAMES)) == 80
    by_id = coco_names(91)
    assert by_id is not None
    assert (by_id[1], by_id[13], by_id[90]) == ("person", "stop sign", "toothbrush")
    assert coco_names(90) == by_id[1:]
    assert coco_names(79) is None


def test_a_sidecar_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    assert read_sidecar(path) == Sidecar()
    sidecar = Sidecar(
        task="detect", classes=("a",), size=(64, 96), resize="letterbox", pad=114, color="bgr", scale=1,
        mean=(1, 2, 3), std=(4, 5, 6), output=Yolox(strides=(8, 16)), min_score=0.1, about={"run": "x"},
    )  # fmt: skip
    assert write_sidecar(path, sidecar) == tmp_path / "model.curate.json"
    assert read_sidecar(path) == sidecar
    assert json.loads(sidecar_text(sidecar))["output"] == {"layout": "yolox", "strides": [8, 16]}
    with pytest.raises(InputError, match=r"would not be readable.*size"):
        write_sidecar(path, Sidecar(size=0))
    assert read_sidecar(path) == sidecar


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "truncated"),
        ("[]", "Expected `object`"),
        ('{"sise": 3}', "unknown field `sise`"),
        ('{"size": 0}', r"1 to 16384 pixels - at `\$.size`"),
        ('{"size": [4]}', r"\$.size"),
        ('{"resize": "stretch"}', "stretch"),
        ('{"color": "rgba"}', "rgba"),
        ('{"std": [0.0]}', r"> 0.0 - at `\$.std"),
        ('{"mean": [1, 2]}', "one for each channel"),
        ('{"color": "gray", "mean": [1, 2, 3]}', "one for each channel"),
        ('{"scale": 1e999}', r"\$.scale"),
        ('{"pad": 300}', r"\$.pad"),
        ('{"output": {"layout": "yolo"}}', "yolo"),
        ('{"output": {"strides": [8]}}', "layout"),
        ('{"output": {"layout": "yolox", "strides": [0]}}', "strides"),
        ('{"output": {"layout": "yolox", "reg_max": 7}}', "reg_max"),
        ('{"output": {"layout": "boxes_scores", "priors": {"strides": [8], "sizes": []}}}', "priors"),
        ('{"nms_iou": 1.5}', "nms_iou"),
        ('{"classes": "abc"}', "classes"),
    ],
)
def test_a_bad_sidecar_says_where(tmp_path: Path, content: str, reason: str) -> None:
    path = constant_model(tmp_path / "m.onnx", {"logits": np.array([[3, 1, 2]], np.float32)})
    sidecar_path(path).write_text(content)
    with pytest.raises(InputError, match=reason) as caught:
        open_model(path)
    assert caught.value.where == str(sidecar_path(path))


@pytest.mark.parametrize(
    ("sidecar", "reason"),
    [
        (Sidecar(size=32), "takes 64 x 64 only"),
        (Sidecar(task="depth", output=Logits()), "says task 'depth', and its output layout is for 'classify'"),
        (Sidecar(output=Logits(output="nothing")), "no output 'nothing'"),
        (Sidecar(output=Yolox(output="logits")), r"layout 'yolox' wants \[84, 5 \+ classes\].*gives \(3,\)"),
        (Sidecar(output=ClassMapLayout(output="logits")), "layout 'class_map' wants"),
        (Sidecar(output=BoxesScores()), "which output is 'boxes' is not clear"),
        (Sidecar(input="picture"), "no input 'picture'"),
        (Sidecar(color="gray"), "takes 3 channels"),
        (Sidecar(layout="nhwc"), "takes 64 channels, if its axes are 'nhwc'"),
        (Sidecar(task="detect"), "of no known layout"),
    ],
)
def test_a_sidecar_that_does_not_fit_the_model(tmp_path: Path, sidecar: Sidecar, reason: str) -> None:
    path = constant_model(tmp_path / "m.onnx", {"logits": np.array([[3, 1, 2]], np.float32)})
    write_sidecar(path, sidecar)
    with pytest.raises(InputError, match=reason):
        open_model(path)


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs the path"):
        load("", Options())
    with pytest.raises(InputError, match="not there"):
        load(str(tmp_path / "none.onnx"), Options())
    path = tmp_path / "m.onnx"
    path.write_text("hello")
    with pytest.raises(InputError, match="not an ONNX model"):
        open_model(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="not an ONNX model"):
        open_model(path)
    whole = constant_model(tmp_path / "whole.onnx", {"logits": np.zeros((1, 300), np.float32)}).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not an ONNX model"):
        open_model(path)


def test_weights_that_are_not_beside_the_model(tmp_path: Path) -> None:
    import onnx

    path = constant_model(tmp_path / "m.onnx", {"logits": np.arange(3000, dtype=np.float32)[None]})
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    first = open_model(path).name
    weights = tmp_path / "weights.bin"
    changed = bytearray(weights.read_bytes())
    changed[100] ^= 1
    weights.write_bytes(changed)
    assert open_model(path).name != first
    weights.unlink()
    with pytest.raises(InputError, match="not an ONNX model that can be run"):
        open_model(path)


def test_inputs_that_are_not_images(tmp_path: Path) -> None:
    from tests.models.onnx_models import helper, save, types

    def model(*infos: tuple[str, int, object]) -> Path:
        inputs = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in infos]
        nodes = [helper.make_node("Identity", [infos[0][0]], ["y"])]
        outputs = [helper.make_tensor_value_info("y", infos[0][1], None)]
        return save(tmp_path / "m.onnx", nodes, inputs, outputs, [], check=False)

    with pytest.raises(InputError, match=r"no input that takes images: 'tokens' is int64 of shape \(1, 77\)"):
        open_model(model(("tokens", types.INT64, [1, 77])))
    with pytest.raises(InputError, match="no input that takes images: 'x' is float32 of unknown shape"):
        open_model(model(("x", types.FLOAT, None)))
    with pytest.raises(InputError, match="wants more than images: points"):
        open_model(model(("x", types.FLOAT, [1, 3, 8, 8]), ("points", types.FLOAT, [1, 5, 2])))


def test_nan_is_an_error_with_the_outputs_name(tmp_path: Path) -> None:
    path = constant_model(tmp_path / "m.onnx", {"logits": np.array([[1, np.nan]], np.float32)})
    with pytest.raises(InputError, match="NaN in its output 'logits'"):
        open_model(path)


def test_a_class_number_without_a_name(tmp_path: Path) -> None:
    outputs = {
        "boxes": np.array([[[1, 1, 9, 9]]], np.float32),
        "labels": np.array([[5]]),
        "scores": np.array([[0.9]], np.float32),
    }
    path = constant_model(tmp_path / "m.onnx", outputs)
    (tmp_path / "labels.txt").write_text("a\nb")
    predictor = open_model(path)
    with pytest.raises(InputError, match="class number 5, and there are 2 names"):
        predictor.predict([predictor.prepare(GREY)])


def test_outputs_of_no_known_layout(tmp_path: Path) -> None:
    path = constant_model(tmp_path / "m.onnx", {"x": np.zeros((1, 2, 3, 4, 5), np.float32)})
    with pytest.raises(InputError, match=r"no known layout: 'x' \[1, 2, 3, 4, 5\]"):
        open_model(path)
    path = constant_model(tmp_path / "m.onnx", {"x": np.zeros((1, 20, 56), np.float32)}, metadata={"task": "pose"})
    with pytest.raises(InputError, match="a model for 'pose', which is not read"):
        open_model(path)


def test_prompts_are_refused(tmp_path: Path) -> None:
    path = constant_model(tmp_path / "m.onnx", {"logits": np.array([[1, 2]], np.float32)})
    with pytest.raises(UsageError, match="does not take prompts"):
        open_model(path, Options(prompts=("cat",)))
