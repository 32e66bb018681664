"""Making all that was planned: on all cores, streaming, each image whole or not there, and on where a killed run stopped."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow as pa

from curate.augment.making import Job, Made, Maker
from curate.engine.local import default_threads
from curate.engine.workers import run_workers
from curate.errors import InputError
from curate.files import flush_files
from curate.models.passes import Progress
from curate.models.spool import Spool, discard

FEW: Final = 48
"""Images up to which one process is done sooner than others have started."""

PART_SECONDS: Final = 3.0
"""Work that is lost at most when a process is killed."""

_SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        pa.field("annotations", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Synthesis:
    """What was made.

    Attributes:
        made: Each new image with its annotations, in the order of the plan.
        reused: How many of them an interrupted run had made.
        failed: Why there is no image, and how often.
        parts: Files of the spool, which may go once the images are stored.
    """

    made: list[Made]
    reused: int
    failed: Counter[str] = field(default_factory=Counter)
    parts: tuple[Path, ...] = ()

    def discard_spool(self) -> None:
        """Delete the spool's files."""
        discard(self.parts)


def synthesise(
    maker: Maker, jobs: Sequence[Job], spool: Path, *, workers: int | None = None, progress: Progress | None = None
) -> Synthesis:
    """Make images; what an interrupted run has made is used.

    Args:
        maker: How.
        jobs: Which.
        spool: Folder where the labels of finished images wait; made if it is not there.
        workers: Processes; None for one per core.
        progress: Told (images done, images to do).

    Raises:
        InputError: The disk is full, or files cannot be written: what was made stays, and the next run goes on from there.
    """
    maker.folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    finished = Spool(spool, _SCHEMA, maker.digest, seconds=PART_SECONDS, before=lambda: _flush(written))
    done = _finished(finished, maker, jobs)
    todo = [job for job in jobs if job.image_id not in done]
    reused, failed = len(done), Counter[str]()
    here = len(todo) <= FEW
    count = default_threads() if workers is None else workers
    try:
        with closing(finished), closing(run_workers(maker, todo, workers=count, here=here)) as results:
            for number, made in enumerate(results, 1):
                if made.fatal:
                    raise OSError(made.reason)
                if made.image is None:
                    failed[made.reason] += 1
                else:
                    done[made.job.image_id] = made
                    written.append(maker.folder / Path(made.job.location).name)
                    finished.add(_columns(made))
                if progress is not None:
                    progress(number, len(todo))
    except OSError as error:  # of an image, or of what is noted of it
        raise InputError(
            str(error),
            where=maker.folder,
            remedy=f"free space and run it again: the {len(done):,} images that are made stay",
        ) from error
    return Synthesis([done[job.image_id] for job in jobs if job.image_id in done], reused, failed, finished.parts())


def _flush(written: list[Path]) -> None:
    """Images outlast a power cut before anything says that they are there."""
    flush_files(written)
    written.clear()


def _finished(spool: Spool, maker: Maker, jobs: Sequence[Job]) -> dict[str, Made]:
    """What an interrupted run has made of the jobs, as long as the files are there."""
    wanted = {job.image_id: job for job in jobs}
    found = {}
    for piece in spool.pieces():
        for row in piece.to_pylist():
            job = wanted.get(row["id"])
            if job is not None and job.fingerprint == row["fingerprint"]:
                image = json.loads(row["image"])
                if (maker.folder / Path(image["location"]).name).is_file():
                    found[row["id"]] = Made(job, image, tuple(json.loads(row["annotations"])))
    return found


def _columns(made: Made) -> Iterator[pa.Array]:
    for value in (made.job.image_id, made.job.fingerprint, json.dumps(made.image), json.dumps(made.annotations)):
        yield pa.array([value], pa.string())
