"""The check of synthetic images: where they land, whether labels fit, what is a copy, what looks made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from curate.augment.check.artefacts import beyond_range, empty_share, has_seam, is_emptier, seam_hardness
from curate.augment.check.copies import colour_difference, is_copy
from curate.augment.check.fit import label_fit
from curate.augment.check.landing import Landing, Told, distances, landing, tell_apart
from curate.augment.check.looks import Looks, look
from curate.augment.check.pictures import Picture, Thing
from curate.augment.check.run import check_synthetic, describe_landing
from curate.checks.measures.table import PHOTOMETRIC
from curate.geometry import encode_rle
from curate.imaging import Pixels
from curate.models.encoders.registry import load_encoder
from tests.models.toy_sets import SHAPES, draw

SIDE = 96


def picture_of(shape: str, rng: np.random.Generator) -> Pixels:
    """A shape on noise, as a lens would draw it."""
    drawn = np.asarray(draw(shape, rng, SIDE // 2))
    return np.asarray(cv2.resize(drawn, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))


def darker(pixels: Pixels) -> Pixels:
    return np.asarray(pixels * 0.25, dtype=np.uint8)


def save(path: Path, pixels: Pixels) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path)
    return str(path)


def pictures(
    folder: Path,
    count: int,
    seed: int,
    change: Callable[[Pixels], Pixels] = lambda pixels: pixels,
    group: str | None = None,
) -> list[Picture]:
    """Images of one shape each, which is its label."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        shape = SHAPES[number % 3]
        path = save(folder / f"{number}.png", change(picture_of(shape, rng)))
        found.append(Picture(path, (SIDE, SIDE), f"{group or folder.name}-{number}", (Thing(shape),)))
    return found


def test_darkened_images_land_in_the_dark(tmp_path: Path) -> None:
    parents = pictures(tmp_path / "day", 36, 0)
    target = pictures(tmp_path / "night", 30, 1, darker)
    made = pictures(tmp_path / "made", 36, 0, darker, group="day")
    found = check_synthetic(made, range(36), parents, target, encoder=load_encoder("builtin"))
    assert not found.dropped.any()
    assert found.landing is not None
    assert found.landing.after < found.landing.before
    assert found.landing.covered is not None
    assert found.landing.covered > 0.7
    assert found.landing.covered_low is not None
    assert found.landing.told_before is not None
    assert found.landing.told_after is not None
    assert found.landing.told_before.low > 0.9
    assert found.landing.told_after.low <= 0.5
    assert found.landing.p_value is not None
    assert found.landing.p_value > 0.05
    assert found.fit is not None
    assert found.fit.fits
    assert (found.fit.synthetic.labels, found.fit.parents.labels) == (36, 36)
    text = "\n".join(found.describe())
    assert "cannot be told" in text
    assert "labels fit" in text
    assert found.to_json()["landing"]["floor"] == found.landing.floor


def test_what_changed_nothing_is_dropped_and_what_cannot_be_read_too(tmp_path: Path) -> None:
    parents = pictures(tmp_path / "day", 6, 0)
    target = pictures(tmp_path / "night", 6, 1, darker)
    made = pictures(tmp_path / "made", 6, 0, darker, group="day")
    made[2] = replace(made[2], path=parents[2].path)
    Path(made[4].path).write_bytes(b"no image")
    found = check_synthetic(made, range(6), parents, target, encoder=load_encoder("builtin"))
    assert np.flatnonzero(found.copies).tolist() == [2]
    assert np.flatnonzero(found.unreadable).tolist() == [4]
    assert sum(found.reasons().values()) == 2
    assert found.landing is not None
    assert found.landing.told_after is None  # of six groups nothing can be said
    assert found.landing.p_value is None
    assert found.fit is None


def test_images_that_did_not_change_enough_are_still_told_apart(tmp_path: Path) -> None:
    target = pictures(tmp_path / "night", 30, 1, darker)
    parents = pictures(tmp_path / "day", 30, 0)
    made = pictures(tmp_path / "made", 30, 0, lambda pixels: np.asarray(pixels * 0.7, dtype=np.uint8), group="day")
    found = check_synthetic(made, range(30), parents, target, encoder=load_encoder("builtin"))
    assert found.landing is not None
    assert found.landing.told_after is not None
    assert found.landing.told_after.auc > 0.9
    assert found.landing.p_value is not None
    assert found.landing.p_value < 0.05
    assert set(found.landing.differing) & set(PHOTOMETRIC)


def test_labels_that_no_longer_fit_are_noticed(tmp_path: Path) -> None:
    """Half of the new images are of another shape than their label says."""
    encoder = load_encoder("builtin")
    parents = pictures(tmp_path / "day", 60, 0)
    made = pictures(tmp_path / "made", 60, 0, group="day")
    rng = np.random.default_rng(5)
    for number in range(0, 60, 2):
        save(Path(made[number].path), picture_of(SHAPES[(number + 1) % 3], rng))
    looks = (look(made, encoder), look(parents, encoder))
    found = label_fit(made, parents, looks, encoder)
    assert found is not None
    assert not found.fits
    assert found.excess > 0.15
    assert found.synthetic.expected > 3 * found.parents.expected
    assert label_fit(parents, parents, (looks[1], looks[1]), encoder) is not None
    one_class = [replace(each, things=(Thing("disc"),)) for each in parents]
    assert label_fit(one_class, one_class, (looks[1], looks[1]), encoder) is None


