"""Registries: what is built in, and what other packages add by entry points."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.errors import UsageError
from curate.registry import Registry


@pytest.fixture
def things() -> Registry[str]:
    return Registry("thing", {"digits": "string:digits", "letters": "string:ascii_letters"})


def install(folder: Path, package: str, points: str) -> None:
    """What pip leaves of a package that adds things."""
    about = folder / f"{package}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[curate.things]\n{points}\n")


def test_what_is_built_in_is_loaded_by_name(things: Registry[str]) -> None:
    assert things.names() == things.builtins == ["digits", "letters"]
    assert things.get("digits") == "0123456789"
    assert dict(things)["letters"].startswith("abc")
    with pytest.raises(UsageError, match=r"there is no thing named 'dots'.*one of: digits, letters"):
        things.get("dots")


def test_another_package_adds_things_and_replaces_them(
    things: Registry[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "more_things", "octal = string:octdigits\ndigits = string:hexdigits")
    monkeypatch.syspath_prepend(tmp_path)
    assert things.names() == ["digits", "letters", "octal"]
    assert things.get("octal") == "01234567"
    assert things.get("digits").endswith("ABCDEF")


def test_what_is_installed_while_a_notebook_runs_is_found(
    things: Registry[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    assert things.names() == ["digits", "letters"]
    install(tmp_path, "later_things", "octal = string:octdigits")
    assert things.get("octal") == "01234567"
    assert "octal" in things.names()
