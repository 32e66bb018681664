"""import, export and formats as a user types them, with archives and formats that are only read."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from PIL import Image

from curate.formats.registry import FORMATS
from tests.commands.typed import curate, lines


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A zip of four images in two classes, and one member that leads outside with a control character in its name."""
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as opened:
        for number in range(4):
            Image.new("RGB", (8, 6), (number, 0, 0)).save(tmp_path / "one.png")
            opened.write(tmp_path / "one.png", f"pets/{'cat' if number % 2 else 'dog'}/{number}.png")
        opened.writestr("../\x1b[31mevil", b"")
    return tmp_path / "pets.zip"


def test_an_archive_says_what_it_was_read_as_and_what_was_left_out(archive: Path) -> None:
    result = curate("import", archive, "-d", "pets")
    assert "read as imagefolder (zip archive; " in result.stderr
    assert "came over: 4 images, 2 classes, 4 annotations" in result.stdout
    assert "dropped: 1 file: in the archive: its name leads outside the archive" in result.stdout
    assert "at pets.zip: ../\\x1b[31mevil" in result.stdout
    (again,) = lines(curate("import", archive, "-d", "pets", "--json"))
    assert (again["format"], again["changes"]) == ("imagefolder", {})
    assert again["losses"][0]["places"] == ["pets.zip: ../\x1b[31mevil"]
    error = curate("import", archive, "-d", "new", "--strict", status=2).stderr
    assert "leads outside" in error
    assert "--strict" in error


def test_export_to_an_archive(archive: Path, tmp_path: Path) -> None:
    curate("import", archive, "-d", "pets")
    (out,) = lines(curate("export", tmp_path / "out.zip", "-d", "pets", "-f", "imagefolder", "--copy", "--json"))
    assert out["target"] == str(tmp_path / "out.zip")
    assert zipfile.ZipFile(tmp_path / "out.zip").namelist() == ["cat/1.png", "cat/3.png", "dog/0.png", "dog/2.png"]


def test_formats_are_listed_from_the_registry() -> None:
    rows = lines(curate("formats", "--json"))
    assert [row["format"] for row in rows] == FORMATS.names()
    assert {row["format"]: row["write"] for row in rows}["coco"] is True
    assert "coco" in curate("formats").stdout
    text = " ".join(curate("import", "--help").stdout.split())
    assert all(name in text for name in FORMATS.builtins)


@pytest.mark.parametrize("fps", ["0", "-1", "nan", "inf"])
def test_frames_a_second_that_cannot_be(archive: Path, fps: str) -> None:
    assert "--fps" in curate("import", archive, "-d", "pets", "--fps", fps, status=2).stderr


def test_a_class_list_that_is_not_there(archive: Path, tmp_path: Path) -> None:
    assert "--classes" in curate("import", archive, "-d", "pets", "--classes", tmp_path / "no", status=2).stderr
