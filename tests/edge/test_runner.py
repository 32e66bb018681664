"""A package's runner says what the predictor says, refuses what is not as it was, and needs nothing of ours."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from curate import runner
from curate.edge.package.card import digest
from curate.edge.package.parity import as_prediction
from curate.edge.package.reference import make_reference, measure, write_reference
from curate.edge.runtime.session import reference_of
from curate.errors import InputError
from curate.imaging import load_pixels
from curate.models.predictors.base import Classes, ClassMap, Objects, Options
from curate.models.predictors.onnx import load
from curate.models.predictors.postprocess import suppress
from curate.models.predictors.sidecar import (
    BoxesScores,
    ClassMapLayout,
    Detr,
    LabelMap,
    Logits,
    Output,
    Sidecar,
    Yolov5,
    Yolov8,
    Yolox,
    write_sidecar,
)
from curate.runner import FEATURES, Package, PackageError, Reference, Result, Runner, features, load_image
from tests.edge.packs import pack
from tests.models.onnx_models import channel_means, constant_model, identity

CLASSES = ("nut", "bolt", "washer")
CELLS = 8 * 8 + 4 * 4 + 2 * 2
SIZES = ((64, 64), (1, 1), (37, 91), (300, 41), (65, 63), (7, 640))
RANDOM = np.random.default_rng(0)


def boxes(count: int) -> npt.NDArray[np.float32]:
    """Corners in and about an input of 64 x 64."""
    low = RANDOM.uniform(-8, 60, (1, count, 2))
    return np.concatenate([low, low + RANDOM.uniform(2, 30, (1, count, 2))], axis=2).astype(np.float32)


def parts(*shape: int) -> npt.NDArray[np.float32]:
    return RANDOM.uniform(0, 1, shape).astype(np.float32)


def scores(*shape: int) -> npt.NDArray[np.float32]:
    return RANDOM.normal(0, 3, shape).astype(np.float32)


LAYOUTS: dict[str, tuple[Output, dict[str, npt.NDArray[Any]]]] = {
    "softmax": (Logits(output="o"), {"o": scores(1, 3)}),
    "tags": (Logits(output="o", activation="sigmoid"), {"o": scores(1, 3)}),
    "pixels": (ClassMapLayout(output="o"), {"o": scores(1, 3, 16, 16)}),
    "pixels with none": (ClassMapLayout(output="o", background=True), {"o": scores(1, 4, 64, 64)}),
    "pixels apart": (ClassMapLayout(output="o", activation="sigmoid"), {"o": scores(1, 3, 16, 16)}),
    "numbers": (LabelMap(output="o", background=True), {"o": RANDOM.integers(0, 6, (1, 32, 32)).astype(np.int64)}),
    "anchors": (BoxesScores(boxes="b", scores="s"), {"b": boxes(700), "s": parts(1, 700, 3)}),
    "anchors with none": (
        BoxesScores(boxes="b", scores="s", background=True, activation="softmax", form="cxcywh", normalised=True),
        {"b": parts(1, 90, 4), "s": scores(1, 90, 4)},
    ),
    "queries": (Detr(logits="l", boxes="b"), {"l": scores(1, 40, 3), "b": parts(1, 40, 4)}),
    "softmax queries": (
        Detr(logits="l", boxes="b", activation="softmax"),
        {"l": scores(1, 40, 4), "b": parts(1, 40, 4)},
    ),
    "yolox": (Yolox(output="o"), {"o": np.concatenate([scores(1, CELLS, 4), parts(1, CELLS, 4)], axis=2)}),
    "yolov5": (Yolov5(output="o"), {"o": np.concatenate([64 * parts(1, 99, 4), parts(1, 99, 4)], axis=2)}),
    "yolov8": (Yolov8(output="o"), {"o": np.concatenate([64 * parts(1, 4, 99), parts(1, 3, 99)], axis=1)}),
    "yolov8 turned": (Yolov8(output="o"), {"o": np.concatenate([64 * parts(1, 99, 4), parts(1, 99, 3)], axis=2)}),
}
RESIZES = ("squash", "letterbox", "letterbox_centre", "shortest_side_crop")


def images() -> list[npt.NDArray[np.uint8]]:
    random = np.random.default_rng(1)
    return [random.integers(0, 256, (*size, 3)).astype(np.uint8) for size in SIZES]


def require_same(given: Result, wanted: Any) -> None:
    said = as_prediction(given)
    same = type(said) is type(wanted)  # not narrowed by
    assert same
    if isinstance(said, Classes):
        np.testing.assert_array_equal(said.probabilities, wanted.probabilities)
    elif isinstance(said, Objects):
        assert said.size == wanted.size
        np.testing.assert_array_equal(said.labels, wanted.labels)
        np.testing.assert_allclose(said.boxes, wanted.boxes, rtol=0, atol=1e-9)
        np.testing.assert_array_equal(said.scores, wanted.scores)
    else:
        assert isinstance(said, ClassMap)
        np.testing.assert_array_equal(said.labels, wanted.labels)
        np.testing.assert_allclose(said.confidence, wanted.confidence, rtol=0, atol=1e-6)


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_runner_says_what_the_predictor_says(layout: str, resize: Any, tmp_path: Path) -> None:
    output, values = LAYOUTS[layout]
    model = constant_model(tmp_path / "m.onnx", values, shape=("n", 3, 64, 64))
    write_sidecar(model, Sidecar(classes=CLASSES, resize=resize, pad=114, scale=1 / 255, output=output))
    predictor = load(str(model), Options())
    packaged = Runner(pack(tmp_path / "package", model))
    wanted = predictor.predict([predictor.prepare(pixels) for pixels in images()])
    found = packaged.run(images())
    for said, true in zip(found, wanted, strict=True):
        require_same(said, true)
        json.dumps(said.to_json(CLASSES), allow_nan=False)
        assert 0 <= said.uncertainty <= 1


@pytest.mark.parametrize(
    "sidecar",
    [
        Sidecar(resize="squash", scale=1 / 255, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.1), interpolation="bicubic"),
        Sidecar(resize="letterbox", scale=1.0, color="bgr", pad=7),
        Sidecar(resize="shortest_side_crop", crop=0.875, scale=2 / 255, mean=(1.0,)),
        Sidecar(resize="letterbox_centre", scale=1.0, pad=114),
    ],
)
def test_images_go_in_as_the_predictor_puts_them(sidecar: Sidecar, tmp_path: Path) -> None:
    from msgspec.structs import replace

    model = identity(tmp_path / "m.onnx", shape=("n", 3, 32, 48))
    write_sidecar(model, replace(sidecar, classes=CLASSES, size=(32, 48), output=ClassMapLayout(output="logits")))
    predictor, packaged = load(str(model), Options()), Runner(pack(tmp_path / "package", model))
    for pixels in images():
        prepared = packaged.prepare(pixels)
        fitted = predictor.prepare(pixels)
        wanted = np.empty(fitted.array.shape, np.float32)
        predictor._preparation.fill(wanted, fitted.array)
        np.testing.assert_array_equal(prepared.array, wanted)
        assert prepared.array.dtype == np.float32
        corners = [[0, 0, 5, 9], [1, 2, 3, 4]]
        np.testing.assert_array_equal(prepared.placement.to_input(corners), fitted.placement.to_input(corners))
        assert prepared.placement.seen == fitted.placement.seen


@pytest.mark.parametrize("shape", [("n", 3, 8, 8), (1, 3, 8, 8), (2, 3, 8, 8)])
def test_any_number_of_images_goes_in(shape: tuple[int | str, ...], tmp_path: Path) -> None:
    model = channel_means(tmp_path / "m.onnx", shape=shape)
    write_sidecar(model, Sidecar(classes=CLASSES, resize="squash", scale=1 / 255, output=Logits(output="logits")))
    packaged = Runner(pack(tmp_path / "package", model), threads=2)
    random = np.random.default_rng(3)
    pictures = [random.integers(0, 256, (9, 11, 3)).astype(np.uint8) for _ in range(5)]
    alone = [packaged.run([each])[0].probabilities for each in pictures]
    for one, other in zip(packaged.run(pictures), alone, strict=True):
        np.testing.assert_allclose(one.probabilities, other, rtol=1e-6)  # type: ignore[arg-type]
    assert packaged.run([]) == []


def test_images_of_any_size_are_not_resized(tmp_path: Path) -> None:
    model = identity(tmp_path / "m.onnx", shape=("n", 3, "h", "w"))
    layout = ClassMapLayout(output="logits")
    write_sidecar(model, Sidecar(classes=CLASSES, resize="none", multiple=8, scale=1 / 255, output=layout))
    predictor, packaged = load(str(model), Options()), Runner(pack(tmp_path / "package", model))
    wanted = predictor.predict([predictor.prepare(pixels) for pixels in images()])
    for said, true in zip(packaged.run(images()), wanted, strict=True):
        require_same(said, true)


@given(st.integers(0, 40), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_doubles_go_as_the_predictor_lets_them_go(count: int, iou: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    low = random.uniform(0, 20, (count, 2))
    corners = np.concatenate([low, low + random.uniform(0, 20, (count, 2))], axis=1)
    labels = random.integers(0, 2, count)
    np.testing.assert_array_equal(runner.suppress(corners, labels, iou, 10), suppress(corners, labels, iou, 10))


@given(arrays.arrays(np.float32, 3, elements=st.floats(0, 1, width=32)))
def test_uncertainty_of_a_class_is_what_the_first_does_not_lead_by(values: npt.NDArray[np.float32]) -> None:
    said = Result("classify", (1, 1), probabilities=values).uncertainty
    first, second = np.sort(values)[::-1][:2]
    assert said == pytest.approx(1 - (first - second))


def test_uncertainty_of_objects_and_pixels() -> None:
    found = Result("detect", (9, 9), boxes=np.ones((2, 4)), labels=np.array([0, 1]), scores=np.array([0.9, 0.45]))
    assert found.uncertainty == pytest.approx(0.9)
    assert found.above([0.5, 0.5]).uncertainty == pytest.approx(0.2)
    assert len(found.above([0.5, 0.4]).boxes) == 2  # type: ignore[arg-type]
    sure = Result("segment", (1, 2), class_map=np.array([[0, -1]], np.int16), confidence=np.array([[0.75, 0.99]]))
    assert sure.uncertainty == pytest.approx(0.5)  # the pixel that surely has no class says nothing


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A classifier of the brightest channel that carries a reference of calm grey images."""
    model = channel_means(tmp_path / "means.onnx")
    write_sidecar(model, Sidecar(classes=CLASSES, resize="squash", scale=1 / 255, output=Logits(output="logits")))
    folder = pack(tmp_path / "bare", model)
    random = np.random.default_rng(5)
    for number in range(60):
        grey(random).save(tmp_path / f"{number:02d}.png")
    values = measure(Runner(folder), [str(path) for path in sorted(tmp_path.glob("*.png"))])
    write_reference(tmp_path / "reference.npz", make_reference(values))
    whole = tmp_path / "package"
    folder.rename(whole)
    (tmp_path / "reference.npz").rename(whole / "reference.npz")
    manifest = json.loads((whole / "package.json").read_text())
    manifest["reference"] = "reference.npz"
    manifest["files"]["reference.npz"] = digest(whole / "reference.npz")
    (whole / "package.json").write_text(json.dumps(manifest))
    return whole


