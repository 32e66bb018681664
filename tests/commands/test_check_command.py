"""curate check: every check at once, on the demo's dataset and as a gate in CI."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

import curate.engine.local as local
from curate.checks.base import Result as CheckResult
from curate.checks.base import Tables
from curate.checks.findings import Finding
from curate.checks.registry import CHECKS
from curate.checks.shift.explore import SLICES
from curate.cli import app
from curate.imaging import Pixels, load_pixels
from curate.report.findings import print_summary


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
    result = run("check", "-d", "parts_v3", *only("quality", "mistakes", "outliers", "shift"), "--json")
    assert result.exit_code == 0, result.stderr
    # Once for all that is computed; then those that may be copies, for their local features.
    assert len(set(decoded[:40])) == 40
    assert max(Counter(decoded).values()) <= 2
    assert len(run("history", "parts_v3", "--json").stdout.splitlines()) == before + 1
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    findings = [row for row in rows if row["kind"] != "table"]
    assert rows[: len(findings)] == findings
    assert {"Light", "Measured"} <= {row["table"] for row in rows[len(findings) :]}
    assert {finding["check"] for finding in findings} <= {"quality", "mistakes", "outliers", "shift"}
    assert {"mislabeled", "missing"} <= {finding["kind"] for finding in findings}
    scores = [finding["score"] for finding in findings]
    assert scores == sorted(scores, reverse=True)


def test_the_summary_names_slices_that_fail_and_the_kinds_with_most_problems_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tables: Tables = {
        SLICES: [{"slice": "warm light", "images": 9, "fails": True}],
        "Light": [{"cluster": "cold light"}],
    }
    findings = [
        *(Finding("outlier", 0.4, f"{k}.jpg", f"{k:016}", "outliers") for k in range(9)),
        *(Finding("dark", 0.9, f"{k}.jpg", f"{k:016}", "quality") for k in range(2)),
    ]
    print_summary([CheckResult("shift", [], "one summary", [], tables, {})], findings, limit=3, tables={SLICES})
    out = capsys.readouterr().out
    assert "warm light" in out
    assert "yes" in out
    assert "cold light" not in out
    assert out.index("outlier") < out.index("dark")


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


@pytest.mark.slow
def test_all_checks_run_on_a_set_with_broken_and_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(48):
        rng = np.random.default_rng(number)
        place = tmp_path / "set" / ("test" if number % 4 == 0 else "train") / ("dots" if number % 2 else "rough")
        place.mkdir(parents=True, exist_ok=True)
        shape = (8, 8, 3) if number % 2 else (30, 30, 3)
        picture = Image.fromarray(rng.integers(20, 235, shape, dtype=np.uint8))
        picture.resize((120, 120), Image.Resampling.BICUBIC).save(place / f"{number:02d}.jpg", quality=95)
    folder = tmp_path / "set"
    (folder / "test" / "rough" / "copy.jpg").write_bytes((folder / "train" / "dots" / "01.jpg").read_bytes())
    assert run("import", str(folder), "-d", "set").exit_code == 0
    cut = folder / "train" / "dots" / "05.jpg"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (folder / "train" / "dots" / "07.jpg").unlink()
    result = run("check", "-d", "set", "--encoder", "builtin", "--json", "--fail-on", "leak")
    assert result.exit_code == 1, f"{result.stderr}\n{result.exception!r}"
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    found = {(row["kind"], row["image"]) for row in rows if row["kind"] != "table" and row["score"] >= 0.5}
    assert ("corrupt", "train/dots/05.jpg") in found
    assert {"exact_duplicate", "leak"} <= {kind for kind, _ in found}
    commits = run("history", "set", "--json").stdout.splitlines()
    again = run("check", "-d", "set")
    assert again.exit_code == 0, again.stderr
    assert set(CHECKS.names()) <= {line.partition(":")[0] for line in again.stdout.splitlines()}
    assert run("history", "set", "--json").stdout.splitlines() == commits


def test_a_check_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("check", "-d", "parts_v3", "--only", "spelling")
    assert result.exit_code == 2
    assert "there is no check named 'spelling'" in result.stderr
