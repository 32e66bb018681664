"""Our own transforms do what their physics says; pipelines repeat themselves; severities go from nothing to all."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import InputError, UsageError
from curate.recipes import CORRUPTIONS, NAMED, Pipeline, Recipe, Shape, Step, at_severity, graded, named_recipe
from curate.recipes.backend import transform_class
from curate.recipes.files import validate
from curate.recipes.light import decode, encode, lamp_gains, planckian_rgb

Pixels = npt.NDArray[np.uint8]


def photograph(height: int = 60, width: int = 80) -> Pixels:
    """Smooth shapes and a little texture, no pixel black or white."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (7 + k)) * np.cos(y / (9 - k)) for k in range(3)]
    noise = np.random.default_rng(0).normal(0, 6, (height, width, 1))
    return np.clip(120 + 60 * np.stack(waves, axis=-1) + noise, 8, 235).astype(np.uint8)


def done(name: str, seed: int = 0, image: Pixels | None = None, depth: Any = None, **params: Any) -> Pixels:
    pipeline = Pipeline(Recipe(name, (Step(name, params),)))
    return pipeline(photograph() if image is None else image, np.random.default_rng(seed), depth=depth).pixels


def test_light_is_decoded_and_encoded_without_loss() -> None:
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(encode(decode(every)), every)
    assert decode(np.array([188], np.uint8))[0] == pytest.approx(0.5, abs=0.005)


@given(ev=st.floats(-3, 1))
@settings(deadline=None, max_examples=20)
def test_exposure_is_linear(ev: float) -> None:
    before, after = decode(photograph()), decode(done("Exposure", ev_range=[ev, ev]))
    fits = (before * 2**ev < 0.9) & (before * 2**ev > 0.01)
    np.testing.assert_allclose(after[fits] / before[fits], 2**ev, rtol=0.06)


def test_lamps_have_the_colours_of_black_bodies() -> None:
    """Against linear sRGB of Planck's law with the CIE 1931 observer, as tables have it (Charity 2001), green 1."""
    assert planckian_rgb(6500) == pytest.approx([1.0, 1.0, 1.0], abs=0.08)
    tables = {3000: (255, 180, 107), 4000: (255, 206, 166), 10000: (204, 219, 255)}
    for kelvin, srgb in tables.items():
        linear = decode(np.array(srgb, np.uint8)).astype(float)
        np.testing.assert_allclose(planckian_rgb(kelvin), linear / linear[1], rtol=0.12)
    gains = lamp_gains(3000, 5000)
    assert gains @ [0.2126, 0.7152, 0.0722] == pytest.approx(1)
    np.testing.assert_allclose(lamp_gains(5000, 3000) * gains / (lamp_gains(5000, 3000) * gains)[1], [1, 1, 1])


def test_a_warm_lamp_multiplies_linear_light() -> None:
    before = decode(photograph())
    after = decode(done("LampTemperature", kelvin_range=[3000, 3000], balanced_for=5000))
    ratio = np.median(after / before, axis=(0, 1))
    np.testing.assert_allclose(ratio, lamp_gains(3000, 5000), rtol=0.03)
    half = done("LampTemperature", kelvin_range=[3000, 3000], balanced_for=5000, adaptation=1.0)
    np.testing.assert_array_equal(half, photograph())


def test_vignetting_follows_the_cosine_law_to_the_corners() -> None:
    white = np.full((101, 151, 3), 200, np.uint8)
    light = decode(done("Vignetting", image=white, strength_range=[0.6, 0.6]))[..., 0] / decode(white)[..., 0]
    assert light[50, 75] == pytest.approx(1, abs=0.01)
    assert light[0, 0] == pytest.approx(0.4, abs=0.03)
    radius = np.hypot(75, 0) / np.hypot(75.5, 50.5)
    tangent = np.sqrt(0.4**-0.5 - 1) * radius
    assert light[50, 0] == pytest.approx(np.cos(np.arctan(tangent)) ** 4, abs=0.02)


def test_glare_adds_a_veil_that_falls_with_distance() -> None:
    dark = np.full((60, 100, 3), 40, np.uint8)
    params: dict[str, Any] = {
        "strength_range": [0.5, 0.5],
        "centre_x_range": [0.0, 0.0],
        "centre_y_range": [0.5, 0.5],
        "width": 0.1,
    }
    veil = (decode(done("VeilingGlare", image=dark, **params)) - decode(dark))[30, :, 1]
    distance = (np.arange(100) + 0.5) / np.hypot(60, 100)
    expected = 0.5 * 0.01 / (distance**2 + 0.01) * lamp_gains(6500, 6500)[1]
    np.testing.assert_allclose(veil, expected, atol=0.01)


