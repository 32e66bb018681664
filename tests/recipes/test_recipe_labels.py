"""Labels go where the pixels go: every kind of shape, over random recipes, against the pixels that the recipe itself moved."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, binary_erosion, map_coordinates

from curate.errors import InputError
from curate.geometry import decode_rle, encode_rle, rotated_box_corners
from curate.recipes import Pipeline, Recipe, Shape, Step
from curate.recipes.labels import move, move_boxes
from curate.recipes.warps import Field

Mask = npt.NDArray[np.bool_]
HEIGHT, WIDTH = 90, 120

RIGID = [
    Step("HorizontalFlip"),
    Step("VerticalFlip"),
    Step("Transpose"),
    Step("D4"),
    Step("RandomRotate90"),
]
CUTS = [
    Step("Crop", {"x_min": 11, "y_min": 7, "x_max": 70, "y_max": 66, "pad_if_needed": True}),
    Step("CenterCrop", {"height": 60, "width": 70, "pad_if_needed": True}),
    Step("RandomCrop", {"height": 50, "width": 55, "pad_if_needed": True}),
    Step("RandomCropFromBorders", {"crop_left": 0.2, "crop_right": 0.2, "crop_top": 0.3, "crop_bottom": 0.1}),
    Step("Pad", {"padding": [5, 3, 11, 2]}),
    Step("PadIfNeeded", {"min_height": 130, "min_width": 101, "position": "random"}),
    Step("CropAndPad", {"percent": [-0.2, 0.2], "keep_size": False}),
]
LINES = [
    Step("Affine", {"rotate": [-60, 60], "scale": [0.7, 1.4], "translate_percent": [-0.2, 0.2], "keep_ratio": True}),
    Step("Affine", {"shear": [-20, 20], "scale": {"x": [0.7, 1.3], "y": [0.8, 1.2]}}),
    Step("Affine", {"rotate": [-180, 180], "fit_output": True}),
    Step("ShiftScaleRotate", {"shift_limit": [-0.1, 0.1], "scale_limit": [-0.2, 0.2], "rotate_limit": [-40, 40]}),
    Step("Rotate", {"limit": [-180, 180]}),
    Step("Rotate", {"limit": [-40, 40], "crop_border": True}),
    Step("SafeRotate", {"limit": [-90, 90]}),
    Step("Perspective", {"scale": [0.05, 0.15]}),
    Step("Perspective", {"scale": [0.05, 0.15], "keep_size": False}),
    Step("Perspective", {"scale": [0.05, 0.1], "fit_output": True}),
    Step("Resize", {"height": 71, "width": 133}),
    Step("RandomScale", {"scale_limit": [-0.3, 0.5]}),
    Step("LongestMaxSize", {"max_size": 100}),
    Step("SmallestMaxSize", {"max_size": 100}),
    Step("RandomResizedCrop", {"size": [80, 77], "scale": [0.3, 1.0]}),
    Step("RandomSizedCrop", {"min_max_height": [25, 30], "size": [70, 77]}),
    Step("CropAndPad", {"px": [-15, 15]}),
]
BENT = [
    Step("ElasticTransform", {"alpha": 40, "sigma": 7}),
    Step("GridDistortion", {"distort_limit": [-0.25, 0.25]}),
    Step("OpticalDistortion", {"distort_limit": [-0.3, 0.3]}),
    Step("OpticalDistortion", {"distort_limit": [-0.3, 0.3], "mode": "fisheye"}),
    Step("ThinPlateSpline", {"scale_range": [0.1, 0.3]}),
    Step("RollingShutter", {"skew_range": [-0.2, 0.2], "wobble_range": [0.0, 0.02]}),
]
EVERY = [*RIGID, *CUTS, *LINES, *BENT]

recipes = st.lists(st.sampled_from(EVERY), min_size=1, max_size=3).map(lambda steps: Recipe("moves", tuple(steps)))
seeds = st.integers(0, 2**32 - 1)


def blob(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """A star-shaped outline on the image, not thin anywhere; shape (n, 2)."""
    angles = (np.arange(12) + rng.uniform(-0.2, 0.2, 12)) * np.pi / 6
    radius = rng.uniform(16, 24, 12)
    centre = rng.uniform([30, 30], [WIDTH - 30, HEIGHT - 30])
    return np.asarray(centre + np.column_stack([np.cos(angles), np.sin(angles)]) * radius[:, None])


def inside(polygons: Any, height: int, width: int) -> Mask:
    """The pixels whose centres are inside of one of some outlines, by counting crossings."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    found = np.zeros((height, width), dtype=bool)
    for polygon in polygons:
        points = np.reshape(polygon, (-1, 2))
        crossed = np.zeros((height, width), dtype=bool)
        for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if y0 != y1:
                crossed ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
        found |= crossed
    return found


