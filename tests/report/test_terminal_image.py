"""Findings are shown with their picture in whatever way a terminal can, and as nothing but text elsewhere."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import curate.report.html as html
from curate.checks.findings import Finding
from curate.dataset import begin, open_dataset
from curate.report.html.cards import GIVEN, REGION, SUGGESTED
from curate.report.show import show_findings
from curate.report.terminal_image.picture import COLORS, Tile, place_side_by_side
from curate.report.terminal_image.screen import (
    METHODS,
    Method,
    Screen,
)
from curate.report.terminal_image.send import (
    encode_blocks,
    encode_iterm,
    encode_kitty,
    encode_picture,
    nearest_of_256,
)
from curate.report.terminal_image.sixel import encode_sixel
from tests.commands.typed import curate as run
from tests.commands.typed import lines
from tests.report.report_sets import HEIGHT, WIDTH, make_set
from tests.report.terminal_decoders import (
    CONTROL,
    Array,
    Terminal,
    block_pixels,
    iterm_pixels,
    kitty_pixels,
    sixel_pixels,
    xterm_colors,
)


@pytest.fixture
def found(tmp_path: Path) -> dict[str, Finding]:
    """A dataset 'set' with a finding of each kind, the first of each by its kind."""
    findings: dict[str, Finding] = {}
    for each in make_set("set", tmp_path):
        findings.setdefault(each.kind, each)
    return findings


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Shows a finding as on a terminal of 100 x 60 characters; gives what it was sent."""

    def show(finding: Finding, image: str) -> str:
        out = Terminal()
        monkeypatch.setattr(sys, "stdout", out)
        show_findings(open_dataset("set"), [finding], image)
        return out.getvalue()

    for name, value in {"COLUMNS": "100", "LINES": "60", "COLORTERM": "truecolor", "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return show


def random_picture(width: int, height: int, colors: int, seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    palette = random.integers(0, 256, (colors, 3))
    # Long runs and short ones.
    numbers = np.repeat(random.integers(0, colors, (height, width)), random.integers(1, 9), axis=1)[:, :width]
    return Image.fromarray(palette[numbers].astype(np.uint8))


# What is sent


@given(st.integers(1, 40), st.integers(1, 20), st.integers(1, 200), st.integers(0, 99))
@settings(max_examples=60)
def test_sixel_of_few_colors_is_the_picture(width: int, height: int, colors: int, seed: int) -> None:
    picture = random_picture(width, height, colors, seed)
    drawn = sixel_pixels(encode_sixel(picture).encode())
    # Sixel has a hundred steps of each color where a picture has 255.
    assert np.abs(drawn - np.asarray(picture).astype(int)).max() <= 2


def test_sixel_of_a_photograph_is_near_it(shared_data: Path) -> None:
    path = next((shared_data / "detection" / "raccoon").rglob("*.jpg"))
    picture = Image.open(path).convert("RGB").resize((301, 203))
    sent = encode_sixel(picture)
    drawn = sixel_pixels(sent.encode())
    assert np.abs(drawn - np.asarray(picture).astype(int)).mean() < 6
    assert len(re.findall(r"#\d+;2;", sent)) <= 256


@given(st.integers(1, 300), st.integers(1, 30), st.integers(0, 99))
@settings(max_examples=30)
def test_kitty_and_iterm_get_every_pixel(width: int, height: int, seed: int) -> None:
    picture = random_picture(width, height, 5000, seed)
    assert np.array_equal(kitty_pixels(encode_kitty(picture, 7).encode()), np.asarray(picture))
    assert np.array_equal(iterm_pixels(encode_iterm(picture, 7).encode()), np.asarray(picture))


def test_large_pictures_go_to_kitty_in_parts_without_a_reply() -> None:
    sent = encode_kitty(random_picture(200, 200, 60000, 0), 20)
    assert sent.count("\x1b_G") > 5
    assert sent.startswith("\x1b_Ga=T,f=100,q=2,c=20,m=1;")


@given(st.integers(1, 30), st.integers(1, 21), st.integers(0, 99))
@settings(max_examples=40)
def test_half_blocks_in_true_color_are_the_picture(width: int, height: int, seed: int) -> None:
    pixels = np.asarray(random_picture(width, height, 90, seed))
    drawn = block_pixels(encode_blocks(pixels, true_color=True))
    assert np.array_equal(drawn[:height], pixels)
    assert (drawn[height:] == -1).all()


@given(st.integers(0, 999))
@settings(max_examples=20)
def test_half_blocks_in_256_colors_have_the_nearest_ones(seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 7, 3)).astype(np.uint8)
    palette = xterm_colors()
    distances = ((pixels[:, :, None].astype(int) - palette) ** 2).sum(axis=-1)
    numbers = nearest_of_256(pixels)
    assert np.array_equal(np.take_along_axis(distances, numbers[..., None], 2)[..., 0], distances.min(axis=-1))
    assert np.array_equal(block_pixels(encode_blocks(pixels, true_color=False)), palette[numbers])


@pytest.mark.parametrize("method", METHODS)
def test_a_picture_ends_its_line(method: Method) -> None:
    sent = encode_picture(Image.new("RGB", (16, 12)), method, Screen(80, 24), true_color=True)
    assert sent.endswith("\n")


# The picture


def test_pictures_stand_side_by_side_in_the_room_there_is() -> None:
    tiles = [Tile(Image.new("RGB", (30, 20), color), []) for color in ("red", "lime", "blue")]
    for room in [(1, 1), (9, 400), (400, 9), (300, 100), (80, 32)]:
        for least in (1, 2):
            picture, count = place_side_by_side(tiles, room, least=least)
            assert picture.width <= room[0]
            assert picture.height <= room[1]
            assert count >= least
    picture, count = place_side_by_side(tiles, (310, 100))
    pixels = np.asarray(picture)
    assert count == 2
    assert pixels[50, 5].tolist() == [255, 0, 0]
    assert pixels[50, -5].tolist() == [0, 255, 0]
    assert place_side_by_side(tiles, (470, 100))[1] == 3


def test_lines_have_the_colors_of_the_report() -> None:
    css = (Path(str(html.__file__)).parent / "page.css").read_text()
    for what in (GIVEN, SUGGESTED, REGION):
        assert f"--{what}: #{bytes(COLORS[what]).hex()};" in css


def test_the_box_is_drawn_where_it_is(found: dict[str, Finding], shown: Callable[..., str]) -> None:
    pixels = kitty_pixels(shown(found["missing"], "kitty").encode())
    lined = np.abs(pixels - np.array(COLORS[SUGGESTED])).max(axis=-1) < 40
    rows, columns = np.flatnonzero(lined.any(axis=1)), np.flatnonzero(lined.any(axis=0))
    # The box of 30 pixels is shown in the middle of 54.
    for first, last, side in ((rows[0], rows[-1], lined.shape[0]), (columns[0], columns[-1], lined.shape[1])):
        assert first / side == pytest.approx(12 / 54, abs=0.02)
        assert last / side == pytest.approx(42 / 54, abs=0.02)
    # Dashed: some of the line is gap.
    assert 0.4 < lined[rows[0] : rows[0] + 3].any(axis=0)[columns[0] : columns[-1]].mean() < 0.9


@pytest.mark.parametrize("kind", ["mislocated", "bad_mask", "spurious", "hard", "dark", "leak", "exact_duplicate"])
def test_what_is_drawn_is_said(found: dict[str, Finding], shown: Callable[..., str], kind: str) -> None:
    sent = shown(found[kind], "kitty")
    pixels = kitty_pixels(sent.encode())
    words = {
        GIVEN: "orange: missed" if kind == "hard" else "orange: as it is",
        SUGGESTED: "blue, dashed: as it should be",
        REGION: "pink, dashed: where it is wrong",
    }
    for what, text in words.items():
        drawn = bool((np.abs(pixels - np.array(COLORS[what])).max(axis=-1) < 3).any())
        assert drawn == (text in sent)
    two = kind in ("leak", "exact_duplicate", "spurious")
    assert ("from left to right" in sent) == two
    assert f"{kind.replace('_', ' ')}, {found[kind].score:.3f}" in sent


def test_a_copy_stands_beside_what_it_is_a_copy_of(found: dict[str, Finding], shown: Callable[..., str]) -> None:
    sent = shown(found["exact_duplicate"], "blocks")
    pixels = block_pixels(sent)
    assert "from left to right: train/b.png, train/a.png" in sent
    assert pixels[-2, 2].tolist() == pytest.approx([70, 90, 170], abs=2)
    assert pixels[-2, -3].tolist() == pytest.approx([40, 90, 200], abs=2)
    assert pixels.shape[1] <= 100


@pytest.mark.parametrize("method", METHODS)
def test_every_way_shows_the_same(found: dict[str, Finding], shown: Callable[..., str], method: Method) -> None:
    decode: dict[Method, Callable[[str], Array]] = {
        "kitty": lambda sent: kitty_pixels(sent.encode()),
        "iterm": lambda sent: iterm_pixels(sent.encode()),
        "sixel": lambda sent: sixel_pixels(sent.encode()),
        "blocks": block_pixels,
    }
    pixels = decode[method](shown(found["shifted"], method))
    image = Image.open(open_dataset("set").table("images", where="location = 'val/d.png'")["path"][0].as_py())
    wanted = np.asarray(image.resize(pixels.shape[1::-1], Image.Resampling.BICUBIC)).astype(int)
    assert pixels.shape[1] / pixels.shape[0] == pytest.approx(WIDTH / HEIGHT, rel=0.03)
    assert np.abs(pixels - wanted).mean() < 3


def test_images_are_turned_as_their_exif_says(
    found: dict[str, Finding], shown: Callable[..., str], tmp_path: Path
) -> None:
    upright = Image.new("RGB", (60, 80), "blue")
    upright.paste("yellow", (0, 0, 60, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    _set_image("train/e.png", path=str(tmp_path / "turned.jpg"), width=60, height=80)
    pixels = kitty_pixels(shown(found["dark"], "kitty").encode())
    assert pixels.shape[0] > pixels.shape[1]
    assert np.abs(pixels[5].mean(axis=0) - [255, 255, 0]).max() < 12
    assert np.abs(pixels[-5].mean(axis=0) - [0, 0, 255]).max() < 12


@pytest.mark.parametrize("method", METHODS)
def test_an_image_that_cannot_be_read_is_a_line_of_text(
    found: dict[str, Finding], shown: Callable[..., str], tmp_path: Path, method: Method
) -> None:
    place = Path(open_dataset("set").table("images", where="location = 'train/e.png'")["path"][0].as_py())
    for spoil, reason in (
        (place.unlink, "the image file is not there"),
        (lambda: place.write_bytes(b"no"), "not of a"),
    ):
        spoil()
        sent = shown(found["missing"], method)
        assert not CONTROL.search(sent)
        assert sent.splitlines()[0].startswith("no picture of train/e.png: ")
        assert reason in sent.splitlines()[0]
        assert "nothing is there" in sent
    _set_image("train/e.png", path=None)
    assert shown(found["missing"], method).startswith("no picture of train/e.png: the image file is not there\n")


def test_the_finding_is_shown_if_only_what_it_compares_with_is_gone(
    found: dict[str, Finding], shown: Callable[..., str]
) -> None:
    _set_image("train/a.png", path=None)
    sent = shown(found["exact_duplicate"], "kitty")
    assert kitty_pixels(sent.encode()).shape[2] == 3
    assert "no picture of train/a.png: the image file is not there" in sent


def _set_image(location: str, **values: Any) -> None:
    with begin("set", command="test") as transaction:
        rows = transaction.base.table("images", where=f"location = '{location}'")
        changed = [{**row, **values} for row in rows.to_pylist()]
        transaction.upsert("images", type(rows).from_pylist(changed, schema=rows.schema), "image_id")


EVIL = "\x1b]0;taken\x07\x1b[2J\x9b31m\r\u202egnp"


def test_names_are_no_commands_to_the_terminal(tmp_path: Path, shown: Callable[..., str]) -> None:
    names = [f"train/{EVIL}{number}.png" for number in range(6)]
    findings = make_set("set", tmp_path, names=names, classes=(EVIL, f"nut{EVIL}"))
    for finding in findings:
        sent = shown(finding, "kitty")
        text = re.sub(r"\x1b_G[^\x1b]*\x1b\\", "", sent)
        assert not CONTROL.search(text)
        assert "\u202e" not in text
        assert "\\x1b]0;taken\\x07" in text
    for command in (["findings", "-d", "set"], ["info", "set"], ["findings", "show", findings[0].id, "-d", "set"]):
        assert not CONTROL.search(run(*command).stdout)


# The command


def test_show_is_text_where_nobody_looks(found: dict[str, Finding], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_IMAGE", "kitty")
    text = run("findings", "show", found["mislocated"].id[:6], "-d", "set").stdout
    assert not CONTROL.search(text)
    rows = dict(line.split(maxsplit=1) for line in text.splitlines() if not line.startswith(("found", "suggested")))
    assert rows["finding"] == "mislocated, 0.600, open"
    assert rows["image"] == "val/c.png"
    assert rows["box"] == "40 30 40 40"
    assert rows["labelled"] == "bolt"
    assert rows["id"] == found["mislocated"].id
    assert "suggested box  45 35 30 30" in text


def test_show_prints_json_in_the_order_that_was_asked_for(
    found: dict[str, Finding], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [found["missing"], found["leak"]]
    printed = lines(run("findings", "-d", "set", "show", *(each.id for each in wanted), "--json"))
    assert [each["id"] for each in printed] == [each.id for each in wanted]
    assert printed[0]["bbox"] == [100, 60, 30, 30]
    monkeypatch.setenv("CURATE_DATASET", "set")
    assert lines(run("findings", "show", wanted[0].id[:8], "--json")) == printed[:1]


def test_show_says_what_is_wrong_with_how_it_is_called(found: dict[str, Finding]) -> None:
    assert "no finding has an id that begins with 'zz'" in run("findings", "show", "zz", "-d", "set", status=2).stderr
    assert "--kind" in run("findings", "-d", "set", "--kind", "leak", "show", "ab", status=2).stderr
    assert "Missing option '--dataset'" in run("findings", "show", "ab", status=2).stderr
    assert "Missing option '--dataset'" in run("findings", status=2).stderr
    assert "'--image'" in run("findings", "show", "ab", "-d", "set", "--image", "ascii", status=2).stderr
