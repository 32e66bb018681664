"""Making one new image from a parent: things put on it, the recipe, its labels, its file. Runs in any process."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.augment.copy_paste import Ground, paste_object
from curate.augment.encoding import Encoding, encode, encoding_of, is_transparent
from curate.augment.labels import Label, mask_of, to_row
from curate.augment.objects import Donor
from curate.augment.parents import Parent
from curate.augment.scene import Scene
from curate.augment.seen import shows_nothing
from curate.augment.transplant import Defect, transplant
from curate.dataset.ids import hash_text
from curate.dataset.synthetic import SYNTHETIC, synthetic_metadata
from curate.errors import CurateError, ImageError
from curate.files import write_atomic
from curate.imaging import Pixels, load_pixels
from curate.models.depth.maps import DepthMaps
from curate.recipes.pipeline import Pipeline, leaves
from curate.recipes.shapes import Shape

MOST_OBJECTS: Final = 3
MOST_DEFECTS: Final = 2

BY_DEPTH: Final = "FogWithDepth"
"""The transform that asks how far away things are."""

_LONGEST_STEM: Final = 80


@dataclass(frozen=True)
class Job:
    """One image to make.

    Attributes:
        parent: From which.
        repeat: How many were made from it before.
        location: Of the new image in its dataset.
        image_id: Its id.
        fingerprint: Changes when the parent's file or labels do.
    """

    parent: Parent
    repeat: int
    location: str
    image_id: str
    fingerprint: str


@dataclass(frozen=True)
class Made:
    """What became of a job.

    Attributes:
        job: Which.
        image: Columns of the new image; None where there is none.
        annotations: Columns of its annotations, without ids.
        reason: Why there is none.
        fatal: Whether nothing further can be made either: the disk is full.
    """

    job: Job
    image: dict[str, Any] | None = None
    annotations: tuple[dict[str, Any], ...] = ()
    reason: str = ""
    fatal: bool = False


@dataclass(frozen=True)
class Drawn:
    """A new image before it is a file.

    Attributes:
        pixels: What it looks like.
        labels: What is on it, with what is drawn of each.
        parents: Ids of the images whose pixels are in it.
        applied: What was done, JSON-ready.
        encoding: Of its file.
    """

    pixels: Pixels
    labels: list[tuple[Label, Shape]]
    parents: tuple[str, ...]
    applied: list[dict[str, Any]]
    encoding: Encoding


@dataclass(frozen=True)
class Maker:
    """How new images are made; the same job gives the same bytes.

    Attributes:
        name: Of the recipe, for tags and folders.
        digest: Of all that decides what an image becomes.
        seed: Of everything random.
        folder: Where files go; it is there already.
        pipeline: The recipe; None where things are only put on images.
        objects: What can be pasted, by class.
        weights: How often each class is pasted in proportion; as many as `objects`.
        ground: Where objects of each class are seen.
        defects: What can be transplanted, by class.
        maps: How far away things are; None where that is not known.
    """

    name: str
    digest: str
    seed: int
    folder: Path
    pipeline: Pipeline | None = None
    objects: Mapping[str, Sequence[Donor]] = field(default_factory=dict)
    weights: Sequence[float] = ()
    ground: Mapping[str, Ground] = field(default_factory=dict)
    defects: Mapping[str, Sequence[Defect]] = field(default_factory=dict)
    maps: DepthMaps | None = None
    _rows: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        steps = () if self.pipeline is None else self.pipeline.recipe.steps
        asks = bool(self.objects) or any(step.transform == BY_DEPTH for step in leaves(steps))
        ids = self.maps.table["id"].to_pylist() if self.maps is not None and asks else []
        object.__setattr__(self, "_rows", {image_id: row for row, image_id in enumerate(ids)})

    def __call__(self, job: Job) -> Made:
        """Make one image, and write its file; it is whole, or not there, but not flushed to disk (`curate.files.flush_files`)."""
        try:
            return self._make(job)
        except CurateError as error:
            return Made(job, reason=error.what)
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            return Made(job, reason="the disk is full" if full else f"the image cannot be written: {error}", fatal=True)

    def _make(self, job: Job) -> Made:
        drawn = self.draw(job)
        if isinstance(drawn, str):
            return Made(job, reason=drawn)
        write_atomic(self.folder / Path(job.location).name, encode(drawn.pixels, drawn.encoding), flush=False)
        height, width = drawn.pixels.shape[:2]
        rows = tuple(to_row(label, shape, height, width) for label, shape in drawn.labels)
        return Made(job, self._row(job, drawn), rows)

    def knows_depth(self, image_id: str) -> bool:
        """Whether there is a map of how far away things are on an image."""
        return image_id in self._rows

    def draw(self, job: Job) -> Drawn | str:
        """What one image would be, without writing it; or why there is none.

        Raises:
            ImageError: Its parent cannot be read, or has more than 8 bits.
            InputError: The recipe cannot be done to it.
        """
        parent = job.parent
        encoding = encoding_of(parent.path)
        if encoding.alpha and is_transparent(parent.path):
            return "parts of its parent are transparent, which would be lost"
        pixels = own = load_pixels(parent.path)
        rng = np.random.default_rng([self.seed, hash_text(parent.image_id), job.repeat])
        depth, metric = self._depth(parent.image_id, pixels.shape[:2])
        labels: tuple[Label, ...] = parent.labels
        parents: tuple[str, ...] = (parent.image_id,)
        told: list[dict[str, Any]] = []
        if self.objects or self.defects:
            scene = Scene.of(pixels, labels, parent.image_id, depth if metric else None)
            scene, told = self._put(scene, rng)
            if not told:
                return "no place was found for anything"
            pixels, labels, parents = scene.pixels, scene.labels, scene.parents
        shapes = [label.shape for label in labels]
        if self.pipeline is not None:
            applied = self.pipeline(pixels, rng, shapes, depth)
            pixels = applied.pixels
            left = [(label, shape) for label, shape in zip(labels, applied.shapes, strict=True) if shape is not None]
            told += [{"transform": step.transform, **step.params} for step in applied.applied]
        else:
            left = list(zip(labels, shapes, strict=True))
        if labels and not left:
            return "all its labels have left the image"
        if shows_nothing(pixels, own):
            return "nothing is to be seen on it any more: too dark, too bright, or moved away"
        return Drawn(pixels, left, parents, told, encoding)

    def _put(self, scene: Scene, rng: np.random.Generator) -> tuple[Scene, list[dict[str, Any]]]:
        """Put objects and defects on a scene; what was done, nothing where no place was found."""
        told: list[dict[str, Any]] = []
        if self.objects:
            names, chances = list(self.objects), np.asarray(self.weights) / sum(self.weights)
            for _ in range(int(rng.integers(1, MOST_OBJECTS + 1))):
                name = names[int(rng.choice(len(names), p=chances))]
                done = paste_object(scene, self.objects[name], self.ground[name], rng, self._distance)
                if done is not None:
                    scene, told = done, [*told, {"pasted": name, "of": done.labels[-1].annotation_id}]
        if self.defects:
            names = list(self.defects)
            for _ in range(int(rng.integers(1, MOST_DEFECTS + 1))):
                name = names[int(rng.integers(len(names)))]
                done = transplant(scene, self.defects[name], rng)
                if done is not None:
                    scene, told = done, [*told, {"transplanted": name, "of": done.labels[-1].annotation_id}]
        return scene, told

    def _depth(self, image_id: str, size: tuple[int, ...]) -> tuple[npt.NDArray[np.float32] | None, bool]:
        """The map of an image at its own size, and whether it is in metres; None where there is none."""
        row = self._rows.get(image_id)
        if self.maps is None or row is None:
            return None, False
        import cv2

        found = self.maps.read(row)
        scaled = cv2.resize(found, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
        return np.asarray(scaled, dtype=np.float32), bool(self.maps.table["metric"][row].as_py())

    def _distance(self, donor: Donor) -> float | None:
        """How far away a thing is on its own image, metres; None where that is not known."""
        depth, metric = self._depth(donor.parent.image_id, (donor.parent.height, donor.parent.width))
        mask = mask_of(donor.label.shape, donor.parent.height, donor.parent.width)
        if depth is None or not metric or mask is None:
            return None
        values = depth[mask & np.isfinite(depth)]
        return float(np.median(values)) if len(values) else None

    def _row(self, job: Job, drawn: Drawn) -> dict[str, Any]:
        about = {
            "recipe": self.name, "digest": self.digest, "seed": self.seed, "repeat": job.repeat,
            "fingerprint": job.fingerprint, "applied": list(drawn.applied),
        }  # fmt: skip
        return {
            "image_id": job.image_id,
            "location": job.location,
            "path": str(self.folder / Path(job.location).name),
            "width": drawn.pixels.shape[1],
            "height": drawn.pixels.shape[0],
            "split": job.parent.split,
            "tags": [SYNTHETIC, f"augment:{self.name}"],
            "group": job.parent.group,
            "metadata": synthetic_metadata(drawn.parents, about),
        }


def plan_jobs(
    parents: Sequence[Parent], uses: Sequence[tuple[int, int]], *, name: str, digest: str, seed: int
) -> list[Job]:
    """What is to be made; the same for the same arguments, so that a run goes on where another stopped.

    Args:
        parents: The images.
        uses: Number of a parent, and how often it was used before (`curate.augment.balance.deal`).
        name: Of the recipe.
        digest: Of all that decides what an image becomes.
        seed: The same.
    """
    known: dict[int, tuple[str, str]] = {}
    jobs = []
    for number, repeat in uses:
        parent = parents[number]
        if number not in known:
            known[number] = _fingerprint(parent), _suffix(parent)
        fingerprint, suffix = known[number]
        stem = Path(parent.location).stem[:_LONGEST_STEM]
        location = f"augment/{name}-{digest[:8]}/{stem}-{parent.image_id[:8]}-s{seed}-{repeat}{suffix}"
        jobs.append(Job(parent, repeat, location, f"{hash_text(location):016x}", fingerprint))
    return jobs


def _suffix(parent: Parent) -> str:
    try:
        return encoding_of(parent.path).suffix
    except ImageError:  # making the image says so
        return ".png"


def _fingerprint(parent: Parent) -> str:
    """Changes with the parent's file and its labels; 16 hexadecimal digits."""
    status = Path(parent.path).stat()
    said = [status.st_size, status.st_mtime_ns, [_said(label) for label in parent.labels]]
    return hashlib.blake2b(json.dumps(said).encode(), digest_size=8).hexdigest()


def _said(label: Label) -> list[Any]:
    shape = label.shape
    drawn = [shape.type, shape.bbox, shape.rotated_box, shape.polygons, shape.rle, shape.keypoints]
    return [label.annotation_id, label.label, drawn, label.area, label.iscrowd, label.attributes]
