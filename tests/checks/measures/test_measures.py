"""What is measured of pictures whose light, color, focus and noise are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curate.checks.measures.computation import HASHES, NUMBERS, MeasureImages
from curate.imaging import Pixels, load_pixels

FloatArray = npt.NDArray[np.float64]


def measured(*pictures: Pixels) -> dict[str, Any]:
    computation = MeasureImages()
    batch = computation.run([computation.prepare(picture) for picture in pictures])
    assert batch.schema == computation.columns
    return dict(batch.to_pydict())


def scene(seed: int = 0, *, height: int = 240, width: int = 320) -> Pixels:
    """Grey and colored rectangles with sharp edges at any angle, on a mid-grey ground."""
    rng = np.random.default_rng(seed)
    canvas = np.full((height, width, 3), 120, np.uint8)
    for number in range(40):
        center, size = rng.uniform(0, 1, 2) * (width, height), rng.uniform(15, 70, 2)
        corners = cv2.boxPoints((center.tolist(), size.tolist(), float(rng.uniform(0, 180))))
        color = rng.integers(30, 220, 3) if number % 2 else np.full(3, rng.integers(30, 220))
        cv2.fillPoly(canvas, [np.rint(corners).astype(np.int32)], color.tolist())
    return canvas


def toned(picture: Pixels, gain: FloatArray | float, offset: FloatArray | float = 0.0) -> Pixels:
    return np.asarray(np.clip(picture * gain + offset + 0.5, 0, 255), dtype=np.uint8)


def test_exposure_of_known_levels() -> None:
    levels = np.repeat(np.array([0, 100, 200, 255], np.uint8), 16)
    picture = np.repeat(np.tile(levels, (64, 1))[..., None], 3, axis=2)
    found = measured(picture)
    assert found["brightness"][0] == pytest.approx(555 / 4 / 255, abs=1e-6)
    assert found["clipped_dark"][0] == pytest.approx(0.25)
    assert found["clipped_bright"][0] == pytest.approx(0.25)
    assert found["entropy"][0] == pytest.approx(2.0)
    assert found["luminance_p50"][0] == pytest.approx(100 / 255)
    assert found["luminance_p75"][0] == pytest.approx(200 / 255)
    assert found["contrast"][0] == pytest.approx(levels.std() / 255, abs=1e-6)


def test_blur_lowers_sharpness_and_contrast_does_not() -> None:
    sharp = scene()
    blurred = [cv2.GaussianBlur(sharp, (0, 0), sigma) for sigma in (1, 2, 4)]
    found = measured(sharp, *blurred, toned(sharp, 0.5, 60))
    assert found["sharpness"][:4] == sorted(found["sharpness"][:4], reverse=True)
    assert found["edge_width"][0] < found["edge_width"][1] < found["edge_width"][2]
    assert found["sharpness"][4] == pytest.approx(found["sharpness"][0], abs=0.05)


@pytest.mark.parametrize("side", [80, 110, 124])
def test_a_tight_crop_without_a_plain_part_is_as_sharp_as_it_is(side: int) -> None:
    """The plainest of a few blocks have edges, which are no grain."""
    down, across = np.mgrid[:160, :160]
    weave = 120 + 60 * np.sign(np.sin(across / 3 + down / 5)) + 30 * np.sign(np.cos(across / 9 - down / 4))
    cloth = np.repeat(weave[..., None], 3, axis=2).astype(np.uint8)
    sharp, blurred = measured(cloth[:side, :side], cv2.GaussianBlur(cloth, (0, 0), 3)[:side, :side])["edge_width"]
    assert sharp < 0.8
    assert 1.5 < blurred < 5


def test_noise_is_not_taken_for_sharpness() -> None:
    blurred = cv2.GaussianBlur(scene(), (0, 0), 3)
    grain = np.random.default_rng(0).normal(0, 5, blurred.shape)
    sharp, plain, noisy = measured(scene(), blurred, toned(blurred, 1, grain))["sharpness"]
    assert abs(noisy - plain) < 0.3 * (sharp - plain)


@pytest.mark.parametrize("angle", [0, 30, 60, 90, 135])
def test_motion_blur_has_its_angle(angle: int) -> None:
    kernel = np.zeros((11, 11), np.float32)
    reach = 5 * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    cv2.line(kernel, tuple(np.rint(5 - reach).astype(int)), tuple(np.rint(5 + reach).astype(int)), 1.0)
    moved = cv2.filter2D(scene(), -1, kernel / kernel.sum())
    found = measured(scene(), moved)
    assert found["motion_blur"][1] > found["motion_blur"][0] + 0.15
    assert abs((found["motion_angle"][1] - angle + 90) % 180 - 90) < 20
    assert found["sharpness"][1] < found["sharpness"][0] - 0.3


@pytest.mark.parametrize("sigma", [2.0, 5.0, 10.0, 25.0])
def test_noise_is_measured(sigma: float) -> None:
    grain = np.random.default_rng(0).normal(0, sigma, (240, 320, 1))
    found = measured(scene(), toned(scene(), 1, grain))
    assert found["noise"][0] < 0.3 / 255
    assert found["noise"][1] * 255 == pytest.approx(sigma, rel=0.25)


def test_jpeg_blocks_are_seen_wherever_they_begin() -> None:
    smooth = cv2.GaussianBlur(scene(), (0, 0), 2)
    _, data = cv2.imencode(".jpg", smooth, [cv2.IMWRITE_JPEG_QUALITY, 8])
    blocky = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert blocky is not None
    clean, whole, cropped = measured(smooth, blocky, blocky[3:, 5:])["blockiness"]
    assert clean < 0.15
    assert whole > 0.5
    assert cropped > 0.5


@pytest.mark.parametrize(("quality", "step"), [(50, 12), (15, 38), (10, 58), (5, 115)])
def test_the_step_of_jpeg_is_found_after_saving_anew(quality: int, step: int) -> None:
    grain = np.random.default_rng(0).normal(0, 8, (240, 320, 1))
    picture = toned(scene(), 1, grain)
    for how in (quality, 95):
        _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, how])
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert decoded is not None
        picture = np.asarray(decoded[..., ::-1], np.uint8)
    found, shifted, never = measured(picture, picture[3:, 5:], toned(scene(), 1, grain))["quantization"]
    assert found == pytest.approx(step, rel=0.12)
    assert (shifted, never) == (1, 1)


def test_banding_is_seen_and_smooth_slopes_are_not() -> None:
    slope = np.repeat(np.tile(np.repeat(np.arange(40, 200), 2), (240, 1))[..., None], 3, axis=2)
    bands = np.round(slope / 16) * 16
    smooth, banded = measured(slope.astype(np.uint8), bands.astype(np.uint8))["banding"]
    assert smooth < 0.1
    assert banded > 0.7


def test_cast_follows_the_light_and_not_the_things() -> None:
    meadow = np.repeat(cv2.cvtColor(scene(), cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    meadow[100:] = (40, 140, 30)
    found = measured(scene(), toned(scene(), np.array([1.2, 1.0, 0.6])), meadow)
    casts = np.hypot(found["cast_a"], found["cast_b"])
    assert casts[0] < 8
    assert casts[1] > 20
    assert found["cast_b"][1] > 10  # yellow
    assert casts[2] < 0.5 * casts[1]
    assert found["blue_gain"][1] < found["blue_gain"][0] - 0.5


@pytest.mark.parametrize(("x", "y"), [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_light_comes_from_where_it_is_bright(x: int, y: int) -> None:
    across, down = np.meshgrid(np.linspace(-1, 1, 320), np.linspace(-1, 1, 240))
    lit = toned(scene(), 2.0 ** (x * across + y * down - 0.5)[..., None])
    found = measured(scene(), lit)
    change = np.array([found["light_x"][1] - found["light_x"][0], found["light_y"][1] - found["light_y"][0]])
    assert change @ (x, y) > 0.6
    assert abs(change @ (y, x)) < 0.25


def test_all_cues_tell_the_same_light() -> None:
    across, _ = np.meshgrid(np.linspace(-1, 1, 320), np.linspace(-1, 1, 240))
    grain = np.random.default_rng(0).normal(0, 3, (240, 320, 1))
    picture = toned(scene(), 1, grain)
    found = measured(picture, toned(picture, 2.0 ** (across - 1)[..., None]))
    change = np.diff(np.array(found["light_cues"]), axis=0)[0]
    assert (change[:5] > 0.5).all()
    assert (change[:5] < 1.3).all()
    assert abs(change[5:10]).max() < 0.2


def test_back_light_and_vignette() -> None:
    across, down = np.meshgrid(np.linspace(-1, 1, 320), np.linspace(-1, 1, 240))
    middle = np.exp(-(across**2 + down**2) * 2)[..., None]
    plain, back, spot = measured(scene(), toned(scene(), 1 - 0.7 * middle), toned(scene(), 0.3 + 0.7 * middle))[
        "light_center"
    ]
    assert back < plain - 0.5
    assert spot > plain + 0.5


def distance(one: int, other: int) -> int:
    return (one ^ other).bit_count()


def test_hashes_stay_under_resizing_and_compression_and_tell_other_pictures() -> None:
    picture = scene()
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 40])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    found = measured(picture, decoded, cv2.resize(picture, (160, 120), interpolation=cv2.INTER_AREA), scene(1))
    for name in ("dhash", "phash"):
        one, compressed, small, other = found[name]
        assert distance(one, compressed) <= 6
        assert distance(one, small) <= 6
        assert distance(one, other) > 15
    assert len(set(found["pixel_hash"])) == 4


@given(st.integers(0, 50), st.integers(60, 120), st.integers(60, 120))
@settings(max_examples=25, deadline=None)
def test_mirrored_hashes_are_those_of_the_mirror_image(seed: int, height: int, width: int) -> None:
    picture = scene(seed, height=2 * height, width=2 * width)
    found = measured(picture, np.ascontiguousarray(picture[:, ::-1]))
    for name in ("dhash", "phash"):
        assert distance(found[f"{name}_mirrored"][0], found[name][1]) <= 4
        assert distance(found[f"{name}_mirrored"][1], found[name][0]) <= 4


@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from(["black", "white", "noise"]))
@settings(max_examples=40, deadline=None)
def test_any_picture_gives_finite_numbers(height: int, width: int, content: str) -> None:
    noise = np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, 3)).astype(np.uint8)
    picture = {"black": np.zeros_like(noise), "white": np.full_like(noise, 255), "noise": noise}[content]
    found = measured(picture)
    assert all(np.isfinite(found[name][0]) for name in NUMBERS)
    assert np.isfinite(found["layout"][0]).all()


def test_same_pixels_in_another_file_type_have_the_same_measures(tmp_path: Path) -> None:
    files = [tmp_path / f"picture{suffix}" for suffix in (".png", ".bmp", ".tiff")]
    for file in files:
        Image.fromarray(scene(2)).save(file)
    found = measured(*(load_pixels(file, shortest_side=320) for file in files))
    for name in (*NUMBERS, *HASHES):
        assert len(set(found[name])) == 1, name


def test_deep_files_of_the_same_looks_have_other_pixel_hashes(tmp_path: Path) -> None:
    grey = cv2.cvtColor(scene(2), cv2.COLOR_RGB2GRAY).astype(np.uint16)
    files = [tmp_path / name for name in ("a.png", "dimmer.png", "a.tiff")]
    for file, gain in zip(files, (200, 100, 200), strict=True):
        Image.fromarray(grey * np.uint16(gain)).save(file)
    found = measured(scene(2), *(load_pixels(file, shortest_side=320) for file in files))
    assert found["bits"] == [8, 16, 16, 16]
    _, first, dimmer, again = found["pixel_hash"]
    assert first == again != dimmer


def test_large_images_are_measured_at_the_scale_of_a_scaled_jpeg() -> None:
    large = scene(height=1300, width=1700)
    found = measured(large, cv2.resize(large, (850, 650), interpolation=cv2.INTER_AREA))
    assert found["pixel_hash"][0] == found["pixel_hash"][1]


def test_real_photos_with_noise_and_blur_are_told_apart(shared_data: Path) -> None:
    files = sorted((shared_data / "detection" / "bccd" / "JPEGImages").glob("*.jpg"))[:12]
    clean = [load_pixels(file, shortest_side=320) for file in files]
    blurred = [cv2.GaussianBlur(picture, (0, 0), 2) for picture in clean]
    rng = np.random.default_rng(0)
    noisy = [toned(picture, 1, rng.normal(0, 12, picture.shape)) for picture in clean]
    found = measured(*clean, *blurred, *noisy)
    sharpness, noise = np.array(found["sharpness"]), np.array(found["noise"])
    assert sharpness[:12].min() > sharpness[12:24].max()
    assert noise[:12].max() < noise[24:].min()


def test_columns_hold_what_the_table_promises() -> None:
    schema = MeasureImages.columns
    assert [schema.field(name).type for name in NUMBERS] == [pa.float32()] * len(NUMBERS)
    assert [schema.field(name).type for name in HASHES] == [pa.uint64()] * len(HASHES)
    assert schema.field("layout").type == pa.list_(pa.float32(), 16)
    assert schema.field("light_cues").type == pa.list_(pa.float32(), 14)


def test_a_picture_is_measured_alike_in_any_batch() -> None:
    sizes = [(240, 320), (40, 50), (7, 9), (700, 900)]
    pictures = [scene(number, height=height, width=width) for number, (height, width) in enumerate(sizes)]
    together = measured(*pictures)
    for number, picture in enumerate(pictures):
        alone = measured(picture)
        for name in NUMBERS:
            assert alone[name][0] == pytest.approx(together[name][number], rel=1e-4, abs=1e-4), (name, number)
        for name in HASHES:
            assert alone[name][0] == together[name][number], (name, number)
