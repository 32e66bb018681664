"""Small rendered datasets to train on: shapes of three classes on noise, one of each image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from curate.cli import app

SHAPES = ("cross", "disc", "square")


def draw(shape: str, rng: np.random.Generator, size: int = 48) -> Image.Image:
    """A shape somewhere on an image of dark noise."""
    image = Image.fromarray(rng.integers(0, 80, (size, size, 3), dtype=np.uint8))
    pen = ImageDraw.Draw(image)
    (x, y), side = rng.uniform(4, size - 24, 2), rng.uniform(14, 20)
    colour = tuple(int(value) for value in rng.integers(120, 255, 3))
    if shape == "disc":
        pen.ellipse([x, y, x + side, y + side], fill=colour)
    elif shape == "square":
        pen.rectangle([x, y, x + side, y + side], fill=colour)
    else:
        pen.line([x, y, x + side, y + side], fill=colour, width=4)
        pen.line([x + side, y, x, y + side], fill=colour, width=4)
    return image


def draw_folders(folder: Path, each: int, *, splits: tuple[str, ...] = ("",), seed: int = 0) -> Path:
    """A folder for each class, below one for each split, of `each` images; returns the folder."""
    rng = np.random.default_rng(seed)
    for split in splits:
        for shape in SHAPES:
            for number in range(each):
                path = folder / split / shape / f"{number:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                draw(shape, rng).save(path)
    return folder


def import_folders(folder: Path, name: str = "shapes") -> None:
    """Import them as a dataset."""
    result = CliRunner().invoke(app, ["import", str(folder), "-d", name])
    assert result.exit_code == 0, result.stderr