def test_dirt_takes_light_in_spots_and_scatters_it() -> None:
    image = photograph(200, 300)
    params: dict[str, Any] = {"spots_range": [3, 3], "radius_range": [0.05, 0.05], "opacity_range": [1.0, 1.0]}
    bare, scattered = (decode(done("DirtyLens", image=image, scatter=scatter, **params)) for scatter in (0.0, 1.0))
    before = decode(image)
    hidden = bare.sum(axis=2) < 0.01
    assert 0.005 < hidden.mean() < 0.2
    assert ((bare - before) < 0.01).all()
    np.testing.assert_allclose(scattered[hidden].mean(axis=0), before.mean(axis=(0, 1)), rtol=0.05)


def test_a_rolling_shutter_leans_things_by_the_row() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    image[:, 50] = 255
    skewed = done("RollingShutter", image=image, skew_range=[0.2, 0.2], wobble_range=[0, 0], fill=77)
    columns = (skewed[:, 20:80, 0] * np.arange(20, 80)).sum(axis=1) / skewed[:, 20:80, 0].sum(axis=1)
    np.testing.assert_allclose(columns, 50 + 20 * ((np.arange(100) + 0.5) / 100 - 0.5), atol=0.1)
    assert (skewed[95, 0] == 77).all()


def test_fog_follows_koschmieders_law_where_depth_is_known() -> None:
    image = photograph()
    metres = np.repeat(np.linspace(1, 200, 80)[None], 60, axis=0)
    params: dict[str, Any] = {"visibility_range": [100, 100], "airlight_range": [0.7, 0.7]}
    found = decode(done("FogWithDepth", image=image, depth=metres, **params))
    passed = np.exp(-3.0 * metres / 100)[..., None]
    np.testing.assert_allclose(found, decode(image) * passed + 0.7 * (1 - passed), atol=0.01)
    # In no known unit: the far end has the density, and what is not known is far.
    unknown = metres.copy()
    unknown[:, :40] = np.nan
    relative: dict[str, Any] = {"density_range": [2.0, 2.0], "airlight_range": [0.7, 0.7]}
    found = decode(done("FogWithDepth", image=image, depth=unknown, **relative))
    same = decode(done("FogWithDepth", image=image, depth=unknown * 17, **relative))
    np.testing.assert_array_equal(found, same)
    share = ((found - decode(image)) / (0.7 - decode(image)))[:, :40]
    assert np.median(share) == pytest.approx(1 - np.exp(-2), abs=0.02)


def test_fog_without_depth_thickens_upwards_to_the_horizon() -> None:
    black = np.full((100, 50, 3), 5, np.uint8)
    rows = done("FogWithDepth", image=black, density_range=[1.0, 1.0], airlight_range=[0.8, 0.8])[..., 0].mean(axis=1)
    assert (np.diff(rows) <= 0).all()
    assert rows[0] == rows[30] > rows[60] > rows[99]


def test_depth_moves_with_the_image_before_the_fog() -> None:
    image = np.full((40, 60, 3), 10, np.uint8)
    depth = np.repeat(np.linspace(1, 100, 60)[None], 40, axis=0)
    fog = Step("FogWithDepth", {"density_range": [2.0, 2.0], "airlight_range": [0.8, 0.8]})
    steps = (Step("HorizontalFlip"), Step("Crop", {"x_min": 10, "x_max": 50, "y_max": 30}), fog)
    pixels = Pipeline(Recipe("fog", steps))(image, np.random.default_rng(0), depth=depth).pixels
    assert pixels.shape == (30, 40, 3)
    assert (np.diff(pixels[10, :, 0].astype(int)) <= 0).all()
    with pytest.raises(InputError, match="map of depth has 60 x 41 values"):
        Pipeline(Recipe("fog", steps))(image, np.random.default_rng(0), depth=np.ones((41, 60)))


def test_our_own_moving_transform_moves_labels_under_albumentations_alone() -> None:
    import albumentations

    shutter = transform_class("RollingShutter", "")(skew_range=(0.2, 0.2), p=1.0)
    compose = albumentations.Compose([shutter], bbox_params=albumentations.BboxParams("coco", label_fields=["labels"]))
    moved = compose(image=photograph(), bboxes=[[20, 40, 10, 15]], labels=[1])
    ours = Pipeline(Recipe("lean", (Step("RollingShutter", {"skew_range": [0.2, 0.2]}),)))(
        photograph(), np.random.default_rng(0), [Shape("box", bbox=[20.0, 40.0, 10.0, 15.0])]
    )
    assert ours.shapes[0] is not None
    np.testing.assert_allclose(moved["bboxes"][0], np.array(ours.shapes[0].bbox), atol=1.5)