def grey(random: np.random.Generator, light: float = 128, noise: float = 12) -> Image.Image:
    plane = light + random.normal(0, noise, (40, 56, 1)) + random.normal(0, 8)
    return Image.fromarray(np.repeat(plane, 3, axis=2).clip(0, 255).astype(np.uint8))


def test_drift_is_a_rank_among_training_images(package: Path) -> None:
    ready = Runner(package)
    random = np.random.default_rng(6)

    def drift(**light: float) -> float:
        pixels = np.asarray(grey(random, **light))
        return ready.drift(pixels, ready.run([pixels])[0])

    usual = [drift() for _ in range(40)]
    assert all(0 <= each < 1 for each in usual)
    assert 0.25 < np.median(usual) < 0.75  # new images of the same kind are no more unusual than the training's
    dark = [drift(light=30) for _ in range(5)]
    assert min(dark) > 0.98
    assert drift(light=8) > max(dark)  # beyond all training images it still tells the farther
    assert min(drift(noise=50) for _ in range(5)) > 0.98


def test_features_are_named_and_finite() -> None:
    for pixels in images():
        said = features(pixels, Result("classify", pixels.shape[:2], probabilities=np.array([1.0], np.float32)))
        assert said.shape == (len(FEATURES),)
        assert np.isfinite(said).all()


