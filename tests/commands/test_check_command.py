"""curate check: every check at once, on the demo's dataset and as a gate in CI."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

import curate.engine.local as local
from curate.cli import app
from curate.imaging import Pixels, load_pixels

CHECKS = ["quality", "duplicates", "leaks", "mistakes", "outliers"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's dataset, small; in an empty current folder."""
    assert run("demo", "--images", "40").exit_code == 0
    monkeypatch.chdir(tmp_path)


def only(*names: str) -> list[str]:
    return [argument for name in names for argument in ("--only", name)]


@pytest.mark.slow
def test_every_check_in_one_pass_and_one_commit(parts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []

    def counting(path: str | Path, *, shortest_side: int | None = None) -> Pixels:
        decoded.append(str(path))
        return load_pixels(path, shortest_side=shortest_side)

    before = len(run("history", "parts_v3", "--json").stdout.splitlines())
    monkeypatch.setattr(local, "load_pixels", counting)
    result = run("check", "-d", "parts_v3", *only("quality", "mistakes", "outliers"), "--json")
    assert result.exit_code == 0, result.stderr
    assert len(decoded) == len(set(decoded)) == 40
    assert len(run("history", "parts_v3", "--json").stdout.splitlines()) == before + 1
    findings = [json.loads(line) for line in result.stdout.splitlines()]
    assert {finding["check"] for finding in findings} <= {"quality", "mistakes", "outliers"}
    assert {"mislabeled", "missing"} <= {finding["kind"] for finding in findings}
    scores = [finding["score"] for finding in findings]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.slow
def test_the_projects_file_decides_what_fails(parts: None, tmp_path: Path) -> None:
    arguments = ("check", "-d", "parts_v3", *only("duplicates"))
    assert run(*arguments).exit_code == 0
    (tmp_path / "curate.toml").write_text('[check]\nfail-on = ["exact_duplicate"]\n')
    failed = run(*arguments)
    assert failed.exit_code == 1
    assert "failed: " in failed.stderr
    (tmp_path / "curate.toml").write_text(
        '[check]\nfail-on = ["exact_duplicate"]\n[[ignore]]\nkind = "exact_duplicate"\nreason = "kept on purpose"\n'
    )
    passed = run(*arguments, "--json")
    assert passed.exit_code == 0
    assert "kept on purpose" in passed.stderr
    assert "exact_duplicate" not in passed.stdout


def test_a_check_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("check", "-d", "parts_v3", "--only", "spelling")
    assert result.exit_code == 2
    assert "there is no check named 'spelling'" in result.stderr
