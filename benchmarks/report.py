"""What every benchmark has in common: its options, its report, and how it ends when a peer is not installed.

The JSON of a report says when it was made, by which command and on what machine: cores and versions, no names, no paths.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shlex import quote
from typing import Any, Final

from curate.errors import CurateError, MissingExtra

PACKAGES: Final = (
    "curate-vision",
    "cleanlab",
    "numpy",
    "onnxruntime",
    "pyarrow",
    "pycocotools",
    "pylance",
    "scikit-learn",
    "scipy",
)

_PLACES: Final = {
    **dict.fromkeys(("data", "domains", "keep", "predictions", "runs"), "FOLDER"),
    "add": "FILE",
}
"""Options that name files or folders, and what is said in the place of these."""


@dataclass(frozen=True)
class Report:
    """What a benchmark found.

    Attributes:
        settings: Sizes, seeds, rates: what the figures depend on.
        results: One object per measurement, JSON-ready.
        table: The same in short, as Markdown.
        notes: What was left out, and why; one sentence each.
    """

    settings: dict[str, Any]
    results: Sequence[dict[str, Any]]
    table: str
    notes: list[str] = field(default_factory=list)


def options(description: str | None, *, data: bool = False, seeds: int | None = None) -> argparse.ArgumentParser:
    """A parser with the options that benchmarks share.

    Args:
        description: The module's docstring.
        data: Whether it can use real data.
        seeds: How many seeds it runs by default; None if it takes no seeds.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write settings, results, table and notes here")
    if data:
        parser.add_argument("--data", type=Path, metavar="FOLDER", help="folder of public data (detection/bccd ...)")
    if seeds is not None:
        parser.add_argument("--seeds", type=int, default=seeds, help=f"how many seeds (default {seeds})")
    return parser


def run(measure: Callable[[argparse.Namespace], Report], parser: argparse.ArgumentParser) -> None:
    """Measure, print the table, write the JSON. Ends with the error's exit status and one line if it cannot be done."""
    arguments = parser.parse_args()
    try:
        report = measure(arguments)
    except CurateError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    print(report.table)
    if arguments.json:
        about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "command": _command(parser, arguments), "machine": machine()}
        arguments.json.write_text(json.dumps(about | asdict(report), indent=1) + "\n", encoding="utf-8")


def _command(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> str:
    """The command line that gives the same figures, without anybody's paths."""
    words = ["python", "-m", f"benchmarks.{Path(parser.prog).stem}"]  # sys.argv may be another command's by now
    for name, value in vars(arguments).items():
        if name != "json" and value != parser.get_default(name):
            values = [_PLACES[name]] if name in _PLACES else [] if value is True else value
            words += [f"--{name}", *(quote(str(each)) for each in (values if isinstance(values, list) else [values]))]
    return " ".join(words)


def machine() -> dict[str, str]:
    """What the figures depend on: cores, system, versions. No names, no paths."""
    versions = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {"cores": str(os.cpu_count()), "system": f"{platform.system()} {platform.machine()}", **versions}


def require_cleanlab() -> None:
    """The peer that most of this is measured against.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        import_module("cleanlab")
    except ImportError as error:
        raise MissingExtra("cleanlab", "bench") from error


def real_set(data: Path | None, name: str, notes: list[str]) -> Path | None:
    """The folder of a detection set in the data folder; None, and a note, where it is not there."""
    if data is not None and (data / "detection" / name).is_dir():
        return data / "detection" / name
    notes.append(f"{name} is left out: there is no detection/{name} in the folder given by --data")
    return None


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table: first column to the left, the others to the right."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def memory_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Peaks, in 2^20 bytes, with numbers of pictures.

    Args:
        rows: Objects with pictures, images, cpu_s, before_mb and peak_mb.
    """
    lines = [
        [f"{row['pictures']:,}", round(row["before_mb"]), round(row["peak_mb"]), f"{milliseconds(row):.2f}"]
        for row in rows
    ]
    return markdown(["pictures", "MB before", "peak MB", "CPU ms a picture"], lines)


def milliseconds(measured: Mapping[str, float]) -> float:
    """Of the processor, for each of the images measured."""
    return 1000 * measured["cpu_s"] / measured["images"]