def drawn(outline: npt.NDArray[np.float64]) -> Mask:
    return inside([outline], HEIGHT, WIDTH)


def painted(mask: Mask) -> npt.NDArray[np.uint8]:
    return np.repeat(mask.astype(np.uint8)[..., None] * 255, 3, axis=2)


def only_border_differs(found: Mask, truth: Mask, wide: int = 1) -> bool:
    """Whether two masks differ in nothing but pixels at the truth's border."""
    around = np.ones((3, 3), dtype=bool)
    grown = binary_dilation(truth, around, iterations=wide)
    shrunk = binary_erosion(truth, around, iterations=wide)  # the edge of the image is a border too
    return not (found & ~grown).any() and not (shrunk & ~found).any()


def folded(pipeline: Pipeline, pixels: Any, seed: int) -> bool:
    warps = pipeline.draw(pixels, np.random.default_rng(seed)).warps
    return any(isinstance(warp, Field) and warp.folds for warp in warps)


def box_around(mask: Mask) -> npt.NDArray[np.float64]:
    rows, columns = np.nonzero(mask)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=np.float64)


def corners(bbox: Any) -> npt.NDArray[np.float64]:
    x, y, w, h = bbox
    return np.array([x, y, x + w, y + h])


def corners_to_box(found: npt.NDArray[np.float64]) -> list[float]:
    return [*found[:2].tolist(), *(found[2:] - found[:2]).tolist()]


@given(recipe=recipes, seed=seeds)
@settings(deadline=None, max_examples=150)
def test_masks_outlines_and_boxes_are_where_the_pixels_are(recipe: Recipe, seed: int) -> None:
    outline = blob(np.random.default_rng(seed))
    mask = drawn(outline)
    shapes = [
        Shape("mask", rle=encode_rle(mask), bbox=corners_to_box(box_around(mask))),
        Shape("polygon", polygons=[outline.ravel().tolist()], bbox=corners_to_box(box_around(mask))),
    ]
    pipeline = Pipeline(recipe)
    assume(not folded(pipeline, painted(mask), seed))
    applied = pipeline(painted(mask), np.random.default_rng(seed), shapes=shapes)
    truth = applied.pixels[..., 0] > 127
    by_mask, by_outline = applied.shapes
    if truth.sum() > 60:
        assert by_mask is not None
        assert by_mask.rle is not None
        found = decode_rle(by_mask.rle, truth.shape).astype(bool)
        # A pixel of the first image is that large in the last one, and every step blends one more.
        zoom = np.sqrt(truth.sum() / (applied.visible[0] * mask.sum()))
        wide = int(np.ceil(max(zoom, 1.0) * len(recipe.steps)))
        # Its grid's lines are in the map twice: what is on one is on two rows.
        wide += any(step.transform == "GridDistortion" for step in recipe.steps)
        assert only_border_differs(found, truth, wide)
        assert by_mask.bbox is not None
        np.testing.assert_array_equal(corners(by_mask.bbox), box_around(found))
        assert by_outline is not None
        assert only_border_differs(inside(by_outline.polygons, *truth.shape), truth, wide)
        np.testing.assert_allclose(corners(by_outline.bbox), box_around(truth), atol=2 * wide)  # sharp corners
        # One counts pixels before, the other area after, which a change of perspective magnifies unevenly.
        assert abs(applied.visible[0] - applied.visible[1]) < 0.25
    elif not (applied.pixels > 20).any():
        # Outlines may still have a sliver on the image.
        assert by_mask is None or decode_rle(by_mask.rle or "", truth.shape).sum() < 30
        assert applied.visible[1] < 0.05


