"""What would be made, to look at before it is: parents beside some of their children, with what is labelled on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from curate.augment.labels import mask_of
from curate.augment.making import Drawn, Job
from curate.augment.plan import Plan
from curate.errors import ImageError, InputError
from curate.imaging import Pixels, load_pixels
from curate.recipes.preview import contact_sheet, require_format

ROWS: Final = 6
COLUMNS: Final = 3

_LINE: Final = (255, 0, 200)


def write_preview(plan: Plan, path: Path) -> int:
    """Write a contact sheet of what a plan would make: the first parents of it, each beside the children that it would have.

    Returns:
        How many children are shown; each is what the plan would make of it, pixel by pixel before its file is encoded.

    Raises:
        UsageError: The file's ending is neither PNG's nor JPEG's, or its folder is not there.
        InputError: Not one image can be made.
    """
    require_format(path)
    rows: list[list[Pixels]] = []
    failed = ""
    for jobs in list(_by_parent(plan.jobs).values())[:ROWS]:
        drawn = [_drawn(plan, job) for job in jobs[:COLUMNS]]
        failed = next((each for each in drawn if isinstance(each, str)), failed)
        shown = [_outlined(each) for each in drawn if isinstance(each, Drawn)]
        if shown:
            rows.append([load_pixels(jobs[0].parent.path), *shown])
    if not rows:
        raise InputError(
            f"not one image can be made: {failed}", where=plan.maker.name, remedy="other images with --from"
        )
    columns = max(map(len, rows))
    filled = [[*row, *[np.full_like(row[-1], 255)] * (columns - len(row))] for row in rows]
    contact_sheet(filled, ["parent", *[plan.maker.name] * (columns - 1)], path)
    return sum(len(row) - 1 for row in rows)


def _by_parent(jobs: Sequence[Job]) -> dict[str, list[Job]]:
    found: dict[str, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.parent.image_id, []).append(job)
    return found


def _drawn(plan: Plan, job: Job) -> Drawn | str:
    """What a job would make, or why it makes nothing."""
    try:
        return plan.maker.draw(job)
    except ImageError as error:
        return error.what


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
