"""The benchmark of encoders: its sets hold what they say, its figures are what they are called."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import encoder_sets, encoders
from benchmarks.changes import COPIES, STYLES
from benchmarks.encoder_methods import choose_methods, encode, plain, random_network, raw, yolox
from benchmarks.encoder_sets import Task, digits, in_styles, pieces, places, read_domains
from benchmarks.encoders import find_copies, measure, neighbors_agree, tell_domains
from benchmarks.report import options
from curate.errors import FormatError, InputError, UsageError
from curate.imaging import Pixels, load_pixels
from curate.models.encoders.base import Vectors


def picture(seed: int, height: int = 48, width: int = 64) -> Pixels:
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    return np.repeat(np.repeat(blocks, 16, axis=0), 16, axis=1)


def circle(*degrees: float) -> Vectors:
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1).astype(np.float32)


def test_neighbors_vote_and_nobody_votes_for_itself() -> None:
    X = circle(0, 1, 3, 90, 91, 93)
    assert neighbors_agree(X, np.array(list("aaabbb")), k=2) == 1
    assert neighbors_agree(X, np.array(list("aabbbb")), k=2) == pytest.approx(5 / 6)  # the third lies among the others
    assert neighbors_agree(X[:2], np.array(["a", "b"]), k=1) == 0  # each sees only the other


def test_of_labels_with_as_many_votes_the_nearer_wins() -> None:
    X, y = circle(0, 5, -30), np.array(["a", "a", "b"])
    assert neighbors_agree(X, y, k=2) == pytest.approx(2 / 3)


def test_pictures_of_one_source_do_not_vote_for_one_another() -> None:
    X, y = circle(0, 1, 5, 6), np.array(["a", "a", "b", "b"])
    groups = np.array([0, 0, 1, 1])
    assert neighbors_agree(X, y, k=1) == 1
    assert neighbors_agree(X, y, groups, k=1) == 0
    assert neighbors_agree(X, y, groups, np.array([0, 1, 1, 0]), k=1) == 0
    assert neighbors_agree(X, y, np.zeros(4), k=1) == 0  # nobody is left to vote


def test_more_rows_than_a_block() -> None:
    X = circle(*np.linspace(0, 350, 2100))
    y = np.arange(2100) // 700
    assert neighbors_agree(X, y, k=2) == pytest.approx(1, abs=8 / 2100)
    assert neighbors_agree(X, y, np.arange(2100) // 300, k=10) < 1


@pytest.mark.parametrize("name", [*COPIES, *STYLES])
def test_changes_give_images_and_the_same_ones_from_the_same_seed(name: str) -> None:
    change = {**COPIES, **STYLES}[name]
    for pixels in (picture(0), picture(1, 32, 32)):
        before = pixels.copy()
        changed = change(pixels, np.random.default_rng(3))
        assert changed.dtype == np.uint8
        assert changed.ndim == 3
        assert changed.shape[2] == 3
        np.testing.assert_array_equal(pixels, before)
        np.testing.assert_array_equal(changed, change(pixels, np.random.default_rng(3)))
        assert np.array_equal(changed, pixels) == (name == "photograph")


def test_changes_do_what_they_are_called() -> None:
    pixels, rng = picture(0, 96, 128), np.random.default_rng(0)
    assert COPIES["half size"](pixels, rng).shape == (48, 64, 3)
    height, width = COPIES["crop"](pixels, rng).shape[:2]
    assert 0.8 <= height / 96 <= 0.91
    assert 0.8 <= width / 128 <= 0.91
    assert np.ptp(COPIES["grey"](pixels, rng), axis=2).max() == 0
    np.testing.assert_array_equal(COPIES["mirrored"](pixels, rng)[:, ::-1], pixels)
    assert abs(float(np.std(COPIES["noise"](np.full_like(pixels, 128), rng).astype(float))) - 15) < 1
    white = np.full_like(pixels, 100)
    light = np.power(COPIES["side light"](white, rng).astype(float), 2.2)
    assert 2.5 < light.max() / light.min() < 6  # 3 along a side; across a corner both directions add up


def test_sets_have_a_class_and_a_source_for_every_picture() -> None:
    for task, classes in ((places(6, 3), 6), (pieces(4, 3), 4), (digits(), 10)):
        assert len(task.images) == len(task.labels) == len(task.groups)
        assert len(set(task.labels)) == classes
        assert not task.domains
    views = pieces(2, 2)
    assert all(isinstance(view, np.ndarray) and view.shape == (96, 96, 3) for view in views.images)
    assert len({np.asarray(view).tobytes() for view in views.images}) == 4


def test_styles_hold_every_picture_once_and_keep_sources_apart() -> None:
    first, second = Task("one"), Task("two")
    for number in range(10):
        first.add(picture(number), "a", number // 2)
        second.add(picture(50 + number), "a", number)
    styled = in_styles([first, second], each=5)
    assert Counter(styled.labels) == {"one a": 5, "two a": 5}
    assert Counter(styled.domains) == dict.fromkeys(STYLES, 2)
    groups = {
        label: {g for g, own in zip(styled.groups, styled.labels, strict=True) if own == label}
        for label in styled.labels
    }
    assert not groups["one a"] & groups["two a"]


def write(folder: Path, domain: str, label: str, count: int) -> None:
    """Red dogs and blue houses, which are dark in a sketch."""
    (folder / domain / label).mkdir(parents=True)
    color = np.array((200, 30, 30) if label == "dog" else (30, 30, 200)) * (1.0 if domain == "photo" else 0.4)
    for number in range(count):
        noise = np.random.default_rng(number).normal(0, 3, (24, 24, 3))
        Image.fromarray((color + noise).clip(0, 255).astype(np.uint8)).save(folder / domain / label / f"{number}.jpg")


def test_domains_are_read_from_folders(tmp_path: Path) -> None:
    for domain in ("photo", "sketch"):
        for label in ("dog", "house"):
            write(tmp_path, domain, label, 12)
    (tmp_path / "photo" / "dog" / "notes.txt").write_text("no picture")
    task = read_domains(tmp_path)
    assert Counter(task.labels) == {"dog": 24, "house": 24}
    assert Counter(task.domains) == {"photo": 24, "sketch": 24}
    hue = tell_domains(task, "hue", lambda images: circle(*(int(red(image)) * 90 for image in images)))
    light = tell_domains(task, "light", lambda images: circle(*(int(image.mean() > 60) * 90 for image in images)))
    assert (hue["class"], hue["class_across"], light["domain"]) == (100, 100, 100)
    assert max(hue["domain"], light["class"]) < 100


def red(image: Pixels) -> bool:
    return bool(image[..., 0].mean() > image[..., 2].mean())


@pytest.mark.parametrize("layout", ["", "photo/dog", "photo/*"])
def test_a_folder_of_one_domain_or_class_is_refused(tmp_path: Path, layout: str) -> None:
    for label in {"": [], "photo/dog": ["dog"], "photo/*": ["dog", "house"]}[layout]:
        write(tmp_path, "photo", label, 2)
    with pytest.raises(FormatError, match="DOMAIN/CLASS/FILE") as caught:
        read_domains(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_copies_are_found_by_what_does_not_change() -> None:
    whole = [picture(seed) for seed in range(8)]
    found = find_copies(whole, "raw", raw)
    assert found["JPEG 30"] == found["noise"] == 100
    by_chance = find_copies(whole, "constant", lambda images: np.ones((len(images), 1), np.float32))
    assert all(by_chance[kind] == 12.5 for kind in COPIES)


def test_vectors_are_the_same_in_any_batch() -> None:
    images = [picture(seed) for seed in range(5)]
    for method in (raw, plain):
        whole = encode(method, images)
        np.testing.assert_allclose(whole, encode(method, images, batch=2), atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)


def test_the_detector_gives_a_vector_of_its_three_maps(shared_data: Path) -> None:
    method = yolox(shared_data / "models" / "yolox_nano.onnx")
    cells, raccoon = (
        load_pixels(min((shared_data / "detection" / folder).glob("*.jpg")))
        for folder in ("bccd/JPEGImages", "raccoon/images")
    )
    X = method([raccoon, raccoon[::2, ::2], cells])
    assert X.shape == (3, 64 + 128 + 256)
    np.testing.assert_allclose(np.linalg.norm(X, axis=1), 1, atol=1e-5)
    assert float(X[0] @ X[1]) > float(X[0] @ X[2])


def test_another_network_is_refused(shared_data: Path) -> None:
    other = min((shared_data / "models" / "ultraface").glob("*.onnx"))
    with pytest.raises(InputError, match="YOLOX-nano") as caught:
        yolox(other)
    assert str(other) in str(caught.value)


def test_the_random_network_is_the_same_on_every_run() -> None:
    pytest.importorskip("torch")
    images = [picture(seed) for seed in range(3)]
    first = random_network()(images)
    np.testing.assert_array_equal(first, random_network()(images))
    assert first.std(axis=0).max() > 1e-4


def test_what_cannot_be_had_is_left_out_with_a_note() -> None:
    notes: list[str] = []
    methods = choose_methods(None, ["onnx:mine.onnx"], None, notes)
    assert "pooled YOLOX-nano" not in methods
    assert "onnx:mine.onnx" in methods
    assert any("YOLOX-nano" in note and "--data" in note for note in notes)
    with pytest.raises(UsageError, match="no vectors called 'rwa'"):
        choose_methods(["rwa"], [], None, [])


def test_a_run_has_a_table_for_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Task("small")
    for number in range(20):
        small.add(picture(number % 2), "ab"[number % 2], number)
    monkeypatch.setitem(encoder_sets.RENDERED, "digits", lambda: small)
    monkeypatch.setattr(encoders, "originals", lambda data: [picture(seed) for seed in range(4)])
    for domain in ("photo", "sketch"):
        for label in ("dog", "house"):
            write(tmp_path, domain, label, 3)
    parser = options("", data=True)
    arguments = parser.parse_args([])
    vars(arguments).update(
        domains=tmp_path, encoder=[], only=["digits", "bccd", "copies", "domains"], vectors=["raw 16 x 16"]
    )
    report = measure(arguments)
    assert [row["part"] for row in report.results] == ["classes", "classes", "copies", "domains"]
    assert "| the largest class | 50.0 / 50.0 | 0 | 0.0 |" in report.table
    assert "| raw 16 x 16 | 100.0 / 100.0 | 768 |" in report.table
    assert report.table.count("| --- |") == 3
    assert [note for note in report.notes if note.startswith("bccd is left out")]
    assert str(tmp_path) not in json.dumps([report.settings, report.results, report.table, report.notes])