@given(steps=st.lists(st.sampled_from([*RIGID, *CUTS]), min_size=1, max_size=4), seed=seeds)
@settings(deadline=None, max_examples=80)
def test_flips_turns_crops_and_padding_are_exact_to_the_pixel(steps: list[Step], seed: int) -> None:
    mask = drawn(blob(np.random.default_rng(seed)))
    rows, columns = np.nonzero(mask)
    box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    filled = np.zeros_like(mask)
    filled[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = True
    pixels = np.stack([mask, filled, mask], axis=-1).astype(np.uint8) * 255
    bbox = [float(side) for side in box]
    shapes = [Shape("mask", rle=encode_rle(mask), bbox=bbox), Shape("box", bbox=bbox)]
    applied = Pipeline(Recipe("moves", tuple(steps)))(pixels, np.random.default_rng(seed), shapes=shapes)
    for shape, truth in zip(applied.shapes, np.moveaxis(applied.pixels > 127, 2, 0), strict=False):
        if not truth.any():
            assert shape is None
            continue
        assert shape is not None
        np.testing.assert_allclose(corners(shape.bbox), box_around(truth), atol=1e-9)
        if shape.rle is not None:
            np.testing.assert_array_equal(decode_rle(shape.rle, truth.shape).astype(bool), truth)


@given(steps=st.lists(st.sampled_from([*RIGID, LINES[0], LINES[4]]), min_size=1, max_size=4), seed=seeds)
@settings(deadline=None, max_examples=80)
def test_rotated_boxes_stay_right_under_turns_flips_and_scale(steps: list[Step], seed: int) -> None:
    rng = np.random.default_rng(seed)
    box = np.array([WIDTH / 2, HEIGHT / 2, rng.uniform(16, 24), rng.uniform(12, 28), rng.uniform(-180, 180)])
    before = rotated_box_corners(box)[0]
    mask = drawn(before)
    around = [*before.min(axis=0), *np.ptp(before, axis=0)]
    applied = Pipeline(Recipe("turns", tuple(steps)))(
        painted(mask), np.random.default_rng(seed), [Shape("rotated_box", rotated_box=box.tolist(), bbox=around)]
    )
    truth, (shape,) = applied.pixels[..., 0] > 127, applied.shapes
    if applied.visible[0] < 1:
        return
    assert shape is not None
    assert shape.rotated_box is not None
    outline = rotated_box_corners(shape.rotated_box)[0]
    assert only_border_differs(inside([outline], *truth.shape), truth, len(steps))
    # Its sides are as they were, times the scale: width stays width.
    scale = np.array(shape.rotated_box[2:4]) / box[2:4]
    assert scale[0] == pytest.approx(scale[1], rel=1e-6)
    np.testing.assert_allclose(corners(shape.bbox), [*outline.min(axis=0), *outline.max(axis=0)], atol=1e-6)


def test_a_rotated_box_says_in_which_direction_its_width_is() -> None:
    shape = Shape("rotated_box", rotated_box=[40.0, 50.0, 30.0, 10.0, 20.0])
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)

    def turned(step: Step) -> Any:
        found = Pipeline(Recipe("turn", (step,)))(pixels, np.random.default_rng(0), [shape]).shapes[0]
        assert found is not None
        return found.rotated_box

    np.testing.assert_allclose(turned(Step("HorizontalFlip")), [WIDTH - 40, 50, 30, 10, 160])
    np.testing.assert_allclose(turned(Step("VerticalFlip")), [40, HEIGHT - 50, 30, 10, -20], atol=1e-9)
    np.testing.assert_allclose(turned(Step("Transpose")), [50, 40, 30, 10, 70])
    # albumentations turns counterclockwise.
    np.testing.assert_allclose(turned(Step("Rotate", {"limit": [30, 30]}))[2:], [30, 10, -10])
    cut = turned(Step("Crop", {"x_min": 40, "y_min": 0, "x_max": 100, "y_max": 90}))
    assert cut[4] == pytest.approx(20)
    assert cut[2] < 20


