"""Writing files: whole or not at all, and only in the place of files."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from curate.errors import UsageError
from curate.files import writable_file, write_atomic


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_and_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for content in (b"one", b"two"):
        write_atomic(path, content)
        assert path.read_bytes() == content
    assert names(tmp_path) == ["a.txt"]


def test_a_link_stays_and_the_file_behind_it_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    real, near, far = tmp_path / "kept" / "a.txt", tmp_path / "near", tmp_path / "far"
    near.symlink_to(Path("kept") / "a.txt")
    far.symlink_to(near)
    for path in (near, far):  # the first writes through a link to nothing
        write_atomic(path, path.name.encode())
        assert path.is_symlink()
        assert real.read_text() == path.name
    assert names(tmp_path / "kept") == ["a.txt"]


def test_what_is_no_file_is_refused_and_stays(tmp_path: Path) -> None:
    pipe, folder, circle = tmp_path / "pipe", tmp_path / "folder", tmp_path / "circle"
    os.mkfifo(pipe)
    folder.mkdir()
    circle.symlink_to(circle)
    (tmp_path / "link").symlink_to(pipe)
    for name, says in {
        "pipe": "a named pipe",
        "link": "a named pipe",
        "folder": "a folder",
        "circle": "back to itself",
    }.items():
        with pytest.raises(UsageError, match=says) as refused:
            write_atomic(tmp_path / name, b"x")
        assert refused.value.where == str(tmp_path / name)
        assert refused.value.remedy
    assert pipe.is_fifo()
    assert not list(folder.iterdir())
    assert names(tmp_path) == ["circle", "folder", "link", "pipe"]


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket may not be long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("here")
        with pytest.raises(UsageError, match="a socket"):
            writable_file(Path("here"))
