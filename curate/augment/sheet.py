"""What would be made, to look at before it is: parents beside some of their children, with what is labelled on them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np

from curate.augment.labels import mask_of
from curate.augment.making import Drawn, Job
from curate.augment.plan import Plan
from curate.errors import InputError
from curate.imaging import Pixels, load_pixels
from curate.recipes.preview import contact_sheet, require_format

ROWS: Final = 6
COLUMNS: Final = 3

_LINE: Final = (255, 0, 200)


def write_preview(plan: Plan, path: Path) -> None:
    """Write a contact sheet of what a plan would make: the first parents of it, each with several children.

    Raises:
        UsageError: The file's ending is neither PNG's nor JPEG's.
        InputError: Not one image can be made.
    """
    require_format(path)
    rows = []
    failed = ""
    for parent in list({job.parent.image_id: job.parent for job in plan.jobs}.values())[:ROWS]:
        children = [plan.maker.draw(Job(parent, repeat, "", "", "")) for repeat in range(COLUMNS)]
        drawn = [each for each in children if isinstance(each, Drawn)]
        failed = next((each for each in children if isinstance(each, str)), failed)
        if drawn:
            shown = [_outlined(each) for each in drawn]
            blank = np.full_like(shown[0], 255)
            rows.append([load_pixels(parent.path), *shown, *[blank] * (COLUMNS - len(shown))])
    if not rows:
        raise InputError(
            f"not one image can be made: {failed}", where=plan.maker.name, remedy="other images with --from"
        )
    contact_sheet(rows, ["parent", *[plan.maker.name] * COLUMNS], path)


def _outlined(drawn: Drawn) -> Pixels:
    """An image with the outlines of what is labelled on it."""
    pixels = np.ascontiguousarray(drawn.pixels).copy()
    height, width = pixels.shape[:2]
    thickness = max(round(max(height, width) / 400), 1)
    for _, shape in drawn.labels:
        mask = mask_of(shape, height, width)
        if mask is not None:
            found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
            cv2.drawContours(pixels, found, -1, _LINE, thickness)
        elif shape.bbox is not None:
            x, y, w, h = (round(value) for value in shape.bbox)
            cv2.rectangle(pixels, (x, y), (x + w, y + h), _LINE, thickness)
    return pixels