@pytest.mark.parametrize("sides", [[30.0, 10.0], [10.0, 30.0]])
@pytest.mark.parametrize("slant", [-40, -25, 25, 40])
@pytest.mark.parametrize("mirrored", [(), (Step("HorizontalFlip"),)])
def test_a_slanted_rotated_box_still_looks_the_same_way(
    sides: list[float], slant: float, mirrored: tuple[Step, ...]
) -> None:
    """It is no rectangle any more; whichever side the new one lies along."""
    steps = (*mirrored, Step("Affine", {"shear": {"x": [slant, slant], "y": [0, 0]}}))
    shape = Shape("rotated_box", rotated_box=[60.0, 45.0, *sides, 20.0])
    found = Pipeline(Recipe("slant", steps))(np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.random.default_rng(0), [shape])
    assert found.shapes[0] is not None
    assert found.shapes[0].rotated_box is not None
    assert np.cos(np.deg2rad(found.shapes[0].rotated_box[4] - (160 if mirrored else 20))) > 0.5


def test_long_edges_bend_with_the_image() -> None:
    outline = [20.0, 15, 100, 15, 100, 75, 20, 75]
    mask = inside([outline], HEIGHT, WIDTH)
    sway = Step("RollingShutter", {"skew_range": [0, 0], "wobble_range": [0.05, 0.05], "wobble_periods": [2, 2]})
    applied = Pipeline(Recipe("sway", (sway,)))(
        painted(mask), np.random.default_rng(0), [Shape("polygon", polygons=[outline])]
    )
    assert applied.shapes[0] is not None
    found = applied.shapes[0].polygons
    assert found is not None
    truth = applied.pixels[..., 0] > 127
    assert (inside(found, HEIGHT, WIDTH) != truth).mean() < 0.003
    assert 10 < len(found[0]) / 2 < 70  # the level edges need no more points


def missed(recipe: Recipe, seed: int) -> npt.NDArray[np.float64]:
    """How far moved keypoints are from where their pixels are, in pixels of the first image; shape (n, 2).

    Every pixel says where it was: its column in red, its row in green, and that it is any in blue.
    """
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    pixels = np.stack([2 * x, 2 * y, np.full_like(x, 255)], axis=-1).astype(np.uint8)
    points = np.random.default_rng(seed).uniform(2, [WIDTH - 2, HEIGHT - 2], (12, 2))
    shape = Shape("keypoints", keypoints=np.column_stack([points, np.full(12, 2.0)]).ravel().tolist())
    pipeline = Pipeline(recipe)
    applied = pipeline(pixels, np.random.default_rng(seed), shapes=[shape])
    (found,) = applied.shapes
    if found is None or folded(pipeline, pixels, seed):
        assert found is not None or applied.visible[0] == 0
        return np.zeros((0, 2))
    moved = np.reshape(np.array(found.keypoints), (-1, 3))
    stays = moved[:, 2] > 0
    assert (moved[~stays] == 0).all()
    height, width = applied.pixels.shape[:2]
    assert ((moved[:, :2] >= 0) & (moved[:, :2] <= [width, height])).all()
    at = moved[stays][:, 1::-1].T - 0.5
    values = [
        map_coordinates(channel, at, order=1, mode="nearest") for channel in np.moveaxis(applied.pixels / 1.0, 2, 0)
    ]
    whole = values[2] == 255  # not blended with what no image covers
    return np.asarray((np.column_stack(values[:2]) / 2 + 0.5 - points[stays])[whole])


@given(recipe=recipes, seed=seeds)
@settings(deadline=None, max_examples=100)
def test_keypoints_are_where_their_pixels_are(recipe: Recipe, seed: int) -> None:
    assert np.abs(missed(recipe, seed)).max(initial=0) < 1.2


@pytest.mark.parametrize("step", EVERY, ids=lambda step: f"{step.transform} {dict(step.params)}")
def test_every_step_alone_moves_points_to_a_part_of_a_pixel(step: Step) -> None:
    """Half a pixel, or a row for a column, would be seen; values of eight bits allow no less than a quarter."""
    every = [missed(Recipe("one", (step,)), seed) for seed in range(25)]
    off = np.concatenate(every)
    assert len(off) > 20
    assert np.abs(off).max() < 0.6
    assert np.abs(off.mean(axis=0)).max() < 0.15