def test_the_hardest_part_is_told_from_what_was_measured(tmp_path: Path) -> None:
    count = len(FEATURES)
    known = Reference(
        np.zeros(count), np.eye(count), np.ones(1), np.sort(np.random.default_rng(0).permutation(99) / 100)
    )
    assert known.hardest(0.05) == 0.94  # 95 of 99, and of one more 95 of 100, are no harder
    assert known.hardest(0.5) == 0.49
    assert known.hardest(0.001) == 0.98  # no more is known than the hardest
    write_reference(tmp_path / "reference.npz", known)
    assert Reference.load(tmp_path / "reference.npz").hardest(0.05) == 0.94


def test_packages_of_before_say_nothing_of_uncertainty(tmp_path: Path) -> None:
    count = len(FEATURES)
    np.savez(tmp_path / "reference.npz", mean=np.zeros(count), precision=np.eye(count), distances=np.ones(2))
    found = Reference.load(tmp_path / "reference.npz")
    assert found.uncertainties is None
    assert found.hardest(0.05) is None


def test_few_images_say_nothing_of_uncertainty() -> None:
    values = np.random.default_rng(0).normal(size=(50, len(FEATURES)))
    assert make_reference(values, uncertainties=np.ones(39)).uncertainties is None
    kept = make_reference(values, uncertainties=np.linspace(1, 0, 40)).uncertainties
    assert kept is not None
    assert (kept[0], kept[-1], len(kept)) == (0, 1, 40)


