"""Rendering: the same on every run, boxes tight around masks, every class and set-up there, and light that does as asked."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from curate.demo import NONE, PartsSet, contact_sheet, make_parts
from curate.demo.defects import sample_defect
from curate.demo.parts import PART_TYPES, sample_part
from curate.demo.pictures import decode_mask
from curate.demo.render import CAMERAS, LABELS, MIN_VISIBLE, PART_LABELS, plan_shots, render
from curate.demo.shading import LIGHTINGS, sample_lighting
from curate.demo.sprites import Finish, Pose, Sprite, draw_part
from curate.demo.surfaces import SURFACES
from curate.errors import UsageError
from curate.imaging import load_pixels

GREY_FINISH = Finish("steel", "steel", offset=7.0, grain=0.05, rust=0.0, grime=0.03)


def fingerprint(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def drawn(label: str, *, seed: int = 0, scale: float = 40.0, lean: tuple[float, float] = (0.0, 0.0)) -> Sprite:
    rng = np.random.default_rng(seed)
    part = sample_part(label, rng)
    pose = Pose(100.0, 100.0, scale, 0.3, 0.0, 0.0, lean)
    return draw_part(part, (), pose, GREY_FINISH, sample_lighting("ring", rng))


def test_one_seed_gives_the_same_bytes_for_any_number_of_workers(tmp_path: Path) -> None:
    one, two = (fingerprint(make_parts(tmp_path / str(n), images=12, seed=5, workers=n).root) for n in (1, 2))
    assert one == two
    assert sum(name.endswith(".jpg") for name in one) == 12
    assert {name for name in one if name.endswith(".json")} >= {"truth.json", "annotations/instances_train.json"}


def test_another_seed_gives_other_images() -> None:
    shot = plan_shots(1, 0)[0]
    assert render(shot, 0).jpeg == render(shot, 0).jpeg
    assert render(shot, 0).jpeg != render(shot, 1).jpeg


def test_boxes_are_tight_and_masks_disjoint(parts: PartsSet) -> None:
    for picture in parts.truth.pictures:
        owners = np.zeros((picture.height, picture.width), int)
        for thing in picture.annotations:
            assert thing.counts is not None
            mask = decode_mask(thing.counts, picture.height, picture.width).astype(bool)
            rows, columns = np.nonzero(mask)
            x, y, w, h = thing.bbox
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x, y, x + w, y + h)
            assert thing.area == mask.sum()
            if thing.label in PART_LABELS:
                assert thing.visible >= MIN_VISIBLE * 0.5  # a planted copy may be cropped further
                owners += mask
        assert owners.max() == 1


def test_images_are_as_large_as_they_say(parts: PartsSet) -> None:
    for picture in parts.truth.pictures:
        assert load_pixels(parts.root / picture.file).shape == (picture.height, picture.width, 3)
        camera = CAMERAS[picture.camera]
        assert picture.width <= camera.width
        assert picture.height <= camera.height


def test_every_class_split_and_set_up_is_there(parts: PartsSet) -> None:
    pictures = parts.truth.pictures
    labels = Counter(thing.label for picture in pictures for thing in picture.annotations)
    assert set(labels) == set(LABELS)
    assert min(labels[label] for label in PART_LABELS) >= 25
    assert 4 <= sum(labels[label] for label in PART_LABELS) / len(pictures) <= 7
    assert {picture.split for picture in pictures} == {"train", "val", "test"} == set(parts.splits)
    assert {picture.camera for picture in pictures} == set(CAMERAS)
    assert {picture.lighting for picture in pictures} == set(LIGHTINGS)
    assert {picture.background for picture in pictures} == set(SURFACES)


def test_bursts_stay_in_one_split_and_show_one_scene() -> None:
    shots = plan_shots(300, 0)
    assert [shot.index for shot in shots] == list(range(300))
    scenes: dict[int, list[tuple[str, str, str, str]]] = {}
    for shot in shots:
        scenes.setdefault(shot.scene, []).append((shot.split, shot.camera, shot.lighting, shot.background))
    assert all(len(set(frames)) == 1 for frames in scenes.values())
    assert max(len(frames) for frames in scenes.values()) == 4
    train = sum(shot.split == "train" for shot in shots) / len(shots)
    assert 0.6 < train < 0.8


@pytest.mark.parametrize("label", PART_LABELS)
@pytest.mark.parametrize("seed", range(6))
def test_reliefs_are_single_precision_and_within_their_extent(label: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    part = sample_part(label, rng)
    side = np.linspace(-2.5, 2.5, 201, dtype=np.float32)
    u, v = np.meshgrid(side, side)
    relief = part.relief(u, v)
    for field in vars(relief).values():
        assert field.dtype == np.float32
        assert np.isfinite(field).all()
    inside = relief.edge < 0
    assert inside.any()
    assert np.abs(u[inside]).max() <= part.extent[0] * 1.06
    assert np.abs(v[inside]).max() <= part.extent[1] * 1.06


@pytest.mark.parametrize("label", PART_LABELS)
def test_defects_lie_on_the_part(label: str) -> None:
    rng = np.random.default_rng(1)
    found = set()
    for _ in range(12):
        part = sample_part(label, rng)
        defect = sample_defect(part, rng)
        if defect is None:
            continue
        finish = Finish("steel", "steel", 0.0, 0.05, 0.0, 0.03)
        sprite = draw_part(part, (defect,), Pose(90, 90, 60, 0, 0, 0, (0, 0)), finish, sample_lighting("ring", rng))
        ((name, mask),) = sprite.defects
        found.add(name)
        assert 0 < mask.sum() < 0.4 * sprite.mask.sum()
        assert not (mask & ~sprite.mask).any()
    assert found == {"scratch", "dent"}


@pytest.mark.parametrize("label", PART_TYPES)
def test_twice_the_scale_is_four_times_the_area(label: str) -> None:
    small, large = drawn(label, scale=30.0), drawn(label, scale=60.0)
    assert large.mask.sum() / small.mask.sum() == pytest.approx(4.0, rel=0.06)
    assert np.count_nonzero((small.coverage > 0.02) & (small.coverage < 0.98)) > 20  # anti-aliased


def test_an_oblique_view_shows_walls() -> None:
    assert drawn("nut", lean=(0.3, 0.0)).mask.sum() > drawn("nut").mask.sum() * 1.02


def test_a_ring_is_brightest_where_it_faces_the_lamp() -> None:
    rng = np.random.default_rng(0)
    lighting = sample_lighting("side-left", rng)
    part = next(p for p in (sample_part("bolt", rng) for _ in range(50)) if p.variant == "countersunk")
    upright = Pose(100, 100, 60, np.pi / 2, 0, 0, (0, 0))
    sprite = draw_part(part, (), upright, GREY_FINISH, lighting)
    light = sprite.light.mean(axis=2)
    middle = light.shape[1] // 2
    assert light[:, :middle].sum() > 1.5 * light[:, middle:].sum()


def test_dark_and_blurred_images_are(parts: PartsSet) -> None:
    def brightness(file: str) -> float:
        return float(load_pixels(parts.root / file).mean())

    def sharpness(file: str) -> float:
        grey = load_pixels(parts.root / file).mean(axis=2)
        return float(np.abs(np.diff(grey, axis=0)).mean())

    dark = {fault.image for fault in parts.truth.of_kind("dark")}
    blurry = {fault.image for fault in parts.truth.of_kind("blurry")}
    others = {picture.file for picture in parts.truth.pictures} - dark - blurry
    assert dark
    assert blurry
    assert max(map(brightness, dark)) < 0.75 * min(map(brightness, others))
    assert max(map(brightness, dark)) < 40
    assert max(map(sharpness, blurry)) < np.quantile([sharpness(file) for file in others], 0.25)


def test_a_set_without_faults_is_what_is_really_there(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    parts = make_parts(tmp_path / "sound", images=10, faults=NONE, progress=lambda *call: calls.append(call))
    assert parts.truth.faults == ()
    assert len(parts.truth.pictures) == 10
    assert calls == [(n, 10) for n in range(1, 11)]


def test_wrong_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too few"):
        make_parts(tmp_path / "few", images=3)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="not empty"):
        make_parts(tmp_path / "full")
    assert (tmp_path / "full" / "mine.txt").read_text() == "precious"


def test_the_contact_sheet_shows_the_images(parts: PartsSet, tmp_path: Path) -> None:
    sheet = load_pixels(contact_sheet(parts, tmp_path / "sheet.png", columns=3, count=6))
    assert sheet.shape == (2 * 324, 3 * 404, 3)
    plain = load_pixels(contact_sheet(parts, tmp_path / "plain.png", columns=3, count=6, boxes=False))
    assert sheet.mean() > 20
    assert 0.0005 < (sheet != plain).mean() < 0.1
