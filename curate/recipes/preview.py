"""What a recipe does, to look at: images beside some of their changes, on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from curate.errors import UsageError
from curate.files import in_folder, write_atomic
from curate.imaging import Pixels, resize
from curate.recipes.pipeline import Pipeline
from curate.recipes.recipe import Recipe

_GAP: Final = 6
_TITLE: Final = 16
_PAPER: Final = (255, 255, 255)
_INK: Final = (40, 40, 40)
_FORMATS: Final = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def preview(
    recipe: Recipe | Sequence[Recipe],
    images: Sequence[Pixels],
    path: str | Path,
    *,
    depths: Sequence[npt.ArrayLike | None] | None = None,
    columns: int = 4,
    side: int = 256,
    seed: int = 0,
) -> None:
    """Write a contact sheet: a row for each image, first as it is and then changed.

    Args:
        recipe: One, whose every column is another draw; or several, with a column each.
        images: At least one.
        path: PNG or JPEG that is written or replaced.
        depths: Map of depth of each image, for fog.
        columns: How many draws of one recipe.
        side: Longer side of an image on the sheet, pixels. Recipes are done to the images at their own size.
        seed: Of the draws.

    Raises:
        UsageError: There are no images, the file's ending is of neither format, or its folder is not there.
        InputError: A recipe cannot be done.
    """
    require_format(path)
    if not images:
        raise UsageError("there are no images for the contact sheet", remedy="give at least one")
    shown = [recipe] * columns if isinstance(recipe, Recipe) else list(recipe)
    pipelines = {id(each): Pipeline(each) for each in shown}
    titles = ["original", *(each.name for each in shown)]
    rows = []
    for number, pixels in enumerate(images):
        depth = None if depths is None else depths[number]
        rngs = (np.random.default_rng([seed, number, column]) for column in range(len(shown)))
        changed = [
            pipelines[id(each)].draw(pixels, rng, depth=depth).pixels for each, rng in zip(shown, rngs, strict=True)
        ]
        rows.append([pixels, *changed])
    contact_sheet(rows, titles, path, side=side)


def contact_sheet(
    rows: Sequence[Sequence[Pixels]], titles: Sequence[str], path: str | Path, *, side: int = 256
) -> None:
    """Write images in rows and columns.

    Args:
        rows: Each with an image for each title.
        titles: Of the columns.
        path: PNG or JPEG that is written or replaced.
        side: Longer side of an image on the sheet, pixels.

    Raises:
        UsageError: The file's ending is of neither format.
    """
    form = require_format(path)
    content = BytesIO()
    fitted = [[_fitted(each, side) for each in row] for row in rows]
    _sheet(fitted, titles, side).save(content, format=form, quality=92)
    write_atomic(Path(path), content.getvalue())


def require_format(path: str | Path) -> str:
    """The format that a sheet's file name asks for, as Pillow calls it.

    Raises:
        UsageError: It is neither PNG nor JPEG, or the folder is not there.
    """
    suffix = Path(path).suffix
    if suffix.lower() not in _FORMATS:
        raise UsageError(f"a contact sheet cannot be written as {suffix or 'a file of no ending'}", remedy="use .png")
    in_folder(Path(path))
    return _FORMATS[suffix.lower()]


def _fitted(pixels: Pixels, side: int) -> Pixels:
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    return resize(pixels, (max(round(width * scale), 1), max(round(height * scale), 1)))


def _sheet(rows: Sequence[Sequence[Pixels]], titles: Sequence[str], side: int) -> Image.Image:
    heights = [max(each.shape[0] for each in row) for row in rows]
    width = len(titles) * (side + _GAP) + _GAP
    sheet = Image.new("RGB", (width, _TITLE + sum(heights) + _GAP * (len(rows) + 1)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((_GAP + column * (side + _GAP), 3), title, fill=_INK)
    top = _TITLE + _GAP
    for row, height in zip(rows, heights, strict=True):
        for column, pixels in enumerate(row):
            left = _GAP + column * (side + _GAP) + (side - pixels.shape[1]) // 2
            sheet.paste(Image.fromarray(pixels), (left, top + (height - pixels.shape[0]) // 2))
        top += height + _GAP
    return sheet
