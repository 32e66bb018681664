"""Which files of a folder are listed."""

from __future__ import annotations

import os
from pathlib import Path

from curate.formats.files import list_files, peek_files, shared_peeks


def test_what_is_listed(tmp_path: Path) -> None:
    for name in ("b/2.txt", "b/1.txt", "a/c/3.txt", "z.txt", ".hidden/x", "a/._junk", "__MACOSX/y", "Thumbs.db"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to("self")
    (tmp_path / "gone.txt").symlink_to("nothing")
    (tmp_path / "to_pipe.txt").symlink_to("pipe.txt")
    (tmp_path / "link.txt").symlink_to("z.txt")
    expected = ["a/c/3.txt", "a/self", "b/1.txt", "b/2.txt", "gone.txt", "link.txt", "z.txt"]
    assert list_files(tmp_path) == expected


def test_folders_behind_links_are_listed_once(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.txt").touch()
    (tmp_path / "root" / "sub").mkdir(parents=True)
    for place in ("root/a", "root/b", "root/sub/c"):
        (tmp_path / place).symlink_to(tmp_path / "elsewhere")
    assert list_files(tmp_path / "root") == ["a/1.txt"]


def test_peeks_are_shared_inside_the_block_alone(tmp_path: Path) -> None:
    (tmp_path / "1.txt").touch()
    with shared_peeks():
        assert peek_files(tmp_path) == ["1.txt"]
        (tmp_path / "2.txt").touch()
        assert peek_files(tmp_path) == ["1.txt"]
        peek_files(tmp_path).clear()
        assert peek_files(tmp_path) == ["1.txt"]
    assert peek_files(tmp_path) == ["1.txt", "2.txt"]
