"""Every layout of outputs: recognised with no sidecar, and read to the boxes that were written into it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from curate.imaging import Pixels
from curate.models.predictors.base import Objects, Options
from curate.models.predictors.onnx import OnnxPredictor, load
from curate.models.predictors.sidecar import (
    BoxesScores,
    Detections,
    Detr,
    NanoDet,
    OutputLayout,
    Priors,
    Rows,
    Sidecar,
    Yolov5,
    Yolov8,
    Yolox,
    write_sidecar,
)
from tests.models.onnx_models import constant_model

Array = npt.NDArray[Any]
HEIGHT, WIDTH = 64, 96
SHAPE = (1, 3, HEIGHT, WIDTH)
CLASSES = ("bolt", "nut", "washer")
# Corners in pixels of the input, class and score of what every model here has found.
THINGS = [((10.0, 12.0, 42.0, 44.0), 1, 0.875), ((50.5, 8.0, 90.0, 60.0), 0, 0.625), ((4.0, 50.0, 12.0, 61.0), 2, 0.25)]
STRIDES = (8, 16, 32)


def cells(strides: tuple[int, ...]) -> Array:
    """[column, row, stride] of every cell."""
    return np.array(
        [
            [column, row, stride]
            for stride in strides
            for row in range(-(-HEIGHT // stride))
            for column in range(-(-WIDTH // stride))
        ],
        np.float32,
    )


def nearest(strides: tuple[int, ...], box: tuple[float, ...], offset: float = 0.5) -> int:
    """The cell whose middle (or its corner, with offset 0) is nearest to a box's middle."""
    places = cells(strides)
    middle = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    return int(np.abs((places[:, :2] + offset) * places[:, 2:] - middle).sum(axis=1).argmin())


def middle_and_size(box: tuple[float, ...]) -> tuple[float, float, float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]


def scores_of(count: int, strides: tuple[int, ...], offset: float = 0.5) -> Array:
    """Probabilities of three classes for every cell, next to nothing where nothing is."""
    scores = np.random.default_rng(1).uniform(0, 0.01, (count, len(CLASSES))).astype(np.float32)
    for box, label, score in THINGS:
        scores[nearest(strides, box, offset), label] = score
    return scores


def yolox() -> dict[str, Array]:
    places = cells(STRIDES)
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(0.5, 0.5, (len(places), 2)), rng.normal(0, 0.5, (len(places), 2))], axis=1)
    for box, *_ in THINGS:
        at = nearest(STRIDES, box)
        x, y, w, h = middle_and_size(box)
        column, row, stride = places[at]
        rows[at] = x / stride - column, y / stride - row, np.log(w / stride), np.log(h / stride)
    return {"output": with_objectness(rows.astype(np.float32), scores_of(len(places), STRIDES))}


def with_objectness(boxes: Array, scores: Array) -> Array:
    """[1, k, 5 + classes]: objectness times class is the score, by factors that are exact."""
    objectness = np.where(scores.max(axis=1, keepdims=True) > 0.01, np.float32(0.9375), np.float32(0.02))
    return np.concatenate([boxes, objectness, scores / objectness], axis=1)[None].clip(-100, 100)


def decoded(strides: tuple[int, ...] = STRIDES, per_cell: int = 1) -> Array:
    """Middles and sizes in pixels, near the cells they belong to; of each grid all cells once, then all again."""
    parts = []
    rng = np.random.default_rng(2)
    for stride in strides:
        places = np.tile(cells((stride,)), (per_cell, 1))
        middles = (places[:, :2] + 0.5 + rng.uniform(-0.4, 0.4, (len(places), 2))) * stride
        parts.append(np.concatenate([middles, rng.uniform(1, 3, (len(places), 2)) * stride], axis=1))
    rows = np.concatenate(parts).astype(np.float32)
    if per_cell == 1:
        for box, *_ in THINGS:
            rows[nearest(strides, box)] = middle_and_size(box)
    return rows


