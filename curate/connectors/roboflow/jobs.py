"""Annotation jobs: every batch that curate filled becomes one, once."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from typing import Any, Final

from curate.connectors.base import NewItem
from curate.connectors.roboflow.api import Api
from curate.formats.losses import LossReport
from curate.formats.values import text

LABELER: Final = "CURATE_ROBOFLOW_LABELER"
REVIEWER: Final = "CURATE_ROBOFLOW_REVIEWER"
"""Environment variables: the e-mail addresses of those who get the jobs; without a reviewer the labeler is it."""

_BATCH: Final = "curate"
_ASKED: Final = 6
_INSTRUCTIONS: Final = (
    "Tags that start with 'curate-' name what may be wrong with an image; its metadata says what, and where. "
    "Correct it, or leave it as it is if it is right, then take the tag off."
)


def batch_name(ordered: Sequence[NewItem]) -> str:
    """The same for the same images: a push that goes on where it stopped fills the same batch.

    Args:
        ordered: The images, the highest score first.
    """
    ids = "\n".join(sorted(item.image_id for item in ordered))
    digest = hashlib.blake2b(ids.encode(), digest_size=4).hexdigest()
    return f"{_BATCH} {ordered[0].priority:.2f} to {ordered[-1].priority:.2f} ({digest})"


def tell_unassigned(losses: LossReport, place: object) -> None:
    """Say so where nobody is named who gets the jobs."""
    if not os.environ.get(LABELER):
        reason = f"no annotation job was made of the batch: {LABELER} is to hold the e-mail address of a member"
        losses.converted("batches", reason, place)


def assign(api: Api, project: str, batch: str | None = None) -> None:
    """Make a job of every batch of curate's that has none: of earlier ones too, whose push was cut off.

    Args:
        api: The workspace.
        project: The project.
        batch: Name of a batch that was just filled.
    """
    labeler = os.environ.get(LABELER)
    if not labeler:
        return
    for each in _waiting(api, project, batch):
        job = {
            "name": each["name"],
            "batch": each["id"],
            "num_images": each["images"],
            "labelerEmail": labeler,
            "reviewerEmail": os.environ.get(REVIEWER) or labeler,
            "instructionText": _INSTRUCTIONS,
        }
        api.create_job(project, job)


def _waiting(api: Api, project: str, batch: str | None) -> list[dict[str, Any]]:
    """curate's batches without a job, once a batch that was just filled is listed."""
    own: list[dict[str, Any]] = []
    for attempt in range(_ASKED):
        if attempt:
            time.sleep(api.pause * 2**attempt)
        own = [each for each in api.batches(project) if text(each.get("name")).startswith(f"{_BATCH} ")]
        if batch is None or any(each["name"] == batch for each in own):
            break
    return [each for each in own if each.get("images") and not each.get("numJobs")]