COUNT = len(FEATURES)
WHOLE: dict[str, Any] = {"mean": np.zeros(COUNT), "precision": np.eye(COUNT), "distances": np.arange(3.0)}


@pytest.mark.parametrize(
    "change",
    [
        {"mean": None},
        {"precision": None},
        {"distances": None},
        {"mean": np.zeros(3)},
        {"mean": np.full(COUNT, np.nan)},
        {"precision": np.eye(3)},
        {"precision": np.zeros(())},
        {"distances": np.zeros(0)},
        {"distances": np.array([2.0, 1.0])},
        {"distances": np.zeros((2, 2))},
        {"distances": np.array(["a"])},
        {"distances": np.array([1j])},
        {"distances": np.array([{}], object)},
        {"uncertainties": np.zeros((2, 2))},
        {"uncertainties": np.array([np.inf])},
        {"names": np.array(["a", "b"])},
    ],
)
def test_a_reference_of_wrong_arrays_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    arrays = {name: value for name, value in {**WHOLE, **change}.items() if value is not None}
    np.savez(tmp_path / "reference.npz", **arrays)
    with pytest.raises(PackageError, match="the reference cannot be read"):
        Reference.load(tmp_path / "reference.npz")


def broken_references(tmp_path: Path) -> list[bytes]:
    np.savez(tmp_path / "whole.npz", **WHOLE)
    np.savez_compressed(tmp_path / "packed.npz", **WHOLE)
    np.save(tmp_path / "one.npy", np.zeros(3))
    whole, packed = (tmp_path / "whole.npz").read_bytes(), (tmp_path / "packed.npz").read_bytes()
    spoilt = bytearray(packed)
    spoilt[60:90] = bytes(30)
    return [b"", b"PK\x03\x04 no archive", whole[: len(whole) // 2], bytes(spoilt), (tmp_path / "one.npy").read_bytes()]


def test_a_reference_that_is_no_archive_is_refused_whoever_reads_it(package: Path, tmp_path: Path) -> None:
    pixels = np.asarray(grey(np.random.default_rng(0)))
    for content in broken_references(tmp_path):
        (package / "reference.npz").write_bytes(content)
        ready = Runner(Package.open(package, verify=False))
        with pytest.raises(PackageError, match="the reference cannot be read"):
            ready.drift(pixels, ready.run([pixels])[0])
        with pytest.raises(InputError, match="the reference cannot be read"):
            reference_of(ready)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"reference": "../secret.npz"}, "the reference has no checksum"),
        ({"reference": "other.npz"}, "the reference has no checksum"),
        ({"reference": ["reference.npz"]}, "the reference has no checksum"),
        ({"model": {"file": "model.xml"}}, "the model has no checksum"),
        ({"model": {"file": ["model.onnx"]}}, "lacks something"),
    ],
)
def test_only_files_with_checksums_are_opened(
    change: dict[str, Any], reason: str, package: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret.npz").write_bytes((package / "reference.npz").read_bytes())
    (package / "other.npz").write_bytes(b"other")
    manifest = json.loads((package / "package.json").read_text())
    (package / "package.json").write_text(json.dumps(manifest | change))
    for verify in (True, False):
        with pytest.raises(PackageError, match=reason):
            Package.open(package, verify=verify)


def test_weights_beside_an_openvino_model_have_a_checksum(package: Path) -> None:
    manifest = json.loads((package / "package.json").read_text())
    (package / "model.xml").write_text("<net/>")
    manifest["files"]["model.xml"] = digest(package / "model.xml")
    manifest |= {"target": "openvino", "model": {"file": "model.xml"}}
    (package / "model.bin").write_bytes(b"weights")
    (package / "package.json").write_text(json.dumps(manifest))
    with pytest.raises(PackageError, match="weights file has no checksum"):
        Package.open(package)
    manifest["files"]["model.bin"] = digest(package / "model.bin")
    (package / "package.json").write_text(json.dumps(manifest))
    assert Package.open(package).target == "openvino"


def test_a_link_that_leads_out_is_refused(package: Path, tmp_path: Path) -> None:
    (package / "reference.npz").rename(tmp_path / "elsewhere.npz")
    (package / "reference.npz").symlink_to(tmp_path / "elsewhere.npz")
    with pytest.raises(PackageError, match="outside of the package"):
        Package.open(package)


def test_a_large_image_prints_no_warning_and_a_huge_one_is_refused(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("1", (13_000, 7_000)).save(tmp_path / "large.png")  # 91 million pixels, of which Pillow warns
    command = [sys.executable, "-I", str(package / "runner.py"), str(tmp_path / "large.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    monkeypatch.setattr(runner, "_LARGEST_IMAGE", 90_000_000)
    with pytest.raises(PackageError, match=r"13000 x 7000 pixels are more than 90,000,000"):
        load_image(tmp_path / "large.png")


def test_a_pickled_reference_is_refused(package: Path) -> None:
    np.savez(package / "reference.npz", mean=np.array([{}], object), precision=np.eye(2), distances=np.ones(2))
    with pytest.raises(PackageError, match="cannot be read"):
        Reference.load(package / "reference.npz")


@pytest.mark.parametrize("name", ["model.onnx", "runner.py"])
def test_a_file_that_was_changed_is_refused(name: str, package: Path) -> None:
    with (package / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(PackageError, match=f"{name}: the file is not what it was"):
        Package.open(package)
    assert Package.open(package, verify=False).name == "means"
    (package / name).unlink()
    with pytest.raises(PackageError, match="the file is missing"):
        Package.open(package, verify=False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 2}, "format 2"),
        (
            {"files": {"model.onnx": "0" * 64, "../secret": "0" * 64}, "reference": None},
            "outside of the package|not what it was",
        ),
        ({"files": {}}, "no checksum"),
        ({"classes": None}, "lacks something"),
        ({"postprocess": {"layout": "logits"}}, "lacks something"),
    ],
)
def test_a_manifest_that_cannot_be_is_told(change: dict[str, Any], reason: str, package: Path) -> None:
    manifest = json.loads((package / "package.json").read_text())
    (package / "package.json").write_text(json.dumps(manifest | change))
    with pytest.raises(PackageError, match=reason):
        Package.open(package)


def test_what_is_no_package_or_no_model_is_told(package: Path, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="no package"):
        Runner(tmp_path / "nowhere")
    (package / "package.json").write_text("{")
    with pytest.raises(PackageError, match="cannot be read"):
        Runner(package)


def test_a_broken_model_and_a_wrong_backend_are_told(package: Path) -> None:
    with pytest.raises(PackageError, match="no backend 'abacus'"):
        Runner(package, backend="abacus")
    (package / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(PackageError, match="cannot open the model"):
        Runner(Package.open(package, verify=False))


def test_pixels_that_are_none_are_told(package: Path) -> None:
    with pytest.raises(PackageError, match="uint8 of shape"):
        Runner(package).prepare(np.zeros((4, 4), np.uint8))


@pytest.mark.parametrize("kind", ["png", "jpeg", "turned", "palette", "transparent", "grey16"])
def test_files_are_decoded_as_curate_decodes_them(kind: str, tmp_path: Path) -> None:
    pixels = Image.fromarray(np.random.default_rng(4).integers(0, 256, (33, 21, 3)).astype(np.uint8))
    path = tmp_path / ("image.jpg" if kind in ("jpeg", "turned") else "image.png")
    if kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        pixels.save(path, exif=exif)
    elif kind == "palette":
        pixels.quantize(16).save(path)
    elif kind == "transparent":
        pixels.putalpha(90)
        pixels.save(path)
    elif kind == "grey16":
        Image.fromarray(np.arange(0, 60000, 60, dtype=np.uint16).reshape(25, 40)).save(path)
    else:
        pixels.save(path)
    np.testing.assert_array_equal(load_image(path), load_pixels(path))


def test_the_file_alone_runs_on_a_device(package: Path, tmp_path: Path) -> None:
    """In a Python that is told of no other place, with the working folder elsewhere."""
    grey(np.random.default_rng(7)).save(tmp_path / "image.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    command = [sys.executable, "-I", str(package / "runner.py"), "image.png", "broken.png", "image.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "broken.png: the image cannot be read" in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["image"] for line in lines] == ["image.png"] * 2
    assert lines[0] == lines[1]
    assert lines[0]["label"] in CLASSES
    assert lines[0]["package"] == "means-1.0.0"
    assert 0 <= lines[0]["drift"] < 1


def test_the_file_imports_nothing_but_numpy_and_pillow() -> None:
    tree = ast.parse(Path(runner.__file__).read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in top if isinstance(node, ast.ImportFrom)}
    foreign = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    assert foreign == {"numpy", "PIL"}
    assert "curate" not in {
        word for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for word in [node.module]
    }
