"""Recipe files: what albumentations reads, what is refused and how, and what a plain export loses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from curate.errors import InputError
from curate.recipes import (
    CORRUPTIONS,
    NAMED,
    Pipeline,
    Recipe,
    Step,
    graded,
    load_recipe,
    named_recipe,
    preview,
    read_recipe,
    write_recipe,
)
from curate.recipes.backend import GROUPS, OWN_MODULE, parameters, transform_class, transform_names

EVERY_OWN = (
    "DirtyLens",
    "Exposure",
    "FogWithDepth",
    "LampTemperature",
    "RollingShutter",
    "VeilingGlare",
    "Vignetting",
)


def pixels(seed: int = 0, height: int = 48, width: int = 64) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def with_step(step: str) -> str:
    return f"transform:\n  __class_fullname__: Compose\n  p: 1.0\n  transforms:\n  - {step}\n"


@pytest.mark.parametrize("name", NAMED)
def test_named_recipes_are_written_and_read_as_they_are(name: str, tmp_path: Path) -> None:
    recipe = named_recipe(name)
    assert recipe.about["description"]
    assert recipe.about["source"]
    assert write_recipe(recipe, tmp_path / "mine.yaml") == []
    again = load_recipe(tmp_path / "mine.yaml")
    assert again == recipe
    assert again.digest == recipe.digest
    assert again.folder == tmp_path.resolve()
    assert load_recipe(name) == recipe


def test_a_recipe_of_everything_comes_back(tmp_path: Path) -> None:
    steps = (
        Step("OneOf", p=0.5, steps=(Step("RandomGamma", {"gamma_limit": [80, 120]}, 0.2), Step("Exposure", p=0.8))),
        Step(
            "SomeOf",
            {"n": 1, "replace": False},
            steps=(Step("HorizontalFlip"), Step("Sequential", steps=(Step("D4"),))),
        ),
        Step("Affine", {"shear": {"x": (-5.0, 5.0), "y": (0, 0)}, "fill": [114, np.int64(114), 114]}),
    )
    fitted = {"gamma": {"value": np.float64(1.5), "interval": (1.4, 1.6)}, "target": "slice:dark", "commit": 7}
    write_recipe(Recipe("all", steps, {"fitted": fitted}), tmp_path / "all.yaml")
    again = read_recipe(tmp_path / "all.yaml")
    assert again.about == {
        "fitted": {"gamma": {"value": 1.5, "interval": [1.4, 1.6]}, "target": "slice:dark", "commit": 7}
    }
    assert again.steps[0] == steps[0]
    assert again.steps[1] == steps[1]
    assert again.steps[2].params == {"shear": {"x": [-5, 5], "y": [0, 0]}, "fill": [114, 114, 114]}
    before, after = (Pipeline(each)(pixels(), np.random.default_rng(1)) for each in (Recipe("all", steps), again))
    np.testing.assert_array_equal(before.pixels, after.pixels)


def test_albumentations_reads_the_files_itself(tmp_path: Path) -> None:
    """In a process of its own: with our transforms once curate.recipes is imported, plain exports without curate."""
    for name in NAMED:
        write_recipe(named_recipe(name), tmp_path / f"{name}.yaml")
        write_recipe(named_recipe(name), tmp_path / f"{name}.plain", plain=True)
    code = (
        "import sys, glob, numpy as np, albumentations\n"
        "image = np.full((64, 64, 3), 90, np.uint8)\n"
        "for path in sorted(glob.glob(sys.argv[1] + '/*.plain')):\n"
        "    loaded = albumentations.load(path, data_format='yaml')\n"
        "    assert loaded(image=image)['image'].shape == image.shape, path\n"
        "assert not any(name.startswith('curate') for name in sys.modules)\n"
        "import curate.recipes\n"
        "for path in sorted(glob.glob(sys.argv[1] + '/*.yaml')):\n"
        "    loaded = albumentations.load(path, data_format='yaml')\n"
        "    assert loaded(image=image)['image'].shape == image.shape, path\n"
    )
    environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"}
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, tmp_path], check=True, env=environment, cwd=root)


def test_what_albumentations_loads_gives_the_pixels_that_curate_gives(tmp_path: Path) -> None:
    import random

    import albumentations

    write_recipe(named_recipe("new_lamp_3000K"), tmp_path / "lamp.yaml")
    rng = np.random.default_rng(5)
    seed = int(np.random.default_rng(5).integers(2**31))
    loaded: Any = albumentations.load(tmp_path / "lamp.yaml", data_format="yaml")
    loaded.set_random_state(np.random.default_rng(seed), random.Random(seed))
    applied = Pipeline(named_recipe("new_lamp_3000K"))(pixels(), rng)
    np.testing.assert_array_equal(loaded(image=pixels())["image"], applied.pixels)


def test_files_that_albumentations_saved_are_recipes(tmp_path: Path) -> None:
    import albumentations

    flips = albumentations.Compose(
        [albumentations.VerticalFlip(p=1), albumentations.OneOf([albumentations.InvertImg(p=1)], p=1)],
        bbox_params=albumentations.BboxParams("coco", label_fields=["labels"]),
    )
    for name, kind in (("saved.json", "json"), ("saved.yaml", "yaml")):
        albumentations.save(flips, tmp_path / name, data_format=kind)
        found = Pipeline(read_recipe(tmp_path / name))(pixels(), np.random.default_rng(0)).pixels
        np.testing.assert_array_equal(found, 255 - pixels()[::-1])
    alone = tmp_path / "alone.yaml"
    albumentations.save(albumentations.InvertImg(p=1), alone, data_format="yaml")
    assert read_recipe(alone).steps == (Step("InvertImg"),)
    maybe = tmp_path / "maybe.yaml"
    albumentations.save(albumentations.Compose([albumentations.InvertImg(p=1)], p=0.25), maybe, data_format="yaml")
    drawn = [Pipeline(read_recipe(maybe))(pixels(), np.random.default_rng(seed)).pixels[0, 0, 0] for seed in range(400)]
    assert 0.18 < np.mean(np.array(drawn) != pixels()[0, 0, 0]) < 0.32


def test_plain_exports_say_what_they_lose(tmp_path: Path) -> None:
    steps = (
        *(Step(name) for name in EVERY_OWN[:3]),
        Step("OneOf", steps=tuple(Step(name) for name in EVERY_OWN[3:])),
        Step("RandomGamma"),
    )
    lost = write_recipe(Recipe("own", steps), tmp_path / "plain.yaml", plain=True)
    assert [line.split(" became ")[0] for line in lost] == list(EVERY_OWN)
    text = (tmp_path / "plain.yaml").read_text()
    assert "curate.recipes" not in text
    again = read_recipe(tmp_path / "plain.yaml")
    assert [step.transform for step in again.steps[3].steps] == [
        "Sequential",
        "Affine",
        "RandomSunFlare",
        "Illumination",
    ]
    assert write_recipe(Recipe("plain", (Step("RandomGamma"),)), tmp_path / "none.yaml", plain=True) == []


@pytest.mark.parametrize(
    ("name", "mean"),
    [("Exposure", {"ev_range": [-2.0, -2.0]}), ("LampTemperature", {"kelvin_range": [3000, 3000]})],
)
def test_plain_exports_of_light_are_near(name: str, mean: dict[str, Any], tmp_path: Path) -> None:
    recipe = Recipe("light", (Step(name, mean),))
    write_recipe(recipe, tmp_path / "plain.yaml", plain=True)
    grey = np.full((8, 8, 3), 128, np.uint8)
    ours, theirs = (
        Pipeline(each)(grey, np.random.default_rng(0)).pixels[0, 0].astype(float)
        for each in (recipe, read_recipe(tmp_path / "plain.yaml"))
    )
    assert abs(np.log(ours[2] / ours[0]) - np.log(theirs[2] / theirs[0])) < 0.1
    assert abs(ours.mean() - theirs.mean()) < 25


def test_every_own_transform_is_known_exported_and_documented() -> None:
    names = transform_names()
    assert set(EVERY_OWN) < set(names)
    ours = {name for name in names if transform_class(name, "").__module__ == OWN_MODULE and name not in GROUPS}
    assert ours == set(EVERY_OWN)
    for name in EVERY_OWN:
        said = transform_class(name, "").__doc__ or ""
        for parameter in parameters(transform_class(name, "")):
            assert parameter in said, f"{name} does not say what {parameter} is"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: [", r"line 1, column 5: the file is not YAML"),
        ("", "no key 'transform'"),
        ("- 1\n", "no key 'transform'"),
        ("transform: 3\n", "no key 'transform'"),
        ("transform: {}\n", "a step has no __class_fullname__"),
        ("transform: {__class_fullname__: 3}\n", "a step has no __class_fullname__"),
        (
            with_step("{__class_fullname__: RandomGama, p: 1.0}"),
            "step 1: there is no transform 'RandomGama'.*RandomGamma",
        ),
        (with_step("{__class_fullname__: os.system, p: 1.0}"), "there is no transform 'os.system'"),
        (
            with_step("{__class_fullname__: curate.errors.InputError}"),
            "there is no transform 'curate.errors.InputError'",
        ),
        (with_step("{__class_fullname__: curate.recipes.transforms.np}"), "there is no transform 'np'"),
        (with_step("{__class_fullname__: BasicTransform, p: 1}"), "there is no transform 'BasicTransform'"),
        (with_step("{__class_fullname__: Lambda, p: 1}"), "recipes cannot have Lambda"),
        (with_step("{__class_fullname__: ToFloat, p: 1}"), "recipes cannot have ToFloat: its result is no 8-bit"),
        (
            with_step("{__class_fullname__: RandomGamma, gama_limit: [1, 2]}"),
            "no parameter 'gama_limit'.*gamma_limit, p",
        ),
        (with_step("{__class_fullname__: RandomGamma, gamma_limit: [-5, 2]}"), "RandomGamma: gamma_limit"),
        (with_step("{__class_fullname__: RandomGamma, gamma_limit: night}"), "RandomGamma: gamma_limit"),
        (with_step("{__class_fullname__: RandomGamma, p: 3}"), "RandomGamma: p is 3"),
        (with_step("{__class_fullname__: RandomGamma, p: yes}"), "RandomGamma: p is True"),
        (with_step("{__class_fullname__: Exposure, ev_range: [3, 1]}"), "Exposure: ev_range"),
        (with_step("{__class_fullname__: FogWithDepth, visibility_range: [0, 1]}"), "visibility_range"),
        (with_step("{__class_fullname__: RollingShutter, skew_range: [0, 7]}"), "RollingShutter: skew_range"),
        (with_step("{__class_fullname__: Resize, height: 3}"), "Resize: it needs width"),
        (
            with_step("{__class_fullname__: PlanckianJitter, temperature_limit: [3000, 3500]}"),
            "White temperature should be",
        ),
        (with_step("{__class_fullname__: Posterize, num_bits: [[1, 2], [3, 4]]}"), "Posterize: float"),
        (with_step("{__class_fullname__: OneOf, transforms: 3}"), "its transforms are no list"),
        (with_step("{__class_fullname__: OneOf, transforms: []}"), "there are no transforms in it"),
        (with_step("{__class_fullname__: FDA, read_fn: os.system}"), "no parameter 'read_fn'"),
        (with_step("{__class_fullname__: D4}") + "curate: 3\n", "under 'curate'"),
        (with_step("{__class_fullname__: D4}") + "curate: {references: [a.png]}\n", "references is no mapping"),
        (with_step("!!python/object/apply:os.system ['true']"), "the file is not YAML"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_with_its_place(content: str, said: str, tmp_path: Path) -> None:
    path = write(tmp_path / "mine.yaml", content)
    with pytest.raises(InputError, match=f"(?s){said}") as caught:
        read_recipe(path)
    assert str(path) in str(caught.value)
    assert caught.value.remedy


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    target = tmp_path / "made"
    text = with_step(f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{target}]]")
    with pytest.raises(InputError):
        read_recipe(write(tmp_path / "mine.yaml", text))
    assert not target.exists()


def test_a_few_lines_that_stand_for_billions_of_steps_are_refused(tmp_path: Path) -> None:
    levels = ["a0: &a0 {__class_fullname__: D4, p: 1.0}"]
    for k in range(1, 9):
        inner = ", ".join([f"*a{k - 1}"] * 10)
        levels.append(f"a{k}: &a{k} {{__class_fullname__: Sequential, p: 1.0, transforms: [{inner}]}}")
    with pytest.raises(InputError, match="more than 1000 steps"):
        read_recipe(write(tmp_path / "many.yaml", "\n".join([*levels, "transform: *a8\n"])))
    values = ["b0: &b0 [1, 1]", *(f"b{k}: &b{k} [{', '.join([f'*b{k - 1}'] * 10)}]" for k in range(1, 9))]
    step = "transform: {__class_fullname__: RandomGamma, gamma_limit: *b8}\n"
    with pytest.raises(InputError, match="parameters are too many"):
        read_recipe(write(tmp_path / "values.yaml", "\n".join([*values, step])))
    deep = "transform: " + "{__class_fullname__: OneOf, transforms: [" * 30 + "{__class_fullname__: D4}" + "]}" * 30
    with pytest.raises(InputError, match="in one another"):
        read_recipe(write(tmp_path / "deep.yaml", deep))
    with pytest.raises(InputError, match="too large"):
        read_recipe(write(tmp_path / "large.yaml", "#" * 2_000_000))


def test_names_that_are_none_are_told_their_like(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no recipe 'nigth' \(near ones: night"):
        load_recipe("nigth")
    with pytest.raises(InputError, match=r"there are conveyor_motion.*path of a YAML file"):
        load_recipe("zzzz")
    with pytest.raises(InputError, match="no corruption 'blurr'"):
        graded("blurr", 0.5)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load_recipe(tmp_path / "absent.yaml")


def test_references_are_read_beside_the_recipe_and_go_with_it(tmp_path: Path) -> None:
    (tmp_path / "refs").mkdir()
    Image.new("RGB", (40, 30), (200, 40, 40)).save(tmp_path / "refs" / "red.png")
    steps = (Step("HistogramMatching", {"blend_ratio": [1.0, 1.0], "metadata_key": "hm"}),)
    recipe = Recipe("red", steps, {"references": {"hm": ["refs/red.png"]}}, tmp_path)
    write_recipe(recipe, tmp_path / "red.yaml")
    changed = Pipeline(read_recipe(tmp_path / "red.yaml"))(pixels(), np.random.default_rng(0)).pixels
    assert np.abs(changed.mean(axis=(0, 1)) - [200, 40, 40]).max() < 2
    (tmp_path / "other").mkdir()
    write_recipe(read_recipe(tmp_path / "red.yaml"), tmp_path / "other" / "red.yaml")
    moved = yaml.safe_load((tmp_path / "other" / "red.yaml").read_text())
    assert moved["curate"]["references"] == {"hm": ["../refs/red.png"]}
    np.testing.assert_array_equal(
        Pipeline(read_recipe(tmp_path / "other" / "red.yaml"))(pixels(), np.random.default_rng(0)).pixels, changed
    )
    given = {"hm": [np.full((8, 8, 3), 30, np.uint8)]}
    assert Pipeline(recipe, given)(pixels(), np.random.default_rng(0)).pixels.mean() < 40


@pytest.mark.parametrize("name", ["FDA", "HistogramMatching", "PixelDistributionAdaptation"])
def test_references_that_are_not_there_are_missed_when_the_pipeline_is_made(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{name} has no images to take colours from"):
        Pipeline(Recipe("mine", (Step(name),)))
    key = parameters(transform_class(name, ""))["metadata_key"]
    with pytest.raises(InputError, match=r"absent\.png"):
        Pipeline(Recipe("mine", (Step(name),), {"references": {key: ["absent.png"]}}, tmp_path))
    images = [pixels(2)]
    assert Pipeline(Recipe("mine", (Step(name),)), {key: images})(pixels(), np.random.default_rng(0)).pixels.shape == (
        48,
        64,
        3,
    )


def test_every_transform_that_may_be_named_can_be_done() -> None:
    """Those that must be told something are, the others run with their defaults."""
    given: dict[str, dict[str, Any]] = {
        "Resize": {"height": 30, "width": 30},
        "RandomSizedCrop": {"min_max_height": [20, 30], "size": [30, 30]},
        "RandomSizedBBoxSafeCrop": {"height": 30, "width": 30},
        "AtLeastOneBBoxRandomCrop": {"height": 30, "width": 30},
        "RandomResizedCrop": {"size": [30, 30]},
        "LongestMaxSize": {"max_size": 50},
        "SmallestMaxSize": {"max_size": 40},
        "Crop": {"x_max": 30, "y_max": 30},
        **{name: {"height": 30, "width": 30} for name in ("CenterCrop", "RandomCrop")},
        "PadIfNeeded": {"min_height": 70, "min_width": 70},
        "Pad": {"padding": 3},
        "CropAndPad": {"px": 3},
        "XYMasking": {"num_masks_x": 1, "num_masks_y": 1, "mask_x_length": 5, "mask_y_length": 5},
    }
    image = np.clip(pixels() // 2 + 60, 0, 255).astype(np.uint8)
    keys = {"FDA": "fda_metadata", "HistogramMatching": "hm_metadata", "PixelDistributionAdaptation": "pda_metadata"}
    for name in transform_names():
        if name in {*GROUPS, "Normalize", "FromFloat"}:  # these two go together
            continue
        references = {keys[name]: [pixels(1)]} if name in keys else None
        pipeline = Pipeline(Recipe("one", (Step(name, given.get(name, {})),)), references)
        first, second = (pipeline(image, np.random.default_rng(3)) for _ in range(2))
        assert first.pixels.dtype == np.uint8, name
        np.testing.assert_array_equal(first.pixels, second.pixels, err_msg=name)
        assert [each.transform for each in first.applied] == [name]


def test_what_leaves_no_image_of_eight_bits_is_refused() -> None:
    with pytest.raises(
        InputError, match="recipe floats, image of 64 x 48: it gives no RGB image of 8 bits but float32"
    ):
        Pipeline(Recipe("floats", (Step("Normalize"),)))(pixels(), np.random.default_rng(0))


def test_a_contact_sheet_has_a_row_for_each_image(tmp_path: Path) -> None:
    images = [pixels(0), pixels(1, 64, 40)]
    preview(named_recipe("night"), images, tmp_path / "sheet.png", columns=3, side=50)
    preview([graded(name, 0.5) for name in CORRUPTIONS[:2]], images, tmp_path / "sheet.jpg", side=50)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 4 * 56 + 6
        assert sheet.height > 80
        assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 100
    preview(named_recipe("night"), images, tmp_path / "again.png", columns=3, side=50)
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "sheet.png").read_bytes()
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.width == 3 * 56 + 6


def test_only_one_file_imports_albumentations() -> None:
    package = Path(sys.modules["curate"].__path__[0])
    named = [path.name for path in package.rglob("*.py") if "import albumentations" in path.read_text()]
    named += [path.name for path in package.rglob("*.py") if "from albumentations" in path.read_text()]
    assert set(named) == {"backend.py"}


def test_the_file_in_the_documentation_is_a_recipe(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "recipes.md"
    example = page.read_text().partition("```yaml\n")[2].partition("```")[0]
    recipe = read_recipe(write(tmp_path / "evening.yaml", example))
    assert recipe.name == "evening"
    Pipeline(recipe, {"hm_metadata": [pixels(1)]})(pixels(), np.random.default_rng(0))
    for name in (*NAMED, *CORRUPTIONS):
        assert f"`{name}`" in page.read_text()