def yolov5() -> dict[str, Array]:
    rows = decoded(per_cell=3)
    scores = np.full((len(rows), len(CLASSES)), 0.001, np.float32)
    for at, (box, label, score) in zip((5, 200, 300), THINGS, strict=True):
        rows[at] = middle_and_size(box)
        scores[at, label] = score
    return {"output0": with_objectness(rows, scores)}


def decoded_yolox() -> dict[str, Array]:
    return {"output": with_objectness(decoded(), scores_of(len(cells(STRIDES)), STRIDES))}


def yolov8() -> dict[str, Array]:
    return {"output0": np.concatenate([decoded(), scores_of(len(cells(STRIDES)), STRIDES)], axis=1).T[None].copy()}


def yolov8_turned() -> dict[str, Array]:
    return {"output0": yolov8()["output0"].transpose(0, 2, 1).copy()}


def yolov8_normalised() -> dict[str, Array]:
    columns = yolov8()["output0"]
    columns[:, :4] /= np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float32)[:, None]
    return {"output0": columns}


def nanodet() -> dict[str, Array]:
    strides, bins = (8, 16, 32, 64), 8
    places = cells(strides)
    rows = np.random.default_rng(0).normal(0, 2, (len(places), 4, bins)).astype(np.float32)
    for box, *_ in THINGS:
        at = nearest(strides, box, offset=0)
        x, y = places[at, :2] * places[at, 2]
        for side, distance in enumerate(np.array([x - box[0], y - box[1], box[2] - x, box[3] - y]) / places[at, 2]):
            # All the weight on the two whole numbers beside the distance, so that it is the mean.
            low = int(distance)
            rows[at, side] = -100
            rows[at, side, low : low + 2] = np.log(np.maximum([1 - (distance - low), distance - low], 1e-30))
    return {
        "output": np.concatenate([scores_of(len(places), strides, offset=0), rows.reshape(len(places), -1)], axis=1)[
            None
        ]
    }


def finished(*, batch: bool) -> dict[str, Array]:
    boxes = np.array([box for box, *_ in THINGS], np.float32)
    labels = np.array([label + (not batch) for _, label, _ in THINGS], np.int64)
    scores = np.array([score for *_, score in THINGS], np.float32)
    outputs: dict[str, Array] = {"labels": labels, "boxes": boxes, "scores": scores}
    return {name: array[None] for name, array in outputs.items()} if batch else outputs


def unnamed() -> dict[str, Array]:
    return {
        "2567": finished(batch=False)["boxes"],
        "2569": finished(batch=False)["labels"],
        "17": finished(batch=False)["scores"],
    }


def mmdeploy() -> dict[str, Array]:
    found = finished(batch=True)
    return {"dets": np.concatenate([found["boxes"], found["scores"][..., None]], axis=2), "labels": found["labels"]}


def tensorflow() -> dict[str, Array]:
    found = finished(batch=True)
    parts = found["boxes"] / np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float32)
    return {
        "detection_boxes": parts[..., [1, 0, 3, 2]],
        "detection_classes": found["labels"].astype(np.float32) + 1,
        "detection_scores": found["scores"],
        "num_detections": np.array([3], np.float32),
    }


def rows() -> dict[str, Array]:
    found = finished(batch=True)
    numbers = found["labels"][..., None].astype(np.float32)
    filling = np.zeros((1, 5, 6), np.float32)
    listed = np.concatenate([found["boxes"], found["scores"][..., None], numbers], axis=2)
    return {"output0": np.concatenate([listed, filling], axis=1)}


def detr(*, softmax: bool) -> dict[str, Array]:
    count = 20
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0.2, 0.4, (count, 4)).astype(np.float32)
    logits = np.full((count, len(CLASSES) + softmax), -12 if not softmax else 0, np.float32)
    if softmax:
        logits[:, -1] = 12
    for at, (box, label, score) in enumerate(THINGS):
        boxes[at] = np.array(middle_and_size(box)) / [WIDTH, HEIGHT, WIDTH, HEIGHT]
        if softmax:
            logits[at] = -30
            logits[at, -1] = np.log(1 - score)
            logits[at, label] = np.log(score)
        else:
            logits[at, label] = np.log(score / (1 - score))
    return {"logits": logits[None], "pred_boxes": boxes[None]}


