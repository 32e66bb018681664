"""Errors of boxes found, and a detector evaluated, on 1,000 to 100,000 images of ten boxes, against ObjectLab and pycocotools.

    python -m benchmarks.boxes_scale [--sizes 1000 10000 100000] [--peers 10000] [--only ROW ...] [--json FILE]

The rows `mistakes, boxes` and `evaluate` of `benchmarks.versus` at growing sizes, each contender in a process of its own with one
thread, on the same boxes. A peer runs on so many images at most as told (ObjectLab on a fifth of them); what it would take of
more is extrapolated from its largest size in proportion to the images, and marked with an asterisk. Memory is what came on top
of the loaded boxes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.growth import fitted
from benchmarks.report import Report, markdown, options, require_cleanlab, run
from benchmarks.versus import CURATE, ROWS, call

BOXES: Final = 10
"""On each image."""

PEERS: Final = {"mistakes, boxes": "cleanlab", "evaluate": "pycocotools"}
_SHARE: Final = {"mistakes, boxes": 0.2}
"""Of the images that a peer is given, where it takes longer."""


def main() -> None:
    """Run both rows at every size."""
    parser = options(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="images, growing")
    parser.add_argument("--peers", type=int, default=10_000, help="images that a peer is given at most")
    parser.add_argument("--only", nargs="+", choices=list(PEERS), default=list(PEERS), help="these rows only")
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Every size, both contenders one after the other."""
    if "mistakes, boxes" in arguments.only:
        require_cleanlab()
    results: list[dict[str, Any]] = []
    for size in arguments.sizes:
        for name in arguments.only:
            given = min(size, round(arguments.peers * _SHARE.get(name, 1)))
            for contender, images in ((CURATE, size), (PEERS[name], given)):
                if any(
                    row["row"] == name and row["contender"] == contender and row["images"] == images for row in results
                ):
                    continue
                results.append({"row": name, "contender": contender, "images": images, **_one(name, contender, images)})
                print(results[-1], file=sys.stderr)
    settings = {"boxes of an image": BOXES, "sizes": arguments.sizes, "peers": arguments.peers}
    return Report(settings, results, table(results))


def _one(name: str, contender: str, images: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        ROWS[name].prepare(Path(folder), images)
        measured = call(ROWS[name], contender, sys.executable, Path(folder))
    return {key: measured[key] for key in ("cpu_s", "wall_s", "before_mb", "peak_mb", "found")}


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Seconds of both, and how they grow."""
    sizes = sorted({row["images"] for row in results if row["contender"] == CURATE})
    lines = []
    for name, peer in PEERS.items():
        own, theirs = ([r for r in results if r["row"] == name and r["contender"] == who] for who in (CURATE, peer))
        if not own:
            continue
        grown = fitted(own)["exponent"]
        for size in sizes:
            mine = next(row for row in own if row["images"] == size)
            largest = max((row for row in theirs if row["images"] <= size), key=lambda row: row["images"])
            other = largest["cpu_s"] * size / largest["images"]
            mark = "" if largest["images"] == size else "*"
            extra = mine["peak_mb"] - mine["before_mb"]
            lines.append([
                name, f"{size:,}", f"{size * BOXES:,}", f"{mine['cpu_s']:.2f}", f"{1e6 * mine['cpu_s'] / size / BOXES:.1f}",
                f"{extra:.0f}", f"{peer} {other:.1f}{mark}", f"{other / mine['cpu_s']:.0f}{mark}",
                "-" if grown is None else f"{grown:.2f}",
            ])  # fmt: skip
    columns = [
        "row", "images", "boxes", "curate CPU s", "microseconds a box", "extra MB", "peer CPU s", "times curate",
        "exponent of curate",
    ]  # fmt: skip
    return markdown(columns, lines)


if __name__ == "__main__":
    main()