def test_what_one_step_cuts_off_does_not_come_back() -> None:
    steps = (
        Step("Crop", {"x_min": 0, "y_min": 0, "x_max": 60, "y_max": 90}),
        Step("Pad", {"padding": [0, 0, 60, 0]}),
    )
    shapes = [
        Shape("box", bbox=[50.0, 10.0, 40.0, 20.0]),
        Shape("box", bbox=[70.0, 10.0, 40.0, 20.0]),
        Shape("polygon", polygons=[[50.0, 10, 90, 10, 90, 30, 50, 30], [100.0, 50, 110, 50, 110, 60]]),
        Shape("keypoints", bbox=[50.0, 10, 40, 20], keypoints=[55.0, 15, 2, 80, 15, 2, 0, 0, 0]),
        Shape("polyline", polygons=[[20.0, 40, 100, 40]]),
        Shape("label"),
    ]
    applied = Pipeline(Recipe("cut", steps))(np.zeros((90, 120, 3), np.uint8), np.random.default_rng(0), shapes=shapes)
    box, gone, outline, person, line, label = applied.shapes
    assert box is not None
    assert box.bbox == [50, 10, 10, 20]
    assert gone is None
    assert outline is not None
    assert outline.bbox == [50, 10, 10, 20]
    assert outline.polygons is not None
    assert len(outline.polygons) == 1
    assert person is not None
    assert person.keypoints == [55, 15, 2, 0, 0, 0, 0, 0, 0]
    assert line is not None
    assert line.polygons == [[20, 40, 60, 40]]
    assert label is shapes[-1]
    np.testing.assert_allclose(applied.visible, [0.25, 0, 200 / 850, 0.25, 0.5, 1])


def test_what_is_gone_is_gone_in_all_of_it() -> None:
    mask = np.zeros((90, 120), bool)
    mask[10:30, 70:90] = True
    shape = Shape(
        "mask",
        bbox=[70.0, 10.0, 20.0, 20.0],
        polygons=[[70.0, 10, 90, 10, 90, 30, 70, 30]],
        rle=encode_rle(mask),
        keypoints=[50.0, 15, 2],  # on the part that stays
    )
    crop = Recipe("crop", (Step("Crop", {"x_min": 0, "y_min": 0, "x_max": 60, "y_max": 90}),))
    applied = Pipeline(crop)(np.zeros((90, 120, 3), np.uint8), np.random.default_rng(0), shapes=[shape])
    assert applied.shapes == (None,)


def test_less_than_enough_is_gone() -> None:
    crop = Recipe("crop", (Step("Crop", {"x_min": 0, "y_min": 0, "x_max": 60, "y_max": 90}),))
    shapes = [Shape("box", bbox=[50.0, 10.0, 40.0, 20.0]), Shape("box", bbox=[40.0, 10.0, 40.0, 20.0])]
    applied = Pipeline(crop, min_visible=0.4)(np.zeros((90, 120, 3), np.uint8), np.random.default_rng(0), shapes)
    assert applied.shapes[0] is None
    assert applied.shapes[1] is not None


def test_left_and_right_change_places_only_in_mirror_images_and_where_a_skeleton_says_so() -> None:
    points = [30.0, 20, 2, 60, 20, 1, 0, 0, 0]
    told = Shape("keypoints", keypoints=points, mirrored=[1, 0, 2])
    untold = Shape("keypoints", keypoints=points)
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)

    def moved(*steps: Step) -> list[Any]:
        found = Pipeline(Recipe("flip", steps))(pixels, np.random.default_rng(0), [told, untold]).shapes
        return [None if shape is None else shape.keypoints for shape in found]

    assert moved(Step("HorizontalFlip")) == [[60, 20, 1, 90, 20, 2, 0, 0, 0], [90, 20, 2, 60, 20, 1, 0, 0, 0]]
    assert moved(Step("HorizontalFlip"), Step("VerticalFlip"))[0] == [90, 70, 2, 60, 70, 1, 0, 0, 0]


