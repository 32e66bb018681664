"""Real detectors on real photographs, with no sidecar: what is found is where it is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import parse

import numpy as np
import numpy.typing as npt
import pytest

from curate.errors import InputError
from curate.imaging import load_pixels
from curate.models.predictors.base import Objects, Options
from curate.models.predictors.onnx import OnnxPredictor, load
from curate.models.predictors.sidecar import BoxesScores, Priors, Sidecar, Yolox, write_sidecar

Array = npt.NDArray[Any]


@pytest.fixture
def yolox(shared_data: Path) -> OnnxPredictor:
    return load(str(shared_data / "models" / "yolox_nano.onnx"), Options())


def find(predictor: OnnxPredictor, path: Path) -> Objects:
    (found,) = predictor.predict([predictor.prepare(load_pixels(path, shortest_side=predictor.input_size))])
    assert isinstance(found, Objects)
    height, width = found.size
    assert np.isfinite(found.boxes).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, :2] + found.boxes[:, 2:] <= np.array([width, height]) * (1 + 1e-12)).all()
    return found


def best_iou(found: Objects, corners: Array) -> tuple[float, int]:
    """IoU of the box that fits best, and its number."""
    if not len(found.boxes):
        return 0.0, -1
    top_left = np.maximum(found.boxes[:, :2], corners[:2])
    bottom_right = np.minimum(found.boxes[:, :2] + found.boxes[:, 2:], corners[2:])
    common = (bottom_right - top_left).clip(0).prod(axis=1)
    union = found.boxes[:, 2:].prod(axis=1) + (corners[2:] - corners[:2]).prod() - common
    best = int((common / union).argmax())
    return float((common / union)[best]), best


def test_yolox_is_recognised(yolox: OnnxPredictor) -> None:
    sidecar = yolox.sidecar
    assert sidecar.output == Yolox(output="output")
    assert (sidecar.size, sidecar.resize, sidecar.pad, sidecar.color, sidecar.scale) == (
        (416, 416),
        "letterbox",
        114,
        "bgr",
        1,
    )
    assert sidecar.mean is None
    assert (yolox.task, len(yolox.classes), yolox.input_size) == ("detect", 80, 416)
    assert any("letterbox" in note for note in yolox.notes)
    assert any("COCO" in note for note in yolox.notes)


def test_yolox_finds_raccoons(yolox: OnnxPredictor, shared_data: Path) -> None:
    """COCO knows no raccoons: it calls them cats, dogs and bears, and boxes them well."""
    folder = shared_data / "detection" / "raccoon"
    fits, names = [], set()
    for annotation in sorted((folder / "annotations").glob("*.xml"))[:20]:
        found = find(yolox, folder / "images" / f"{annotation.stem}.jpg")
        for box in parse(annotation).iter("bndbox"):
            fit, best = best_iou(
                found, np.array([float(box.findtext(key, "")) for key in ("xmin", "ymin", "xmax", "ymax")])
            )
            fits.append(fit)
            names |= {yolox.classes[found.labels[best]]} if fit > 0.7 else set()
    assert np.mean(np.array(fits) > 0.7) > 0.6
    assert names & {"cat", "dog", "bear"}


def test_yolox_finds_the_violinist_on_a_cover(yolox: OnnxPredictor, shared_data: Path) -> None:
    found = find(yolox, shared_data / "images" / "imagededup" / "base_images" / "ukbench01380.jpg")
    assert yolox.classes[found.labels[0]] == "person"
    assert found.scores[0] > 0.6
    assert best_iou(found, np.array([265, 174, 352, 434]))[0] > 0.85
    assert found.probabilities is not None
    # Objectness times class: independent of one another, so a row's sum is not 1, and its largest is the score.
    np.testing.assert_allclose(found.probabilities.max(axis=1), found.scores, rtol=1e-6)


def test_yolox_on_pictures_of_nothing_that_it_knows(yolox: OnnxPredictor, shared_data: Path) -> None:
    for path in sorted((shared_data / "detection" / "bccd").rglob("*.jpg"))[:3]:
        assert (find(yolox, path).scores < 0.5).all()


def test_many_images_and_one_are_the_same(yolox: OnnxPredictor, shared_data: Path) -> None:
    paths = sorted((shared_data / "detection" / "raccoon" / "images").glob("*.jpg"))[:5]
    prepared = [yolox.prepare(load_pixels(path)) for path in paths]
    for one, found in zip(prepared, yolox.predict(prepared), strict=True):
        (alone,) = yolox.predict([one])
        assert isinstance(alone, Objects)
        assert isinstance(found, Objects)
        np.testing.assert_array_equal(alone.boxes, found.boxes)
        np.testing.assert_array_equal(alone.scores, found.scores)


@pytest.mark.parametrize("name", ["RFB-320", "slim-320", "RFB-640"])
def test_face_detectors_are_recognised(shared_data: Path, name: str) -> None:
    predictor = load(str(shared_data / "models" / "ultraface" / f"version-{name}.onnx"), Options(min_score=0.3))
    assert predictor.sidecar.output == BoxesScores(boxes="boxes", scores="scores", background=True, normalised=True)
    assert predictor.classes == ("class_0",)
    assert predictor.sidecar.mean == (127.0,)
    find(predictor, shared_data / "images" / "imagededup" / "base_images" / "ukbench01380.jpg")


def test_a_face_detector_without_its_decoding(shared_data: Path, tmp_path: Path) -> None:
    """The same network twice: once it decodes its boxes itself, once a sidecar says what they are offsets from."""
    folder = shared_data / "models" / "ultraface"
    path = tmp_path / "raw.onnx"
    shutil.copyfile(folder / "version-slim-320_without_postprocessing.onnx", path)
    with pytest.raises(InputError, match=r"no known layout: 'scores' \[1, 4420, 2\], 'boxes' \[1, 4420, 4\]"):
        load(str(path), Options())
    sizes = tuple(
        tuple((float(side), float(side)) for side in sides)
        for sides in ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))
    )
    priors = Priors(strides=(8, 16, 32, 64), sizes=sizes, clip=True)
    output = BoxesScores(boxes="boxes", scores="scores", background=True, priors=priors)
    write_sidecar(path, Sidecar(classes=("face",), output=output))
    decoding, raw = (load(str(each), Options()) for each in (folder / "version-slim-320.onnx", path))
    picture = shared_data / "images" / "imagededup" / "base_images" / "ukbench01380.jpg"
    one, other = find(decoding, picture), find(raw, picture)
    np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5)
    np.testing.assert_allclose(one.boxes, other.boxes, atol=0.01)
