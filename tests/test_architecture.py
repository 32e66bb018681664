"""The layers: imports go down only, and the command line starts without the heavy packages."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import curate

PACKAGE = Path(curate.__file__).parent

# From the top down. A module may import from its own layer and from those below it.
LAYERS = [
    "cli",
    "commands",
    "demo",
    "loop",
    "connectors",
    "report",
    "edge",
    "augment",
    "checks",
    "models",
    "recipes",
    "formats",
    "dataset",
    "engine",
]
GROUND = len(LAYERS)

HEAVY = [
    "torch",
    "ray",
    "fiftyone",
    "transformers",
    "open_clip",
    "numpy",
    "pyarrow",
    "lance",
    "sklearn",
    "cv2",
    "onnxruntime",
    "PIL",
]


def layer_of(module: str) -> int:
    """Position of a module's layer; everything that is in none is the ground."""
    parts = module.split(".")
    return LAYERS.index(parts[1]) if len(parts) > 1 and parts[1] in LAYERS else GROUND


def modules() -> list[tuple[str, Path]]:
    return [
        (".".join(["curate", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__"), path)
        for path in sorted(PACKAGE.rglob("*.py"))
    ]


def imports(module: str, path: Path) -> list[str]:
    """Names of curate's modules that a module imports, at its top or inside functions; not those for types only."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names = []
    for node in _nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names += [f"{stem}.{alias.name}" for alias in node.names]
    return [name for name in names if name.startswith("curate")]


def _nodes(tree: ast.AST) -> list[ast.AST]:
    found: list[ast.AST] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        found += [node, *_nodes(node)]
    return found


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_go_down(module: str, path: Path) -> None:
    wrong = [name for name in imports(module, path) if layer_of(name) < layer_of(module)]
    assert not wrong, f"{module} imports from above: {wrong}"


def test_the_command_line_starts_without_the_heavy_packages() -> None:
    code = f"import sys, curate.cli; print([m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()