def test_colours_leave_labels_bit_for_bit() -> None:
    shapes = [
        Shape("box", bbox=[1 / 3, 2.5, 10.1, 5.7]),
        Shape("rotated_box", rotated_box=[20.0, 20.0, 11.0, 5.0, 370.0]),
        Shape("mask", rle=encode_rle(np.eye(HEIGHT, WIDTH) > 0)),
    ]
    recipe = Recipe("dim", (Step("Exposure", {"ev_range": [-1, -1]}), Step("CoarseDropout")))
    applied = Pipeline(recipe)(np.full((HEIGHT, WIDTH, 3), 90, np.uint8), np.random.default_rng(0), shapes)
    assert all(before is after for before, after in zip(shapes, applied.shapes, strict=True))
    assert applied.visible.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (
            Shape("box", bbox=[100.0, 10.0, 40.0, 5.0]),
            r"annotation 1 \(box\) on an image of 120 x 90: it leaves the image",
        ),
        (Shape("polygon", polygons=[[-4.0, 0, 10, 0, 10, 10]]), r"it leaves the image, at \(-4, 0\)"),
        (Shape("keypoints", keypoints=[10.0, 95, 2]), "it leaves the image"),
        (Shape("box", bbox=[float("nan"), 10.0, 40.0, 5.0]), "not finite"),
        (Shape("mask", rle=encode_rle(np.ones((3, 3)))), "mask is of another size"),
        (Shape("polygon", polygons=[[1.0, 2, 3, 4, 5]]), "no partner"),
        (Shape("keypoints", keypoints=[1.0, 2, 2, 4]), "no partner"),
        (Shape("keypoints", keypoints=[1.0, 2, 2, 4, 5, 2], mirrored=[1, 1]), "2 keypoints .* each of them once"),
    ],
)
def test_labels_that_leave_the_image_are_refused(shape: Shape, said: str) -> None:
    pixels, fine = np.zeros((HEIGHT, WIDTH, 3), np.uint8), Shape("box", bbox=[0.0, 0.0, 5.0, 5.0])
    for step in (Step("HorizontalFlip"), Step("InvertImg")):
        with pytest.raises(InputError, match=said):
            Pipeline(Recipe("any", (step,)))(pixels, np.random.default_rng(0), [fine, shape])


def test_labels_that_leave_the_image_are_cut_where_that_is_asked_for() -> None:
    pixels, rounded = np.zeros((HEIGHT, WIDTH, 3), np.uint8), Shape("box", bbox=[-0.5, 0.0, 5.0, 5.0])
    outside = Shape("box", bbox=[100.0, 10.0, 40.0, 5.0])
    flip = Recipe("flip", (Step("HorizontalFlip"),))
    found = Pipeline(flip, outside="cut")(pixels, np.random.default_rng(0), [outside]).shapes[0]
    assert found is not None
    assert found.bbox == [0, 10, 20, 5]
    found = Pipeline(flip)(pixels, np.random.default_rng(0), [rounded]).shapes[0]
    assert found is not None
    assert found.bbox == [115.5, 0, 4.5, 5]


def test_borders_that_repeat_the_image_are_refused_where_there_are_labels() -> None:
    pixels, box = np.zeros((HEIGHT, WIDTH, 3), np.uint8), Shape("box", bbox=[0.0, 0.0, 5.0, 5.0])
    recipe = Recipe("mirror", (Step("Affine", {"rotate": [20, 20], "border_mode": 4}),))
    Pipeline(recipe)(pixels, np.random.default_rng(0))
    with pytest.raises(InputError, match="Affine fills the border with things shown twice"):
        Pipeline(recipe)(pixels, np.random.default_rng(0), [box])


@given(seed=seeds)
@settings(deadline=None, max_examples=30)
def test_crops_that_ask_for_boxes_keep_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = [[*rng.uniform(0, [80, 60]), *rng.uniform(20, 30, 2)] for _ in range(3)]
    shapes = [Shape("box", bbox=box) for box in boxes]
    recipe = Recipe("safe", (Step("HorizontalFlip"), Step("RandomSizedBBoxSafeCrop", {"height": 64, "width": 64})))
    applied = Pipeline(recipe)(np.zeros((HEIGHT, WIDTH, 3), np.uint8), rng, shapes=shapes)
    assert applied.pixels.shape == (64, 64, 3)
    assert (applied.visible > 0.9).all()  # albumentations cuts at whole pixels


def test_boxes_alone_move_as_shapes_do() -> None:
    recipe = Recipe("moves", (LINES[0], BENT[0]))
    pixels, boxes = np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.array([[10.0, 10, 30, 20], [60, 40, 50, 45]])
    drawing = Pipeline(recipe).draw(pixels, np.random.default_rng(3))
    moved, visible = move_boxes(boxes, drawing.warps)
    shapes = move([Shape("box", bbox=box.tolist()) for box in boxes], drawing.warps)
    np.testing.assert_allclose(visible, shapes.visible)
    found = [shape.bbox if shape and shape.bbox else [0.0] * 4 for shape in shapes.shapes]
    np.testing.assert_allclose(moved, np.array(found))
