"""Versions of weights files: any byte counts, a file is read once, and paths read the same from everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curate.errors import InputError
from curate.models import content
from curate.models.encoders.weights import located, weights_digest, weights_key


def write(path: Path, *, middle: int = 0) -> Path:
    """Five megabytes, of which one byte in the middle can be chosen."""
    data = np.random.default_rng(0).integers(0, 256, 5_000_000, dtype=np.uint8)
    data[len(data) // 2] = middle
    path.write_bytes(data.tobytes())
    return path


def test_a_byte_in_the_middle_makes_another_version(tmp_path: Path) -> None:
    first = weights_key(write(tmp_path / "a.pt"))
    assert weights_key(write(tmp_path / "b.pt")) == first
    assert weights_key(write(tmp_path / "a.pt", middle=1)) != first
    assert weights_digest(tmp_path / "b.pt") == first[:8]
    assert len(first) == 32


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counting(path: str) -> str | None:
        read.append(Path(path).name)
        return hash_of(path)

    hash_of = content.content_hash
    monkeypatch.setattr(content, "content_hash", counting)
    monkeypatch.setattr(content, "_SETTLED_SECONDS", -1.0)
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a.pt")
    assert weights_key(path) == weights_key(Path("a.pt")) == weights_key(path)
    assert read == ["a.pt"]
    write(path, middle=1)
    weights_key(path)
    assert read == ["a.pt", "a.pt"]


def test_order_and_where_they_matter_names_count(tmp_path: Path) -> None:
    a, b = tmp_path / "a.pt", tmp_path / "b.pt"
    a.write_bytes(b"1")
    b.write_bytes(b"2")
    assert len({weights_key(a, b), weights_key(b, a), weights_key(a), weights_key(a, a)}) == 4
    copy = tmp_path / "copy.pt"
    copy.write_bytes(b"1")
    assert weights_key(a) == weights_key(copy)
    assert weights_key(a, named=True) != weights_key(copy, named=True)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read") as caught:
        weights_key(tmp_path / "none.pt")
    assert caught.value.where == str(tmp_path / "none.pt")


def test_paths_read_the_same_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "blob").write_bytes(b"1")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "w.safetensors").symlink_to(tmp_path / "blob")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "models")
    expected = tmp_path.resolve() / "models" / "w.safetensors"
    assert located("w.safetensors") == located("../models/w.safetensors") == expected
    assert located("~/models/w.safetensors") == expected
    assert located(".") == located("~/models/../models") == expected.parent
    with pytest.raises(InputError, match="leads nowhere"):
        located("~nobody-of-that-name/w.pt")