def test_labels_of_boxes_are_judged_by_what_is_in_them(tmp_path: Path) -> None:
    encoder = load_encoder("builtin")
    rng = np.random.default_rng(0)

    def boxed(folder: Path, group: str) -> list[Picture]:
        found = []
        for number in range(30):
            shapes = [SHAPES[number % 3], SHAPES[(number + 1) % 3]]
            pixels = np.concatenate([picture_of(shape, rng) for shape in shapes], axis=1)
            path = save(folder / f"{number}.png", pixels)
            boxes = [(0.0, 0.0, 95.0, 95.0), (97.0, 0.0, 95.0, 95.0)]
            things = tuple(Thing(shape, box) for shape, box in zip(shapes, boxes, strict=True))
            found.append(Picture(path, (SIDE, 2 * SIDE), f"{group}-{number}", things))
        return found

    parents, made = boxed(tmp_path / "a", "a"), boxed(tmp_path / "b", "a")
    empty = Looks(np.zeros((30, 1), np.float32), {}, np.ones(30, np.bool_))
    found = label_fit(made, parents, (empty, empty), encoder)
    assert found is not None
    assert (found.synthetic.labels, found.parents.labels, found.fits) == (60, 60, True)
    outside = Thing("disc", (500.0, 0.0, 10.0, 10.0))
    made[0] = replace(made[0], things=(*made[0].things, outside))
    worse = label_fit(made, parents, (empty, empty), encoder)
    assert worse is not None
    assert (worse.synthetic.impossible, worse.fits) == (1, False)


def test_a_child_of_no_use_is_its_parent_in_the_same_light() -> None:
    rng = np.random.default_rng(3)
    parent = picture_of("square", rng)
    settings = [cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    again = cv2.imdecode(cv2.imencode(".jpg", parent, settings)[1], cv2.IMREAD_COLOR)
    assert is_copy(parent, parent)
    assert is_copy(np.asarray(again, np.uint8), parent)
    noisy = np.clip(parent + rng.normal(0, 25, parent.shape), 0, 255).astype(np.uint8)
    others = [
        darker(parent),
        parent[:, ::-1],
        noisy,
        cv2.GaussianBlur(parent, (0, 0), 2.0),
        np.roll(parent, 12, axis=1),
    ]
    assert [is_copy(np.ascontiguousarray(each), parent) for each in others] == [False] * len(others)
    assert colour_difference(parent, parent) == 0


def test_a_cut_is_a_seam_and_a_soft_edge_is_none() -> None:
    rng = np.random.default_rng(0)
    ground = cv2.GaussianBlur(rng.integers(60, 90, (128, 128, 3)).astype(np.uint8), (0, 0), 1.5)
    rows, columns = np.mgrid[:128, :128]
    mask = np.hypot(rows - 64, columns - 64) < 30
    cut = ground.copy()
    cut[mask] = (200, 190, 180)
    alpha = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.5)[..., None]
    blended = (ground * (1 - alpha) + np.array([200, 190, 180]) * alpha).astype(np.uint8)
    hardness = [seam_hardness(np.asarray(each, np.float64).mean(axis=2), mask) for each in (cut, blended)]
    assert hardness[0] is not None
    assert hardness[1] is not None
    assert hardness[0] > 0.9
    assert hardness[1] < 0.6
    thing = Thing("disc", rle=encode_rle(mask), pasted=True)
    picture = Picture("", (128, 128), "", (thing,))
    assert has_seam(np.asarray(cut), picture)
    assert not has_seam(blended, picture)
    assert not has_seam(np.asarray(cut), replace(picture, things=(replace(thing, pasted=False),)))
    assert seam_hardness(np.full((128, 128), 70.0), mask) is None


def test_areas_without_anything_are_empty() -> None:
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 255, (96, 96, 3)).astype(np.uint8)
    turned = whole.copy()
    turned[:, :30] = 0
    assert empty_share(whole) < 0.02
    assert empty_share(turned) == pytest.approx(30 / 96, abs=0.05)
    assert is_emptier(turned, whole)
    assert not is_emptier(turned, turned)
    picture = picture_of("disc", rng)
    assert not is_emptier(np.asarray(picture * 0.08, np.uint8), picture)  # dark, and not empty


def test_measures_count_beyond_what_target_and_parent_have() -> None:
    def columns(**values: list[float]) -> dict[str, npt.NDArray[np.float64]]:
        names = ("clipped_dark", "clipped_bright", "banding", "edge_width")
        count = len(next(iter(values.values())))
        return {name: np.array(values.get(name, [0.0] * count)) for name in names}

    made = columns(clipped_bright=[0.4, 0.4, 0.02], edge_width=[1.0, 1.0, 4.0])
    own = columns(clipped_bright=[0.39, 0.0, 0.0], edge_width=[1.0, 1.0, 1.0])
    flags = beyond_range(made, own, columns(clipped_bright=[0.0] * 20))
    assert flags["clipped bright"].tolist() == [False, True, False]
    assert flags["blur"].tolist() == [False, False, True]
    flags = beyond_range(made, own, columns(clipped_bright=[0.5] * 20, edge_width=[4.0] * 20))
    assert not any(each.any() for each in flags.values())


