"""The tutorial: its notebook runs from the first cell to the last, and the page has the same code."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from curate.cli import app

ROOT = Path(__file__).parents[1]
PAGE, NOTEBOOK = ROOT / "docs" / "tutorial.md", ROOT / "examples" / "tutorial.ipynb"
BLOCK = re.compile(r"```(python|bash)\n(.*?)```", re.DOTALL)


def code_cells() -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_bytes())["cells"] if cell["cell_type"] == "code"]


def run_command(line: str) -> str:
    """Run a line of a shell that is a command of curate, perhaps into a file; what it prints."""
    command, _, file = line.partition(" > ")
    name, *arguments = shlex.split(command)
    assert name == "curate"
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, f"{line}\n{result.stdout}\n{result.stderr}\n{result.exception!r}"
    if file:
        Path(file).write_text(result.stdout)
    return result.stdout


def test_the_notebook_is_kept_without_outputs() -> None:
    assert code_cells()
    assert not [cell for cell in code_cells() if cell["outputs"] or cell["execution_count"] is not None]


def test_the_page_has_the_code_of_the_notebook() -> None:
    """In the notebook a command begins with an exclamation mark."""
    blocks = [
        code.strip() if language == "python" else "\n".join(f"!{line}" for line in code.strip().splitlines())
        for language, code in BLOCK.findall(PAGE.read_text())
    ]
    assert blocks == ["".join(cell["source"]) for cell in code_cells()]


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for cell in code_cells():
        source = "".join(cell["source"])
        if source.startswith("!"):
            for line in source.splitlines():
                run_command(line.removeprefix("!"))
        else:
            exec(compile(source, str(NOTEBOOK), "exec"), names)
    assert len(Path("chosen.jsonl").read_text().splitlines()) == 24
    assert (tmp_path / "package" / "runner.py").exists()
    asked = "curate evaluate -d lamp --layer reviewed --against old --where \"split = 'exam'\" --no-findings --json"
    rows = [json.loads(line) for line in run_command(asked).splitlines()]
    (top1,) = (row for row in rows if row.get("table") == "Comparison" and row["name"] == "top1")
    assert top1["difference"] > 0
