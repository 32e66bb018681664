"""Images into networks and boxes back: exact, whatever the sizes."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import InputError
from curate.models.predictors.base import Classes, Objects, Options
from curate.models.predictors.onnx import OnnxPredictor, open_predictor
from curate.models.predictors.preparation import make_preparation
from curate.models.predictors.sidecar import BoxesScores, Resize, Sidecar, write_sidecar
from curate.runner import place
from tests.models.onnx_models import bright_box, channel_means, picture

RESIZES: list[Resize] = ["squash", "letterbox", "letterbox_centre", "shortest_side_crop", "none"]
sides = st.integers(1, 3000)


@given(
    image=st.tuples(sides, sides),
    size=st.tuples(st.integers(8, 1280), st.integers(8, 1280)),
    resize=st.sampled_from(RESIZES),
)
def test_there_and_back_is_where_it_was(image: tuple[int, int], size: tuple[int, int], resize: Resize) -> None:
    placement = place(image, size, resize, crop=0.875, multiple=32)
    height, width = image
    boxes = np.array([[0, 0, width, height], [width / 3, height / 4, width / 2, height]])
    np.testing.assert_allclose(placement.to_image(placement.to_input(boxes)), boxes, atol=1e-6 * max(image))


@given(image=st.tuples(sides, sides), size=st.tuples(st.integers(8, 1280), st.integers(8, 1280)))
def test_a_letterbox_keeps_proportions_and_fits(image: tuple[int, int], size: tuple[int, int]) -> None:
    top_left, centred = place(image, size, "letterbox"), place(image, size, "letterbox_centre")
    ratio = min(Fraction(most, full) for most, full in zip(size, image, strict=True))
    for floor, nearest, full, most in zip(top_left.scaled, centred.scaled, image, size, strict=True):
        assert floor == max(math.floor(full * ratio), 1)
        assert nearest == 1 or abs(nearest - full * ratio) <= 0.5 + 1e-9
        assert 1 <= floor <= nearest <= most
    assert top_left.offset == (0, 0)
    for offset, scaled, most in zip(centred.offset, centred.scaled, size, strict=True):
        assert abs(offset - (most - scaled - offset)) <= 1
    assert top_left.seen == centred.seen == (0, 0, *image)


def test_yolox_rounds_down_as_it_was_trained() -> None:
    """A photograph of 600 x 399 at 416: its shorter side is 276.64 pixels."""
    assert place((399, 600), (416, 416), "letterbox").scaled == (276, 416)
    assert place((399, 600), (416, 416), "letterbox_centre").scaled == (277, 416)


@given(image=st.tuples(sides, sides), size=st.integers(8, 640), crop=st.floats(0.5, 1))
def test_a_crop_is_from_the_middle_and_full(image: tuple[int, int], size: int, crop: float) -> None:
    placement = place(image, (size, size), "shortest_side_crop", crop)
    for scaled, offset in zip(placement.scaled, placement.offset, strict=True):
        assert scaled >= size
        assert abs(-offset - (scaled - size + offset)) <= 1
    assert abs(min(placement.scaled) - max(size, size / crop)) <= 1
    top, left, bottom, right = placement.seen
    assert 0 <= top < bottom <= image[0] or min(image) < 3
    assert 0 <= left < right <= image[1] or min(image) < 3


@given(image=st.tuples(sides, sides), multiple=st.sampled_from([1, 14, 32]))
def test_without_a_size_images_are_padded_to_whole_multiples(image: tuple[int, int], multiple: int) -> None:
    placement = place(image, None, "none", multiple=multiple)
    for padded, full in zip(placement.input, image, strict=True):
        assert padded % multiple == 0
        assert 0 <= padded - full < multiple
    assert placement.scaled == image


@pytest.fixture(scope="module")
def finders(tmp_path_factory: pytest.TempPathFactory) -> dict[Resize, OnnxPredictor]:
    """Predictors that find a bright box, one for each way to resize."""
    found = {}
    for resize in RESIZES:
        fixed = resize != "none"
        path = bright_box(
            tmp_path_factory.mktemp(resize) / "m.onnx", shape=("n", 3, *((48, 64) if fixed else ("h", "w")))
        )
        output = BoxesScores(boxes="boxes", scores="scores")
        sidecar = Sidecar(classes=("box",), resize=resize, pad=0, multiple=8, scale=1 / 255, output=output)
        write_sidecar(path, sidecar)
        found[resize] = open_predictor("bright", path, Options())
    return found


@pytest.mark.parametrize("resize", RESIZES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_is_drawn_is_found_where_it_is(
    finders: dict[Resize, OnnxPredictor], resize: Resize, data: st.DataObject
) -> None:
    """Pixels go the whole way: into the network, which finds the bright box, and its box back."""
    height, width = data.draw(st.integers(40, 200)), data.draw(st.integers(40, 200))
    left, top = data.draw(st.integers(0, width // 3)), data.draw(st.integers(0, height // 3))
    right, bottom = data.draw(st.integers(2 * width // 3, width)), data.draw(st.integers(2 * height // 3, height))
    predictor = finders[resize]
    prepared = predictor.prepare(picture(height, width, (left, top, right, bottom)))
    (found,) = predictor.predict([prepared])
    assert isinstance(found, Objects)
    assert found.size == (height, width)
    x, y, w, h = found.boxes[0]
    seen_top, seen_left, seen_bottom, seen_right = prepared.placement.seen
    expected = [max(left, seen_left), max(top, seen_top), min(right, seen_right), min(bottom, seen_bottom)]
    scale_y, scale_x = prepared.placement.scale
    # The network sees whole pixels of its own, of which those that are half bright may go either way.
    tolerance = np.array([1 / scale_x, 1 / scale_y] * 2) + 1
    assert (np.abs(np.array([x, y, x + w, y + h]) - expected) <= tolerance).all()


@pytest.mark.parametrize(
    ("sidecar", "expected"),
    [
        (Sidecar(scale=1 / 255), [1, 0.4, 0.2]),
        (Sidecar(scale=1 / 255, color="bgr"), [0.2, 0.4, 1]),
        (Sidecar(scale=1), [255, 102, 51]),
        (Sidecar(scale=1, mean=(55.0, 2.0, 1.0), std=(2.0, 4.0, 5.0)), [100, 25, 10]),
        (Sidecar(scale=1, mean=(127.0,), std=(128.0,)), [1, -25 / 128, -76 / 128]),
    ],
    ids=["unit", "bgr", "raw", "each", "alike"],
)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", [("n", 3, 8, 8), ("n", 8, 8, 3), (2, 3, 8, 8)], ids=["nchw", "nhwc", "pairs"])
def test_the_network_sees_what_the_sidecar_says(
    tmp_path: Path, sidecar: Sidecar, expected: list[float], dtype: str, shape: tuple[int | str, ...]
) -> None:
    path = channel_means(tmp_path / "means.onnx", shape=shape, dtype=dtype)
    layout = "nhwc" if shape[-1] == 3 else "nchw"
    preparation = make_preparation(_replaced(sidecar, size=8, layout=layout, resize="squash"), dtype)
    prepared = preparation(np.full((20, 30, 3), [255, 102, 51], np.uint8))
    assert prepared.array.dtype == dtype
    axes = (0, 1) if layout == "nhwc" else (1, 2)
    np.testing.assert_allclose(prepared.array.mean(axis=axes), expected, rtol=2e-3)
    write_sidecar(path, _replaced(sidecar, resize="squash", output={"layout": "logits", "activation": "none"}))
    predictor = open_predictor("means", path, Options())
    for count in (1, 3):
        images = [predictor.prepare(np.full((20, 30, 3), [255, 102, 51], np.uint8))] * count
        for found in predictor.predict(images):
            assert isinstance(found, Classes)
            np.testing.assert_allclose(found.probabilities, expected, rtol=2e-3)


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    resize=st.sampled_from(RESIZES),
    color=st.sampled_from(["rgb", "bgr", "gray"]),
    layout=st.sampled_from(["nchw", "nhwc"]),
    dtype=st.sampled_from(["float32", "float16", "uint8"]),
    numbers=st.sampled_from([(1.0, (), ()), (1 / 255, (), ()), (1.0, (100.0,), ()), (0.5, (0.4,), (0.2,))]),
)
def test_bytes_wait_and_become_the_same_numbers(
    height: int,
    width: int,
    resize: Resize,
    color: str,
    layout: str,
    dtype: str,
    numbers: tuple[float, tuple[float, ...], tuple[float, ...]],
) -> None:
    """What `fill` writes is, to the bit, (pixel x scale / std) - mean / std in float32."""
    scale, mean, std = (1.0, (), ()) if dtype == "uint8" else numbers
    sidecar = Sidecar(size=(16, 24), resize=resize, multiple=8, scale=scale)
    others = {"color": color, "layout": layout, "mean": mean or None, "std": std or None}
    preparation = make_preparation(_replaced(sidecar, **others), dtype)
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    fitted, prepared = preparation.fit(pixels), preparation(pixels)
    assert fitted.array.dtype == np.uint8
    assert fitted.array.flags.c_contiguous
    assert fitted.placement == prepared.placement
    out = np.full(fitted.array.shape, 77, dtype)
    preparation.fill(out, fitted.array)
    factor, shift = np.float32(scale / (std or (1.0,))[0]), np.float32(-(mean or (0.0,))[0] / (std or (1.0,))[0])
    expected = (fitted.array.astype(np.float32) * factor + shift).astype(dtype)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(prepared.array, expected)
    assert prepared.array.dtype == dtype


def test_images_wait_as_bytes(tmp_path: Path) -> None:
    path = bright_box(tmp_path / "m.onnx", shape=("n", 3, 64, 64))
    write_sidecar(path, Sidecar(resize="squash", scale=1 / 255, output=BoxesScores(boxes="boxes", scores="scores")))
    prepared = open_predictor("waits", path, Options()).prepare(np.zeros((90, 80, 3), np.uint8))
    assert prepared.array.nbytes == 3 * 64 * 64


def test_grey_is_luma_and_uint8_is_left_alone() -> None:
    pixels = np.full((4, 4, 3), [255, 0, 0], np.uint8)
    grey = make_preparation(Sidecar(size=4, resize="squash", color="gray", scale=1))(pixels).array
    assert grey.shape == (1, 4, 4)
    assert (grey == 76).all()
    raw = make_preparation(Sidecar(size=4, resize="squash", layout="nhwc"), "uint8")(pixels).array
    assert raw.dtype == np.uint8
    np.testing.assert_array_equal(raw, pixels)
    with pytest.raises(InputError, match="uint8"):
        make_preparation(Sidecar(size=4, resize="squash", mean=(1.0,)), "uint8")
    with pytest.raises(InputError, match="needs a size"):
        make_preparation(Sidecar(resize="letterbox", scale=1))
    for sidecar in (Sidecar(size=4, scale=1), Sidecar(size=4, resize="squash")):
        with pytest.raises(InputError, match="leaves open how images go in"):
            make_preparation(sidecar)


def test_padding_is_where_and_what_it_should_be() -> None:
    white = np.full((10, 20, 3), 255, np.uint8)
    top = make_preparation(Sidecar(size=40, resize="letterbox", pad=114, scale=1))(white).array
    assert (top[:, :20] == 255).all()
    assert (top[:, 20:] == 114).all()
    middle = make_preparation(Sidecar(size=40, resize="letterbox_centre", pad=7, scale=1))(white).array
    assert (middle[:, 10:30] == 255).all()
    assert (middle[:, :10] == 7).all()
    assert (middle[:, 30:] == 7).all()


def _replaced(sidecar: Sidecar, **changes: object) -> Sidecar:
    import msgspec

    return msgspec.convert({**msgspec.to_builtins(sidecar), **changes}, Sidecar)