def test_a_classifier_tells_what_differs_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 60, 20)).astype(np.float32)
    alone = (np.arange(60), 100 + np.arange(60))
    same = tell_apart(first, second, alone)
    assert same is not None
    assert same.low < 0.5 < same.high
    moved = tell_apart(first + np.eye(20, dtype=np.float32)[0] * 3, second, alone)
    assert moved is not None
    assert moved.low > 0.9
    assert tell_apart(first, second, (np.arange(60) // 10, 100 + np.arange(60))) is None


def test_children_of_one_parent_are_no_evidence_for_one_another() -> None:
    """Ten parents with eight children each: every child is known by its siblings, none by other families."""
    rng = np.random.default_rng(0)
    families = [np.repeat(rng.normal(size=(10, 40)), 8, axis=0).astype(np.float32) for _ in range(2)]
    families = [each + rng.normal(0, 0.05, each.shape).astype(np.float32) for each in families]
    groups = (np.repeat(np.arange(10), 8), 10 + np.repeat(np.arange(10), 8))
    told = tell_apart(families[0], families[1], groups)
    assert told is not None
    assert told.low < 0.5
    by_heart = tell_apart(families[0], families[1], (np.arange(80), 80 + np.arange(80)))
    assert by_heart is not None
    assert by_heart.low > 0.9


def test_distances_are_to_other_groups() -> None:
    target = np.eye(3, dtype=np.float32)
    own = np.array([[1, 0, 0]], np.float32)
    apart = distances(own, target, np.array([9]), np.array([0, 1, 2]))
    assert apart.tolist() == [pytest.approx(2 / 3)]
    assert distances(own, target, np.array([0]), np.array([0, 1, 2])).tolist() == [1.0]
    assert np.isnan(distances(own, target, np.array([0]), np.array([0, 0, 0]))).all()


def test_where_parents_are_as_near_as_the_target_there_is_no_way_to_go() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    measures = {name: rng.normal(size=20) for name in PHOTOMETRIC}
    looks = Looks(vectors, measures, np.ones(20, np.bool_))
    target = Looks(np.tile(np.eye(8, dtype=np.float32)[:1], (20, 1)), measures, np.ones(20, np.bool_))
    near = Looks(target.vectors, measures, looks.read)
    found = landing(looks, near, target, (np.arange(20), 20 + np.arange(20)))
    assert found.before == pytest.approx(0)
    assert found.covered is None


def test_what_fog_has_made_pale_is_not_empty() -> None:
    rng = np.random.default_rng(0)
    scene = np.clip(150 + rng.normal(0, 12, (240, 240, 1)) + np.zeros(3), 0, 255).astype(np.uint8)
    scene[120:] = rng.integers(0, 255, (120, 240, 3))
    pale = scene.copy()
    pale[:120] = np.rint(200 + 0.3 * (scene[:120].astype(np.float64) - 150))
    assert not is_emptier(pale, scene)
    pale[:120] = 200
    assert is_emptier(pale, scene)


NEARER = Landing(0.2, 0.1, 0.08, 0.8, 0.6, 0.9, Told(0.9, 0.8, 0.95), Told(0.55, 0.45, 0.65), 0.3, ())


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (NEARER, "cannot be told from real ones of the target: AUC 0.55"),
        (replace(NEARER, p_value=None), "cannot be told from real ones of the target: AUC 0.55"),
        (replace(NEARER, told_after=Told(0.8, 0.7, 0.9)), "can be told from real ones of the target: AUC 0.80"),
        (
            replace(NEARER, told_before=Told(0.73, 0.45, 0.9), told_after=Told(0.73, 0.45, 0.9)),
            "so few images cannot tell",
        ),
        (
            replace(NEARER, told_before=Told(0.6, 0.52, 0.7), told_after=Told(0.62, 0.49, 0.7)),
            "so few images cannot tell",
        ),
        (replace(NEARER, p_value=0.049), "a test of what was measured (p 0.049) says that they differ: AUC 0.55"),
        (replace(NEARER, after=0.3, covered=-0.8, covered_low=-1.2, covered_high=-0.4), "this is not what was wanted"),
        (
            replace(NEARER, after=0.3, covered=-0.8, covered_low=-1.2, covered_high=0.4),
            "nothing says that they came nearer",
        ),
        (
            replace(NEARER, before=0.07, covered=None, covered_low=None, covered_high=None),
            "are farther from the target",
        ),
    ],
)
def test_where_images_landed_is_said_as_far_as_it_is_known(found: Landing, said: str) -> None:
    text = "\n".join(describe_landing(found))
    assert said in text
    assert ("farther" in text) == (found.after > found.before)
    assert ("cannot be told from" in text) == said.startswith("cannot") or "farther" in text
