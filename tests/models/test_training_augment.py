"""Random changes: boxes and masks go where their pixels go, nothing is lost or blended, and the same state repeats them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import InputError, UsageError
from curate.models.training.augment import FILL, Augmentation, Changed

pytest.importorskip("albumentations")

THINGS = 5


def scene(rng: np.random.Generator, height: int, width: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """Flat rectangles of colours of their own, which do not overlap, on black; and their boxes."""
    pixels = np.zeros((height, width, 3), np.uint8)
    boxes = []
    lane = width // THINGS
    for number in range(THINGS):
        w, h = int(rng.integers(6, lane)), int(rng.integers(6, height))
        x, y = number * lane + int(rng.integers(0, lane - w + 1)), int(rng.integers(0, height - h + 1))
        pixels[y : y + h, x : x + w] = colour(number)
        boxes.append([x, y, w, h])
    return pixels, np.array(boxes, dtype=np.float64)


def colour(number: int) -> tuple[int, int, int]:
    return (255 if number & 1 else 0, 255 if number & 2 else 0, 255 if number & 4 else 0) if number else (90, 90, 200)


def numbers(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
    """Which thing is at each pixel; -1 where none."""
    found = np.full(pixels.shape[:2], -1, np.int16)
    for number in range(THINGS):
        found[(pixels == colour(number)).all(axis=2)] = number
    return found


def only_moves(augmentation: Augmentation, monkeypatch: pytest.MonkeyPatch) -> Augmentation:
    """The same without changes of light and detail."""
    from curate.models.training import augment

    every = augment._steps
    monkeypatch.setattr(augment, "_steps", lambda which: every(which)[:-2])
    monkeypatch.setattr(augment, "_made", {})
    return augmentation


def tightest(found: npt.NDArray[np.int16], number: int) -> npt.NDArray[np.float64]:
    rows, columns = np.nonzero(found == number)
    low = np.array([columns.min(), rows.min()])
    high = np.array([columns.max() + 1, rows.max() + 1])
    return np.concatenate([low, high - low]).astype(np.float64)


@pytest.mark.parametrize("flips", ["none", "horizontal", "any"])
def test_flips_and_quarter_turns_move_pixels_masks_and_boxes_exactly_alike(
    flips: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from curate.models.training import augment

    every = augment._steps
    monkeypatch.setattr(augment, "_steps", lambda which: every(which)[:-3])
    monkeypatch.setattr(augment, "_made", {})

    def turn(quarters: int, is_mirrored: bool) -> Callable[[Any], Any]:
        return lambda image: np.rot90(image[:, ::-1] if is_mirrored else image, quarters)

    every_way = {
        "none": [turn(0, False)],
        "horizontal": [turn(0, False), turn(0, True)],
        "any": [turn(quarters, is_mirrored) for quarters in range(4) for is_mirrored in (False, True)],
    }
    ways = every_way[flips]
    seen = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        pixels, boxes = scene(rng, 40, 60)
        labels = numbers(pixels)
        changed = Augmentation(flips=flips, mask_fill=-1)(pixels, rng, boxes=boxes, masks=[labels, labels >= 0])
        which = [k for k, way in enumerate(ways) if np.array_equal(way(pixels), changed.pixels)]
        assert len(which) == 1
        seen.add(which[0])
        np.testing.assert_array_equal(changed.masks[0], ways[which[0]](labels))
        np.testing.assert_array_equal(changed.masks[1], ways[which[0]](labels >= 0))
        assert changed.masks[1].dtype == bool
        np.testing.assert_array_equal(changed.rows, np.arange(THINGS))
        expected = [tightest(changed.masks[0], number) for number in range(THINGS)]
        np.testing.assert_allclose(changed.boxes, expected, atol=1e-4)
    assert len(seen) == len(ways)


@given(seed=st.integers(0, 10_000), strength=st.floats(0.01, 1), height=st.integers(24, 90), width=st.integers(60, 120))
@settings(deadline=None, max_examples=40)
def test_scale_and_shift_keep_boxes_and_masks_within_a_pixel(
    seed: int, strength: float, height: int, width: int
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        change = only_moves(Augmentation(strength=strength, turns=False, mask_fill=-1), monkeypatch)
        rng = np.random.default_rng(seed)
        pixels, boxes = scene(rng, height, width)
        changed = change(pixels, rng, boxes=boxes, masks=[numbers(pixels)])
        labels = changed.masks[0]
        assert labels.dtype == np.int16
        assert labels.shape == changed.pixels.shape[:2] == (height, width)
        for row, box in zip(changed.rows, changed.boxes, strict=True):
            # What is thinner than a pixel may fall between the pixels of a mask.
            if (labels == row).any():
                there = tightest(labels, int(row))
                np.testing.assert_allclose(box[:2], there[:2], atol=1.01)
                np.testing.assert_allclose(box[:2] + box[2:], there[:2] + there[2:], atol=1.01)
            assert (box[:2] >= -1e-3).all()
            assert (box[:2] + box[2:] <= [width + 1e-3, height + 1e-3]).all()
        # A dropped box is one of which little is left.
        for number in set(range(THINGS)) - set(changed.rows.tolist()):
            left = (labels == number).sum() / ((1 + 0.4 * strength) ** 2 * boxes[number, 2:].prod())  # at least
            assert left < 0.25 + 0.1 or (labels == number).sum() < 20


@pytest.mark.parametrize("turns", [False, True])
def test_masks_follow_the_pixels_where_images_turn(turns: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    change = only_moves(Augmentation(strength=1, turns=turns, mask_fill=-1), monkeypatch)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        pixels, _ = scene(rng, 80, 100)
        changed = change(pixels, rng, masks=[numbers(pixels)])
        # Inside a thing, away from edges, where the picture is not blended, both say the same.
        sure = numbers(changed.pixels)
        there = sure >= 0
        assert there.mean() > 0.02
        assert (sure[there] == changed.masks[0][there]).mean() > 0.99
        outside = (changed.pixels == FILL).all(axis=2)
        assert (changed.masks[0][outside] == -1).all()


def test_the_same_state_gives_the_same_change_in_any_thread_and_process() -> None:
    change = Augmentation(strength=0.7)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)

    def changed(seed: int) -> Changed:
        return change(pixels, np.random.default_rng(seed), boxes=[[10, 10, 20, 20]])

    alone = [changed(seed) for seed in range(16)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(changed, range(16)))
    copy = pickle.loads(pickle.dumps(change))
    again = [copy(pixels, np.random.default_rng(seed), boxes=[[10, 10, 20, 20]]) for seed in range(16)]
    for one, two, three in zip(alone, together, again, strict=True):
        np.testing.assert_array_equal(one.pixels, two.pixels)
        np.testing.assert_array_equal(one.boxes, two.boxes)
        np.testing.assert_array_equal(one.pixels, three.pixels)
    assert len({one.pixels.tobytes() for one in alone}) >= 14


def test_steps_are_independent_of_one_another() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    masks = np.arange(320, dtype=np.int16).reshape(16, 20)
    change = Augmentation(strength=0.5, mask_fill=-1)
    changed = [change(pixels, np.random.default_rng(seed), masks=[masks]) for seed in range(400)]
    still = [np.array_equal(each.masks[0], masks) for each in changed]
    mirrored = [np.array_equal(each.masks[0], masks[:, ::-1]) for each in changed]
    relit = [not np.array_equal(each.pixels, pixels) for each, is_still in zip(changed, still, strict=True) if is_still]
    # Half are mirrored, a fifth are not moved, four fifths are relit; each has to do with none of the others.
    assert 0.04 < np.mean(still) < 0.17
    assert 0.04 < np.mean(mirrored) < 0.17
    assert 0.6 < np.mean(relit) < 0.98


def test_strength_0_changes_nothing_but_uses_the_state_alike() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    pixels.flags.writeable = False
    states = []
    for strength in (0.0, 0.5):
        rng = np.random.default_rng(0)
        changed = Augmentation(strength=strength)(pixels, rng, boxes=[[40, 0, 5, 5], [-5, 2, 10, 10], [3, 3, 0, 4]])
        states.append(rng.integers(2**31))
        if not strength:
            np.testing.assert_array_equal(changed.pixels, pixels)
            np.testing.assert_array_equal(changed.boxes, [[0, 2, 5, 10]])  # the others have nothing on the image
            np.testing.assert_array_equal(changed.rows, [1])
    assert states[0] == states[1]


def test_more_strength_changes_more() -> None:
    pixels = np.full((32, 32, 3), 120, np.uint8)
    pixels[8:24, 8:24] = (200, 60, 30)

    def mean_change(strength: float) -> float:
        change = Augmentation(strength=strength, flips="none")
        runs = [change(pixels, np.random.default_rng(seed)).pixels.astype(int) for seed in range(30)]
        return float(np.mean([np.abs(run - pixels).mean() for run in runs]))

    changes = [mean_change(strength) for strength in (0.0, 0.1, 0.4, 1.0)]
    assert changes == sorted(changes)
    assert changes[0] == 0 < changes[1]


def test_a_recipe_takes_the_place_of_the_strength(tmp_path: Path) -> None:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations

    recipe = tmp_path / "recipe.json"
    albumentations.save(albumentations.Compose([albumentations.VerticalFlip(p=1)]), recipe)
    pixels, boxes = scene(np.random.default_rng(0), 40, 60)
    changed = Augmentation.of(str(recipe))(pixels, np.random.default_rng(0), boxes=boxes, masks=[numbers(pixels)])
    np.testing.assert_array_equal(changed.pixels, pixels[::-1])
    np.testing.assert_array_equal(changed.masks[0], numbers(pixels)[::-1])
    np.testing.assert_allclose(changed.boxes[:, 1], 40 - boxes[:, 1] - boxes[:, 3], atol=1e-4)

    colours = tmp_path / "colours.yaml"
    albumentations.save(albumentations.InvertImg(p=1), colours, data_format="yaml")
    changed = Augmentation.of(str(colours))(pixels, np.random.default_rng(0), boxes=boxes)
    np.testing.assert_array_equal(changed.pixels, 255 - pixels)
    np.testing.assert_allclose(changed.boxes, boxes, atol=1e-4)


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"transform": {"__class_fullname__": "os.system"}}', '{"transform": 3}']
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"recipe\.json"):
        Augmentation.of(str(path))
    with pytest.raises(InputError, match="strength between 0 and 1"):
        Augmentation.of(str(tmp_path / "absent.json"))


@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan")])
def test_a_strength_beyond_the_scale_is_refused(strength: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        Augmentation.of(strength)


def test_importing_looks_for_no_newer_version() -> None:
    code = (
        "import socket, numpy as np\n"
        "def refuse(*a, **k): raise SystemExit('network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from curate.models.training.augment import Augmentation\n"
        "Augmentation()(np.zeros((8, 8, 3), np.uint8), np.random.default_rng(0))\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=Path(__file__).parents[2])
