"""What the examples share: their arguments, curate's command line as a child, timing, the result and the picture."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import vl_convert
from PIL import Image, ImageDraw

Row = dict[str, Any]

_CURATE = "from curate.cli import main; main()"
_MOST_BYTES = 150_000
_CAPTION = 16  # pixels of a line


@dataclass
class Example:
    """One run of an example.

    Attributes:
        work: Folder of everything that it writes, `result.json` and `picture.png` among it.
        small: Whether it is the form that the tests run.
        seed: Of everything random.
        result: What `finish` writes; `seconds` has the time of each `step`.
    """

    work: Path
    small: bool
    seed: int
    result: Row = field(default_factory=dict)

    def curate(self, *arguments: object, status: Sequence[int] = (0,)) -> list[Row]:
        """Run a command of curate with --json, its datasets in the work folder; the objects that it prints.

        Raises:
            SystemExit: It ended with none of the statuses; what it said is shown.
        """
        command = [str(argument) for argument in arguments]
        print("$ curate", " ".join(command), file=sys.stderr, flush=True)
        environment = os.environ | {"CURATE_HOME": str(self.work / "home")}
        done = subprocess.run(
            [sys.executable, "-c", _CURATE, *command, "--json"], capture_output=True, text=True, env=environment
        )
        if done.returncode not in status:
            raise SystemExit(f"curate {' '.join(command)} ended with {done.returncode}:\n{done.stderr or done.stdout}")
        return [json.loads(line) for line in done.stdout.splitlines()]

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the seconds of what is done within to the result."""
        began = time.perf_counter()
        yield
        seconds = self.result.setdefault("seconds", {})
        seconds[name] = round(seconds.get(name, 0.0) + time.perf_counter() - began, 1)

    def finish(self, picture: Image.Image, table: Sequence[Sequence[object]], **result: object) -> None:
        """Write the result and the picture, and print a table whose first row is its head."""
        self.result |= {"small": self.small, "seed": self.seed, **result}
        (self.work / "result.json").write_text(json.dumps(self.result, indent=1, default=float) + "\n")
        save_picture(picture, self.work / "picture.png")
        rows = [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row] for row in table]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def start(description: str, name: str) -> Example:
    """Read the arguments, and make the work folder anew."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--small", action="store_true", help="less data and fewer steps, as the tests run it")
    parser.add_argument("--work", type=Path, default=Path("work") / name, help="a folder, new or empty")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.work.exists() and any(given.work.iterdir()):
        parser.error(f"{given.work} is not empty: delete it, or name another folder with --work")
    given.work.mkdir(parents=True, exist_ok=True)
    return Example(given.work.absolute(), given.small, given.seed)


def tiles(pictures: Sequence[tuple[npt.NDArray[np.uint8], str]], *, columns: int = 6, side: int = 110) -> Image.Image:
    """Pictures, RGB of any size, beside one another, each with lines of text below it."""
    lines = max(text.count("\n") + 1 for _, text in pictures)
    high = side + _CAPTION * lines + 6
    sheet = Image.new("RGB", (columns * (side + 6), -(-len(pictures) // columns) * high), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (pixels, text) in enumerate(pictures):
        left, top = place % columns * (side + 6) + 3, place // columns * high + 3
        whole = Image.fromarray(pixels)
        whole.thumbnail((side, side)) if max(whole.size) > side else None
        scale = side / max(whole.size)
        sheet.paste(whole.resize((round(whole.width * scale), round(whole.height * scale))), (left, top))
        pen.multiline_text((left, top + side + 2), text, fill="black", spacing=2)
    return sheet


def chart(specification: Mapping[str, Any], *, width: int = 560) -> Image.Image:
    """A chart from its Vega-Lite description."""
    from io import BytesIO

    whole = {"width": width, "height": 220, "background": "white", **specification}
    return Image.open(BytesIO(vl_convert.vegalite_to_png(whole, scale=1.0))).convert("RGB")


def stacked(*pictures: Image.Image) -> Image.Image:
    """Pictures below one another."""
    sheet = Image.new("RGB", (max(each.width for each in pictures), sum(each.height for each in pictures)), "white")
    top = 0
    for each in pictures:
        sheet.paste(each, (0, top))
        top += each.height
    return sheet


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG file of less than 150 KB, with fewer colours where it would be larger."""
    for colors in (256, 128, 64, 32):
        picture.convert("RGB").quantize(colors, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size < _MOST_BYTES:
            return
    raise ValueError(f"{path} has {path.stat().st_size:,} bytes; draw a smaller picture")
