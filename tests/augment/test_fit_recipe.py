"""A recipe fitted between pictures of different things."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.augment_recovery import halves, recover
from curate.augment.fit import Fitted, fit_recipe
from curate.augment.fit.looks import looks
from curate.augment.fit.views import load_views
from curate.demo import NONE, make_parts
from curate.errors import UsageError
from curate.imaging import Pixels, load_pixels
from curate.recipes import Pipeline, Recipe, Step, read_recipe, write_recipe
from tests.augment.fit_pictures import pictures

SOURCE, OTHER = pictures(0, 24), pictures(100, 24)


def through(steps: tuple[Step, ...], images: list[Pixels]) -> list[Pixels]:
    pipeline = Pipeline(Recipe("planted", steps))
    return [pipeline(pixels, np.random.default_rng(k)).pixels for k, pixels in enumerate(images)]


def different(fitted: Fitted) -> set[str]:
    return {each.name for each in fitted.parameters.values() if each.differs}


def gain(stops: float) -> Step:
    limit = 2 ** (stops / 2.2) - 1
    limits = {"contrast_limit": [limit, limit], "brightness_limit": [0.0, 0.0]}
    return Step("RandomBrightnessContrast", limits | {"ensure_safe_range": False})


def test_nothing_differs_between_halves_of_a_set() -> None:
    fitted = fit_recipe(SOURCE, OTHER)
    assert different(fitted) == set()
    assert fitted.recipe.steps == ()
    assert fitted.recipe.about["description"] == "fitted: nothing differs"
    assert fitted.images == (24, 24)


@pytest.mark.slow
def test_darker_and_noisier(tmp_path: Path) -> None:
    target = through((gain(-1.2), Step("GaussNoise", {"std_range": [0.03, 0.03]})), OTHER)
    fitted = fit_recipe(SOURCE, target, name="dark", seed=3)
    parameters = fitted.parameters
    assert {"exposure", "noise"} <= different(fitted) <= {"exposure", "noise", "read_noise", "shot_noise"}
    assert parameters["exposure"].estimate == pytest.approx(-1.2, rel=0.2)
    assert parameters["exposure"].low <= -1.2 <= parameters["exposure"].high
    assert parameters["noise"].estimate == pytest.approx(7.28, rel=0.1)

    write_recipe(fitted.recipe, tmp_path / "dark.yaml")
    again = read_recipe(tmp_path / "dark.yaml")
    assert again.digest == fitted.recipe.digest
    assert again.about["fitted"]["exposure"]["differs"] is True

    aim = looks(load_views(target).small).mean(axis=0)
    far = np.abs(looks(load_views(SOURCE).small).mean(axis=0) - aim).mean()
    near = np.abs(looks(load_views(through(again.steps, SOURCE)).small).mean(axis=0) - aim).mean()
    assert near < far / 3


@pytest.mark.slow
def test_blurred_and_compressed_files(tmp_path: Path) -> None:
    target = []
    for k, pixels in enumerate(through((Step("GaussianBlur", {"sigma_limit": [1.5, 1.5], "blur_limit": 0}),), OTHER)):
        target.append(tmp_path / f"{k}.jpg")
        Image.fromarray(pixels).save(target[-1], quality=60)
    told: list[tuple[int, int]] = []
    fitted = fit_recipe(SOURCE, target, progress=lambda done, total: told.append((done, total)))
    assert {"blur", "jpeg"} <= different(fitted)
    assert fitted.parameters["blur"].estimate == pytest.approx(1.5, rel=0.15)
    assert fitted.parameters["jpeg"].estimate == 60
    assert fitted.recipe.steps[-1] == Step("ImageCompression", {"quality_range": [60, 60], "compression_type": "jpeg"})
    assert told[-1] == (48, 48)
    assert [done for done, _ in told] == list(range(1, 49))


@pytest.mark.slow
def test_sharper_target_is_said_and_not_made() -> None:
    soft = through((Step("GaussianBlur", {"sigma_limit": [2.0, 2.0], "blur_limit": 0}),), SOURCE)
    fitted = fit_recipe(soft, OTHER)
    assert "blur" not in different(fitted)
    assert any("sharper" in note for note in fitted.notes)


@pytest.mark.slow
def test_references_are_of_the_target_and_the_same_again() -> None:
    target = through((gain(-0.8),), OTHER)
    first, second = (fit_recipe(SOURCE, target, seed=1) for _ in range(2))
    assert first.recipe == second.recipe
    assert first.parameters == second.parameters
    assert 1 <= len(first.references) <= 8
    assert set(first.references) <= set(range(24))


@pytest.mark.slow
def test_groups_widen_intervals() -> None:
    target = through((gain(-1.0),), OTHER[:8] * 3)
    numbers = list(range(8)) * 3
    alone = fit_recipe(SOURCE, target).parameters["exposure"]
    grouped = fit_recipe(SOURCE, target, groups=(list(range(24)), numbers)).parameters["exposure"]
    assert grouped.high - grouped.low > alone.high - alone.low


@pytest.mark.parametrize(("source", "target", "side"), [(7, 8, "source"), (8, 3, "target")])
def test_too_few_images(source: int, target: int, side: str) -> None:
    with pytest.raises(UsageError, match=f"of the {side} are too few to fit a recipe to"):
        fit_recipe(SOURCE[:source], OTHER[:target])


@pytest.fixture(scope="module")
def rendered_parts(tmp_path_factory: pytest.TempPathFactory) -> list[Pixels]:
    folder = tmp_path_factory.mktemp("rendered") / "parts"
    make_parts(folder, images=120, seed=31, faults=NONE)
    return [load_pixels(file) for file in sorted(folder.glob("images/*/*.jpg"))]


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["nothing", "exposure -1", "4500 K", "blur, noise"])
def test_planted_on_rendered_parts(rendered_parts: list[Pixels], plan: str) -> None:
    found = recover(*halves(rendered_parts, 0, 60), plan, 0)
    assert len(found["false_alarms"]) <= 1
    errors = {row["parameter"]: row["error"] for row in found["found"]}
    for name, most in {"exposure": 0.3, "temperature": 0.2, "blur": 0.15, "noise": 0.1}.items():
        assert errors.get(name, 0) < most, name