def anchors(*, background: bool, form: str = "xyxy", part: bool = False, logits: bool = False) -> dict[str, Array]:
    boxes = decoded()
    if form == "xyxy":
        boxes = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
    scores = scores_of(len(boxes), STRIDES)
    if background:
        scores = np.concatenate([1 - scores.sum(axis=1, keepdims=True), scores], axis=1)
    boxes = boxes / np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float32) if part else boxes
    return {
        "boxes": boxes[None].astype(np.float32),
        "scores": (np.log(scores) if logits else scores)[None].astype(np.float32),
    }


CASES: dict[str, tuple[Callable[[], dict[str, Array]], dict[str, Any], type[OutputLayout], dict[str, Any]]] = {
    "yolox": (yolox, {}, Yolox, {}),
    "yolox decoded": (decoded_yolox, {}, Yolov5, {}),
    "yolov5": (yolov5, {}, Yolov5, {}),
    "yolov8": (yolov8, {}, Yolov8, {}),
    "yolov8 turned": (yolov8_turned, {}, Yolov8, {}),
    "yolov8 normalised": (yolov8_normalised, {}, Yolov8, {"normalised": True}),
    "nanodet": (nanodet, {}, NanoDet, {}),
    "torchvision": (lambda: finished(batch=False), {}, Detections, {"background": True}),
    "torchvision, one image": (lambda: finished(batch=False), {"shape": SHAPE[1:]}, Detections, {"background": True}),
    "torchvision without names": (unnamed, {}, Detections, {"background": True}),
    "d-fine": (lambda: finished(batch=True), {"told_sizes": True}, Detections, {"background": False}),
    "mmdeploy": (mmdeploy, {}, Detections, {}),
    "tensorflow": (tensorflow, {}, Detections, {"form": "yxyx", "normalised": True, "background": True}),
    "rows": (rows, {}, Rows, {}),
    "rt-detr": (lambda: detr(softmax=False), {}, Detr, {"activation": "sigmoid"}),
    "detr": (lambda: detr(softmax=True), {}, Detr, {"activation": "softmax"}),
    "ssd": (lambda: anchors(background=True, part=True), {}, BoxesScores, {"background": True, "normalised": True}),
    "ssd without a background": (lambda: anchors(background=False), {}, BoxesScores, {"background": False}),
    "ssd logits": (
        lambda: anchors(background=True, logits=True),
        {},
        BoxesScores,
        {"activation": "softmax", "background": True},
    ),
    "middles": (lambda: anchors(background=False, form="cxcywh"), {}, BoxesScores, {"form": "cxcywh"}),
}


def check(predictor: OnnxPredictor, image: Pixels, count: int = 1) -> Objects:
    """The things are found in an image of the input's proportions, surest first; returns what was found."""
    scale = image.shape[0] / HEIGHT
    all_found = [each for each in predictor.predict([predictor.prepare(image)] * count) if isinstance(each, Objects)]
    assert len(all_found) == count
    for found in all_found:
        corners = np.concatenate([found.boxes[:, :2], found.boxes[:, :2] + found.boxes[:, 2:]], axis=1)
        np.testing.assert_allclose(corners, np.array([box for box, *_ in THINGS]) * scale, atol=2e-3 * scale)
        assert found.labels.tolist() == [label for _, label, _ in THINGS]
        np.testing.assert_allclose(found.scores, [score for *_, score in THINGS], rtol=1e-4)
        if found.probabilities is not None:
            assert found.probabilities.shape == (len(THINGS), len(CLASSES))
            np.testing.assert_allclose(found.probabilities[np.arange(3), found.labels], found.scores, rtol=1e-6)
    return all_found[0]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("batch", [1, "n"])
