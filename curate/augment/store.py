"""New images as rows of their dataset, or as a COCO folder of their own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from curate.augment.making import Job, Made
from curate.dataset import Dataset, Transaction
from curate.dataset.ids import annotation_ids, from_ids
from curate.dataset.schema import ANNOTATIONS, GROUND_TRUTH, IMAGES
from curate.dataset.synthetic import SYNTHETIC, is_synthetic
from curate.errors import InputError, UsageError
from curate.formats.base import Export, WriteOptions
from curate.formats.coco.write import write
from curate.formats.importing import class_infos
from curate.formats.losses import LossReport
from curate.names import SETTINGS

_SOURCE: Final = "curate augment"
_MADE: Final = ".curate-augment.json"
"""In such a folder: which jobs its images were made by, and which files it had."""


def image_rows(made: Sequence[Made]) -> pa.Table:
    """New images with the columns of `curate.dataset.schema.IMAGES`."""
    return pa.Table.from_pylist([each.image for each in made if each.image is not None], schema=IMAGES)


def annotation_rows(made: Sequence[Made]) -> pa.Table:
    """Their annotations with the columns of `curate.dataset.schema.ANNOTATIONS`, in the ground truth."""
    rows = [{**row, "image_id": each.job.image_id} for each in made for row in each.annotations]
    if not rows:
        return ANNOTATIONS.empty_table()
    ids = annotation_ids(from_ids([row["image_id"] for row in rows]), GROUND_TRUTH, _SOURCE)
    table = pa.Table.from_pylist(
        [{**row, "layer": GROUND_TRUTH, "annotation_id": ""} for row in rows], schema=ANNOTATIONS
    )
    return table.set_column(0, ANNOTATIONS.field("annotation_id"), ids)


def add_to_dataset(transaction: Transaction, made: Sequence[Made]) -> None:
    """Write new images and their annotations, in place of what the same jobs made before; the transaction makes the commit."""
    if not made:
        return
    images, annotations = image_rows(made), annotation_rows(made)
    ids = images["image_id"].combine_chunks()
    before = transaction.read("images", columns=["image_id"])["image_id"]
    replaced = ids.filter(pc.is_in(ids, value_set=before.combine_chunks()))
    if len(replaced):
        transaction.delete("annotations", "image_id", replaced)
    transaction.upsert("images", images, "image_id")
    transaction.append("annotations", [annotations])
    transaction.count("synthetic images added", len(made) - len(replaced))
    transaction.count("synthetic images replaced", len(replaced))
    transaction.count("annotations added", annotations.num_rows)


def require_new_folder(target: Path) -> None:
    """See that a folder can be made, before anything is done for it.

    Raises:
        UsageError: Something is there already, or nothing can be made there.
    """
    if target.exists() or target.is_symlink():
        raise UsageError("the folder is there already", where=target, remedy="choose another --output")
    above = next((each for each in target.absolute().parents if each.exists()), Path(target.anchor))
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        what = "no folder can be made in it" if above.is_dir() else "this is no folder"
        raise UsageError(what, where=above, remedy="choose another --output")


def holds_jobs(target: Path, jobs: Sequence[Job]) -> bool:
    """Whether a folder is what `write_folder` made of just these jobs, with the same files in it.

    Args:
        target: The folder, which may be anything.
        jobs: What is to be made.
    """
    try:
        content = json.loads((target / _MADE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(content == {"jobs": digest_of(jobs), "files": _files_in(target)})


def digest_of(jobs: Sequence[Job]) -> str:
    """Of what is to be made, and from what; 16 hexadecimal digits."""
    said = sorted([job.image_id, job.fingerprint] for job in jobs)
    return hashlib.blake2b(json.dumps(said).encode(), digest_size=8).hexdigest()


def _files_in(folder: Path) -> list[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if path != _MADE)


def unfinished(target: Path) -> Path:
    """Where the images of a folder wait until it can appear whole: beside it, so that they go with it and not with a dataset."""
    return target.with_name(f".{target.name}.unfinished")


def write_folder(dataset: Dataset, made: Sequence[Made], target: Path, jobs: Sequence[Job]) -> LossReport:
    """Write new images as a COCO folder, which appears whole or not at all.

    Args:
        dataset: Of their parents.
        made: The images.
        target: The folder.
        jobs: All that was to be made, of which some may not have become an image; told in the folder.

    Raises:
        UsageError: The target is there already.
        InputError: It cannot be written.
    """
    require_new_folder(target)
    info = {key: value for key, value in dataset.commit.info.items() if key not in SETTINGS}
    images = image_rows(made)
    export = Export(images, annotation_rows(made), class_infos(dataset), info)
    losses = LossReport()
    temporary = unfinished(target) / f"whole-{os.getpid()}"
    try:
        temporary.mkdir(parents=True)
        write(export, temporary, WriteOptions(images="copy"), losses)
        told = {"jobs": digest_of(jobs), "files": _files_in(temporary)}
        (temporary / _MADE).write_text(json.dumps(told), encoding="utf-8")
        temporary.rename(target)
    except OSError as error:
        raise InputError(
            f"the images cannot be written: {error}", where=target, remedy="free space, or choose another --output"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return losses


def stored_jobs(dataset: Dataset, jobs: Sequence[Job]) -> frozenset[str]:
    """Ids of the images among n jobs that the dataset has already, made from what the parents still are."""
    wanted = {job.image_id: job.fingerprint for job in jobs}
    images = dataset.table("images", columns=["image_id", "metadata"])
    images = images.filter(pc.is_in(images["image_id"], value_set=pa.array(sorted(wanted), pa.string())))
    images = images.filter(pa.array(is_synthetic(images)))
    return frozenset(
        row["image_id"]
        for row in images.to_pylist()
        if json.loads(row["metadata"])[SYNTHETIC].get("fingerprint") == wanted[row["image_id"]]
    )
