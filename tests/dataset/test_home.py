"""Names and places of datasets."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.dataset.home import dataset_names, dataset_path
from curate.errors import UsageError


@pytest.mark.parametrize("name", ["CON", "nul", "Prn", "aux.v2", "com1", "LPT9.tar.gz", "", ".x", "a/b", "-x"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a dataset's name"):
        dataset_path(name)


@pytest.mark.parametrize("name", ["console", "null", "com", "com10", "my.con", "auxiliary-1"])
def test_names_that_can_be(name: str) -> None:
    assert dataset_path(name).name == name


def test_a_home_that_is_not_there_has_no_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_HOME", str(tmp_path / "nowhere"))
    assert dataset_names() == []


def test_a_home_that_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("CURATE_HOME", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="cannot be listed"):
        dataset_names()
