"""Every example is whole: a page, a short script that uses what is public, a picture, and its line in the table."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.name for path in EXAMPLES.iterdir() if (path / "run.py").exists() or (path / "README.md").exists())
SCRIPTS = sorted(path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.py"))  # with their helpers


def test_there_are_examples() -> None:
    assert "part_classifier" in NAMES
    assert {"part_classifier/run.py", "inspection_station/station.py", "common.py"} <= set(SCRIPTS)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_has_all_its_parts(name: str) -> None:
    folder = EXAMPLES / name
    script, page = (folder / "run.py").read_text(), (folder / "README.md").read_text()
    assert len(script.splitlines()) < 150
    assert f"python examples/{name}/run.py" in page
    assert "](picture.png)" in page
    assert (folder / "picture.png").stat().st_size < 150_000
    assert f"]({name}/README.md)" in (EXAMPLES / "README.md").read_text()
    assert (Path(__file__).parent / f"test_example_{name}.py").exists()


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example_imports_only_what_is_public(script: str) -> None:
    nodes = list(ast.walk(ast.parse((EXAMPLES / script).read_text())))
    imported = [
        f"{node.module}.{each.name}" for node in nodes if isinstance(node, ast.ImportFrom) for each in node.names
    ]
    imported += [each.name for node in nodes if isinstance(node, ast.Import) for each in node.names]
    assert not [
        name for name in imported if any(part.startswith("_") for part in name.removeprefix("__future__").split("."))
    ]
    assert not [name for name in imported if name.partition(".")[0] in ("benchmarks", "tests")]