@pytest.mark.parametrize("name", [*NAMED, *CORRUPTIONS])
def test_pipelines_repeat_themselves_in_threads_and_processes(name: str) -> None:
    pipeline = Pipeline(graded(name, 0.7))
    shapes = [Shape("box", bbox=[10.0, 10.0, 20.0, 20.0])]

    def changed(seed: int, which: Pipeline = pipeline) -> tuple[bytes, Any, str]:
        applied = which(photograph(), np.random.default_rng(seed), shapes)
        said = json.dumps([[drawn.transform, dict(drawn.params)] for drawn in applied.applied])
        return applied.pixels.tobytes(), applied.shapes, said

    alone = [changed(seed) for seed in range(6)]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(changed, range(6))) == alone
    copy = pickle.loads(pickle.dumps(pipeline))
    assert [changed(seed, copy) for seed in range(6)] == alone
    rng = np.random.default_rng(4)
    again = [pipeline(photograph(), rng).pixels.tobytes() for _ in range(2)]
    rng = np.random.default_rng(4)
    assert [pipeline(photograph(), rng).pixels.tobytes() for _ in range(2)] == again


@pytest.mark.parametrize("name", [*CORRUPTIONS, *NAMED])
def test_severities_go_from_nothing_to_all(name: str) -> None:
    image = photograph(120, 160)

    def distance(severity: float) -> float:
        pipeline = Pipeline(graded(name, severity))
        runs = [pipeline(image, np.random.default_rng(seed)).pixels.astype(float) for seed in range(6)]
        return float(np.mean([np.abs(run - image).mean() for run in runs]))

    assert graded(name, 0).steps == ()
    assert distance(0) == 0
    found = [distance(severity) for severity in (0.05, 0.35, 0.65, 1.0)]
    # What is drawn (rain, which mud) makes it a little uneven.
    assert all(low < high * 1.1 for low, high in pairwise(found)), found
    # Scaling and JPEG change something as soon as they are done at all.
    assert found[0] < 0.6 * found[-1]
    assert found[-1] > 3


@pytest.mark.parametrize("name", [*CORRUPTIONS, *NAMED])
def test_every_severity_can_be_made(name: str) -> None:
    for severity in np.linspace(0, 1, 41):
        validate(graded(name, float(severity)))


def test_what_has_no_nothing_happens_less_often() -> None:
    recipe = Recipe("flip", (Step("HorizontalFlip", p=0.8), Step("OneOf", steps=(Step("RandomGamma"), Step("D4")))))
    half = at_severity(recipe, 0.5)
    assert half.steps[0].p == pytest.approx(0.4)
    assert half.steps[1].steps[0].params["gamma_limit"] == pytest.approx([80**0.5 * 10, 120**0.5 * 10])
    assert half.steps[1].steps[1].p == 0.5
    assert half.about["severity"] == 0.5
    assert at_severity(recipe, 1) is recipe
    assert at_severity(named_recipe("night"), 0.3) == named_recipe("night", 0.3)


def test_values_that_are_the_defaults_are_said_where_the_recipe_says_others() -> None:
    """A parameter that is scaled to its default must not keep the recipe's value."""
    recipe = Recipe("dark", (Step("Exposure", {"ev_range": [-2.0, 2.0]}),))
    assert at_severity(recipe, 0.5).steps[0].params == {"ev_range": [-1.0, 1.0]}


@pytest.mark.parametrize("severity", [-0.1, 1.1, float("nan")])
def test_severities_beyond_the_scale_are_refused(severity: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        graded("motion", severity)


def test_a_recipe_that_does_not_fit_an_image_says_which() -> None:
    crop = Recipe("close", (Step("RandomCrop", {"height": 500, "width": 500}),))
    with pytest.raises(InputError, match="recipe close, image of 80 x 60: Crop size"):
        Pipeline(crop)(photograph(), np.random.default_rng(0))
    with pytest.raises(InputError, match="sad, step 1: there is no transform 'Nonsense'"):
        Pipeline(Recipe("sad", (Step("Nonsense"),)))


def test_an_empty_recipe_changes_nothing() -> None:
    shapes = [Shape("box", bbox=[1.0, 2.0, 3.0, 4.0])]
    applied = Pipeline(Recipe("nothing", ()))(photograph(), np.random.default_rng(0), shapes)
    np.testing.assert_array_equal(applied.pixels, photograph())
    assert applied.shapes == tuple(shapes)
    assert applied.applied == ()


@pytest.mark.parametrize(
    "name", ["Exposure", "LampTemperature", "Vignetting", "VeilingGlare", "DirtyLens", "FogWithDepth"]
)
@pytest.mark.parametrize(
    "image", [np.zeros((40, 40), np.uint8), np.zeros((40, 40, 1), np.uint8), np.zeros((40, 40, 3), np.float32)]
)
def test_what_is_no_rgb_image_of_8_bits_is_refused_in_words(name: str, image: np.ndarray[Any, Any]) -> None:
    import albumentations

    compose = albumentations.Compose([transform_class(name, "")(p=1.0)])
    with pytest.raises(InputError, match=rf"{name} changes RGB images of 8 bits"):
        compose(image=image)