def test_a_layout_is_recognised_and_read(tmp_path: Path, case: str, batch: int | str) -> None:
    make, options, layout, details = CASES[case]
    outputs, shape = make(), options.get("shape", SHAPE)
    if batch == "n":
        if len(shape) == 3 or next(iter(outputs.values())).shape[0] != 1:
            pytest.skip("has no axis for a batch")
        shape = ("n", *SHAPE[1:])
    path = constant_model(
        tmp_path / "model.onnx", outputs, **{"shape": shape, **{k: v for k, v in options.items() if k != "shape"}}
    )
    (tmp_path / "labels.txt").write_text("\n".join(CLASSES))
    predictor = load(str(path), Options())
    assert type(predictor.sidecar.output) is layout
    for key, value in details.items():
        assert getattr(predictor.sidecar.output, key) == value
    assert predictor.classes == CLASSES
    assert predictor.task == "detect"
    assert predictor.name.startswith("onnx:model.onnx@")
    for size, count in ((HEIGHT, 1), (2 * HEIGHT, 3)):
        check(predictor, np.zeros((size, size * WIDTH // HEIGHT, 3), np.uint8), count)


@pytest.mark.parametrize("case", CASES)
def test_what_was_recognised_can_be_written_down(tmp_path: Path, case: str) -> None:
    make, options, *_ = CASES[case]
    path = constant_model(tmp_path / "model.onnx", make(), **{"shape": SHAPE, **options})
    (tmp_path / "labels.txt").write_text("\n".join(CLASSES))
    first = load(str(path), Options())
    write_sidecar(path, first.sidecar)
    second = load(str(path), Options())
    assert second.sidecar == first.sidecar
    assert second.notes == ()
    assert second.name != first.name
    check(second, np.zeros((HEIGHT, WIDTH, 3), np.uint8))


@pytest.mark.parametrize("case", CASES)
def test_a_sidecar_may_name_the_layout_only(tmp_path: Path, case: str) -> None:
    make, options, layout, details = CASES[case]
    path = constant_model(tmp_path / "model.onnx", make(), **{"shape": SHAPE, **options})
    write_sidecar(path, Sidecar(classes=CLASSES, output=layout(**details)))  # type: ignore[arg-type]
    check(load(str(path), Options()), np.zeros((HEIGHT, WIDTH, 3), np.uint8))


def test_boxes_that_are_offsets_from_priors(tmp_path: Path) -> None:
    """Liu et al., SSD, equation 2, the other way round."""
    priors = Priors(strides=(16, 32), sizes=(((20.0, 20.0), (30.0, 15.0)), ((50.0, 60.0),)))
    starts = np.array(
        [
            [(column + 0.5) * stride, (row + 0.5) * stride, *side]
            for stride, sides in zip(priors.strides, priors.sizes, strict=True)
            for row in range(HEIGHT // stride)
            for column in range(WIDTH // stride)
            for side in sides
        ]
    )
    offsets, scores = np.zeros((len(starts), 4), np.float32), np.full((len(starts), 3), 0.001, np.float32)
    for at, (box, label, score) in zip((3, 40, 50), THINGS, strict=True):
        x, y, w, h = middle_and_size(box)
        px, py, pw, ph = starts[at]
        offsets[at] = (x - px) / pw / 0.1, (y - py) / ph / 0.1, np.log(w / pw) / 0.2, np.log(h / ph) / 0.2
        scores[at, label] = score
    path = constant_model(tmp_path / "ssd.onnx", {"scores": scores[None], "boxes": offsets[None]}, shape=SHAPE)
    write_sidecar(path, Sidecar(classes=CLASSES, output=BoxesScores(boxes="boxes", scores="scores", priors=priors)))
    check(load(str(path), Options()), np.zeros((HEIGHT, WIDTH, 3), np.uint8))


def test_masks_from_prototypes(tmp_path: Path) -> None:
    """Prototype 0 is the left half of the input, 1 the right half; the first thing is left, the second right."""
    columns = yolov8()["output0"]
    weights = np.zeros((1, 2, columns.shape[2]), np.float32)
    for (box, *_), kind in zip(THINGS, (0, 1, 0), strict=True):
        weights[0, :, nearest(STRIDES, box)] = (9, -9) if kind == 0 else (-9, 9)
    halves = np.zeros((1, 2, HEIGHT // 4, WIDTH // 4), np.float32)
    halves[0, 0, :, : WIDTH // 8] = halves[0, 1, :, WIDTH // 8 :] = 1
    path = constant_model(
        tmp_path / "seg.onnx", {"output0": np.concatenate([columns, weights], axis=1), "output1": halves}, shape=SHAPE
    )
    (tmp_path / "labels.txt").write_text("\n".join(CLASSES))
    predictor = load(str(path), Options())
    assert predictor.task == "instances"
    found = check(predictor, np.zeros((2 * HEIGHT, 2 * WIDTH, 3), np.uint8))
    assert found.masks is not None
    assert found.masks.shape == (3, 2 * HEIGHT, 2 * WIDTH)
    for mask, (x, y, w, h), kind in zip(found.masks, found.boxes, (0, 1, 0), strict=True):
        inside = np.zeros_like(mask)
        inside[round(y) : round(y + h), round(x) : round(x + w)] = True
        half = np.zeros_like(mask)
        half[:, :WIDTH] = kind == 0
        half[:, WIDTH:] = kind == 1
        np.testing.assert_array_equal(mask, inside & half)


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (28, 28)], ids=["whole", "small"])
def test_masks_of_mask_rcnn(tmp_path: Path, size: tuple[int, int]) -> None:
    masks = np.zeros((3, 1, *size), np.float32)
    for number, (box, *_) in enumerate(THINGS):
        if size == (HEIGHT, WIDTH):
            masks[number, 0, round(box[1]) : round(box[3]), round(box[0]) : round(box[2])] = 1
        else:
            masks[number] = 1
    path = constant_model(tmp_path / "rcnn.onnx", {**finished(batch=False), "masks": masks}, shape=SHAPE)
    (tmp_path / "labels.txt").write_text("\n".join(CLASSES))
    predictor = load(str(path), Options())
    assert predictor.task == "instances"
    found = check(predictor, np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    assert found.masks is not None
    for mask, (x, y, w, h) in zip(found.masks, found.boxes, strict=True):
        expected = np.zeros_like(mask)
        expected[round(y) : round(y + h), round(x) : round(x + w)] = True
        assert (mask ^ expected).sum() <= 2 * (w + h)
        assert (mask & expected).sum() > 0.8 * expected.sum()


def test_the_size_is_told_to_a_model_that_asks(tmp_path: Path) -> None:
    """Boxes in parts of what was told: a graph that multiplies by `orig_target_sizes` gives pixels of the input."""
    import onnx

    from tests.models.onnx_models import helper, save, types

    parts = finished(batch=True)["boxes"] / np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float32)
    constants = [
        onnx.numpy_helper.from_array(value, name)
        for name, value in {
            "parts": parts,
            "labels_value": finished(batch=True)["labels"],
            "scores_value": finished(batch=True)["scores"],
            "one": np.array([1]),
        }.items()
    ]
    nodes = [
        helper.make_node("Cast", ["orig_target_sizes"], ["sizes"], to=types.FLOAT),
        helper.make_node("Concat", ["sizes", "sizes"], ["four"], axis=1),
        helper.make_node("Unsqueeze", ["four", "one"], ["factors"]),
        helper.make_node("Mul", ["parts", "factors"], ["boxes"]),
        helper.make_node("Identity", ["labels_value"], ["labels"]),
        helper.make_node("Identity", ["scores_value"], ["scores"]),
    ]
    inputs = [
        helper.make_tensor_value_info("images", types.FLOAT, ["n", 3, HEIGHT, WIDTH]),
        helper.make_tensor_value_info("orig_target_sizes", types.INT64, ["n", 2]),
    ]
    infos = [
        helper.make_tensor_value_info("labels", types.INT64, ["n", 3]),
        helper.make_tensor_value_info("boxes", types.FLOAT, ["n", 3, 4]),
        helper.make_tensor_value_info("scores", types.FLOAT, ["n", 3]),
    ]
    path = save(tmp_path / "dfine.onnx", nodes, inputs, infos, constants)
    (tmp_path / "labels.txt").write_text("\n".join(CLASSES))
    predictor = load(str(path), Options())
    # The graph promises any number of images, and gives one row for however many: it is run one at a time.
    check(predictor, np.zeros((3 * HEIGHT, 3 * WIDTH, 3), np.uint8), count=3)


@pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is in the extra 'openvino'")
@pytest.mark.parametrize("case", ["yolox", "ssd", "torchvision", "rows"])
def test_openvino_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    make, options, layout, _ = CASES[case]
    names = str(dict(enumerate(CLASSES)))
    path = constant_model(tmp_path / "model.onnx", make(), **{"shape": SHAPE, "metadata": {"names": names}, **options})
    monkeypatch.setenv("CURATE_RUNTIME", "openvino")
    predictor = load(str(path), Options())
    assert type(predictor.sidecar.output) is layout
    assert predictor.classes == CLASSES
    check(predictor, np.zeros((HEIGHT, WIDTH, 3), np.uint8), count=2)


def test_a_model_of_any_size_sees_images_as_they_are(tmp_path: Path) -> None:
    path = constant_model(tmp_path / "model.onnx", finished(batch=False), shape=(3, "h", "w"))
    (tmp_path / "labels.txt").write_text("\n".join(CLASSES))
    predictor = load(str(path), Options())
    assert predictor.input_size is None
    prepared = [
        predictor.prepare(np.zeros((*size, 3), np.uint8)) for size in ((HEIGHT, WIDTH), (70, 100), (HEIGHT, WIDTH))
    ]
    assert [each.array.shape for each in prepared] == [(3, HEIGHT, WIDTH), (3, 70, 100), (3, HEIGHT, WIDTH)]
    assert [found.size for found in predictor.predict(prepared) if isinstance(found, Objects)] == [
        (HEIGHT, WIDTH),
        (70, 100),
        (HEIGHT, WIDTH),
    ]
    write_sidecar(path, Sidecar(size=(HEIGHT, WIDTH)))
    assert load(str(path), Options()).prepare(np.zeros((70, 100, 3), np.uint8)).array.shape == (3, HEIGHT, WIDTH)


def test_limits_are_the_persons_then_the_sidecars(tmp_path: Path) -> None:
    path = constant_model(tmp_path / "model.onnx", yolox(), shape=SHAPE)
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)

    def count(options: Options) -> int:
        predictor = load(str(path), options)
        (found,) = predictor.predict([predictor.prepare(image)])
        assert isinstance(found, Objects)
        return len(found.labels)

    assert count(Options()) == 3
    assert count(Options(min_score=0.5)) == 2
    assert count(Options(most_objects=1)) == 1
    write_sidecar(path, Sidecar(classes=CLASSES, output=Yolox(), min_score=0.7))
    assert count(Options()) == 1
    assert count(Options(min_score=0.5)) == 2


def test_a_batch_and_one_at_a_time_are_the_same(tmp_path: Path) -> None:
    repeated = {"output0": yolov8()["output0"].repeat(4, axis=0)}
    path = constant_model(tmp_path / "model.onnx", repeated, shape=(4, 3, HEIGHT, WIDTH))
    write_sidecar(path, Sidecar(classes=CLASSES, output=Yolov8()))
    predictor = load(str(path), Options())
    for count in (1, 4, 6):
        check(predictor, np.zeros((HEIGHT, WIDTH, 3), np.uint8), count)
    assert predictor.predict([]) == []
