"""Images taken in several lights are each changed from their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from curate.augment.fit import fit_recipe
from curate.augment.fit.fit import _notes, _Part
from curate.augment.fit.lights import find_lights
from curate.augment.fit.looks import looks
from curate.augment.fit.views import load_views
from curate.errors import InputError
from curate.imaging import Pixels
from curate.recipes import Pipeline, Recipe, Step, read_recipe, write_recipe
from curate.recipes.backend import make
from curate.recipes.light import numbers_of_light, through_table, thumbnail
from curate.recipes.severity import at_severity
from tests.augment.fit_pictures import pictures

WARM, DIM, PLAIN = np.array([1.3, 0.9, 0.45]), np.full(3, 0.3), np.ones(3)


def lit(start: int, count: int, gains: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[Pixels]:
    return [through_table(pixels, gains) for pixels in pictures(start, count)]


def by_light(lights: list[list[float]], steps: tuple[Step, ...], scale: list[float] | None = None) -> Recipe:
    params = {"lights": lights, "scale": scale or [0.2] * 6}
    return Recipe("two", (Step("ByLight", params, steps=steps),))


def gain(factor: float) -> Step:
    limits = {"contrast_limit": [factor - 1, factor - 1], "brightness_limit": [0.0, 0.0]}
    return Step("RandomBrightnessContrast", limits | {"ensure_safe_range": False})


def middle(images: list[Pixels]) -> list[float]:
    found: list[float] = numbers_of_light(np.stack([thumbnail(pixels) for pixels in images])).mean(axis=0).tolist()
    return found


@pytest.mark.slow
def test_each_light_is_changed_from_its_own(tmp_path: Path) -> None:
    source, target = lit(0, 24, PLAIN) + lit(24, 24, DIM), lit(100, 24, WARM)
    fitted = fit_recipe(source, target)
    assert [step.transform for step in fitted.recipe.steps] == ["ByLight"]
    assert sorted(count for count, _ in fitted.lights) == [24, 24]
    write_recipe(fitted.recipe, tmp_path / "warm.yaml")
    pipeline = Pipeline(read_recipe(tmp_path / "warm.yaml"))

    aim = looks(load_views(target).small).mean(axis=0)
    for images in (source[:24], source[24:]):
        made = [pipeline(pixels, np.random.default_rng(k)).pixels for k, pixels in enumerate(images)]
        far, near = (np.abs(looks(load_views(each).small).mean(axis=0) - aim).mean() for each in (images, made))
        assert near < far / 2


@pytest.mark.slow
def test_one_recipe_where_the_target_has_the_same_lights() -> None:
    source = lit(0, 24, PLAIN) + lit(24, 24, DIM)
    blurred = Pipeline(Recipe("soft", (Step("GaussianBlur", {"sigma_limit": [1.5, 1.5], "blur_limit": 0}),)))
    target = [blurred(pixels, np.random.default_rng(0)).pixels for pixels in lit(100, 16, PLAIN) + lit(116, 16, DIM)]
    fitted = fit_recipe(source, target)
    assert fitted.lights == ()
    assert [step.transform for step in fitted.recipe.steps] == ["GaussianBlur"]


def test_the_light_of_an_image_decides() -> None:
    bright, dark = lit(0, 4, PLAIN), lit(4, 4, DIM)
    pipeline = Pipeline(by_light([middle(bright), middle(dark)], (Step("NoOp"), gain(2.0))))
    rng = np.random.default_rng(0)
    assert all(np.array_equal(pipeline(pixels, rng).pixels, pixels) for pixels in bright)
    for pixels in dark:
        applied = pipeline(pixels, rng)
        assert applied.pixels.mean() > 1.8 * pixels.mean()
        assert [each.transform for each in applied.applied] == ["RandomBrightnessContrast"]


def test_it_is_read_again_and_by_albumentations(tmp_path: Path) -> None:
    import albumentations

    bright, dark = lit(0, 4, PLAIN), lit(4, 4, DIM)
    recipe = by_light([middle(bright), middle(dark)], (Step("NoOp"), gain(2.0)))
    write_recipe(recipe, tmp_path / "two.yaml")
    assert read_recipe(tmp_path / "two.yaml").digest == recipe.digest
    loaded = albumentations.load(tmp_path / "two.yaml", data_format="yaml")
    again = albumentations.from_dict(albumentations.to_dict(loaded))
    for compose in (loaded, again):
        assert compose(image=dark[0])["image"].mean() > 1.8 * dark[0].mean()
        assert np.array_equal(compose(image=bright[0])["image"], bright[0])

    lost = write_recipe(recipe, tmp_path / "plain.yaml", plain=True)
    assert lost == ["ByLight became OneOf: which of its transforms is done no longer depends on the image's light"]
    assert [step.transform for step in read_recipe(tmp_path / "plain.yaml").steps] == ["OneOf"]


def test_no_light_is_lost_at_a_low_severity() -> None:
    blur = Step("GaussianBlur", {"sigma_limit": [0.5, 0.5], "blur_limit": 0})
    weak = at_severity(by_light([[0.0] * 6, [1.0] * 6], (blur, gain(2.0))), 0.1)
    assert [step.transform for step in weak.steps[0].steps] == ["NoOp", "RandomBrightnessContrast"]


@pytest.mark.parametrize(
    ("lights", "scale", "said"),
    [
        ([[0.0] * 6], None, "6 numbers are needed for each of its 2 transforms"),
        ([[0.0] * 6, [0.0] * 5], None, "lights: 6 numbers are needed for each"),
        ([[0.0] * 6] * 2, [0.1] * 5, "scale: 6 numbers above 0 are needed"),
        ([[0.0] * 6] * 2, [0.0] * 6, "scale: 6 numbers above 0 are needed"),
        ([[0.0] * 6, [float("nan")] * 6], None, "lights: 6 numbers are needed for each"),
        ([[0.0] * 6, ["a"] * 6], None, "lights: 6 numbers are needed for each"),
        ([[0.0] * 6] * 2, [float("inf")] * 6, "scale: 6 numbers above 0 are needed"),
    ],
)
def test_wrong_numbers_are_refused(lights: list[list[float]], scale: list[float] | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Pipeline(by_light(lights, (Step("NoOp"), gain(2.0)), scale))


def test_missing_numbers_and_other_images_are_told_plainly() -> None:
    import albumentations

    with pytest.raises(InputError, match="it needs lights and scale"):
        Pipeline(Recipe("none", (Step("ByLight", steps=(Step("NoOp"),)),)))
    group = make(by_light([[0.0] * 6, [1.0] * 6], (Step("NoOp"), gain(2.0))).steps[0], "here")
    for image in (np.zeros((40, 40), np.uint8), np.zeros((40, 40, 1), np.uint8), np.zeros((40, 40, 3), np.float32)):
        with pytest.raises(InputError, match="ByLight changes RGB images of 8 bits"):
            albumentations.Compose([group])(image=image)


@pytest.fixture
def told_apart(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[int], int], None]:
    """Lets the clustering of light say what a test wants: the source's lights, then so many target images of one."""

    def say(here: list[int], there: int) -> None:
        found = np.array(here + [0] * there)
        monkeypatch.setattr("curate.augment.fit.lights.cluster_light", lambda *given, **more: found)

    return say


def test_images_of_a_small_light_are_told_and_not_fitted_from(told_apart: Callable[[list[int], int], None]) -> None:
    source, target = (load_views(pictures(start, count)) for start, count in ((0, 44), (60, 8)))
    groups = np.arange(44), np.arange(8)
    told_apart([0] * 18 + [1] * 17 + [2] * 9, 8)
    lights, notes = find_lights(source, target, groups, 0)
    assert lights is not None
    assert lights.strange.tolist() == [False] * 35 + [True] * 9
    assert len(notes) == 1
    assert "9 images of the others were taken in 1 more light (9)" in notes[0]
    told_apart([0] * 35 + [1] * 9, 8)
    lights, notes = find_lights(source, target, groups, 0)
    assert lights is None
    assert "taken in 2 lights (35, 9 images)" in notes[0]
    told_apart([0] * 44, 8)
    assert find_lights(source, target, groups, 0) == (None, ())


def test_notes_of_each_light_are_kept() -> None:
    parts = [_Part(20, {}, (), 1.0, ("a", "b")), _Part(30, {}, (), 1.0, ("a",))]
    assert _notes(parts) == ["a", "beside images of light 1 (20 images): b"]
