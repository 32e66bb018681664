"""Pictures of one part each, in batches: of chosen classes, under chosen lamps, with wrong labels and copies as planted.

A batch is what came in one day: `Batch("train", 400, mislabeled=0.1)`, or one whose mix of classes has shifted
(`classes={"bolt": 3, "nut": 1}`), or whose lamp was changed (`lamps={"dim": 1}`). Each is written as a folder of class
folders and as a COCO file with masks, so that classifiers, detectors and segmenters learn from the same pictures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from curate.demo.coco import Labelled, Region, write_coco
from curate.demo.faults import CONFUSIONS
from curate.demo.parts import Part, sample_part
from curate.demo.render import PART_LABELS, Camera, compose, encode_jpeg, expose, lay_ground, sample_finish
from curate.demo.shading import LIGHTINGS, RGB, sample_lighting
from curate.demo.sprites import Mask, Pose, draw_part
from curate.demo.surfaces import SURFACES, sample_surface
from curate.errors import UsageError
from curate.files import write_atomic
from curate.imaging import Pixels, load_pixels

CROPS_TRUTH: Final = "crops.json"

_SHARE: Final = (0.30, 0.43)  # of the picture's side, from the part's centre to its farthest point
_OFF: Final = 0.05  # of the side, that a part lies off the middle
_EXACT: Final = 0.5  # of the copies
_QUALITY: Final = 90


@dataclass(frozen=True)
class Batch:
    """What is asked of one batch.

    Attributes:
        name: Of its folder; one called train, val or test is that split.
        count: Of pictures, copies among them.
        classes: Shares of the classes, which need not sum to 1.
        lamps: Shares of the set-ups of `shading.LIGHTINGS`, likewise.
        mislabeled: Share of the pictures that are given another class, mostly one that looks like it.
        duplicates: Share of the pictures that are copies of others of the batch: half byte by byte, half saved anew
            and a little brighter. A copy has its original's label, right or wrong.
        exposure: Of the camera: 0.5 is what a lamp of half the strength comes to.
        white: Gains of red, green and blue: (1.2, 1, 0.6) is a lamp of warmer light.
    """

    name: str
    count: int
    classes: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(PART_LABELS, 1.0))
    lamps: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(LIGHTINGS, 1.0))
    mislabeled: float = 0.0
    duplicates: float = 0.0
    exposure: float = 1.0
    white: RGB = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Crop:
    """One picture as it really is.

    Attributes:
        batch: Name of its batch.
        file: Path below the set's `images`, with forward slashes.
        label: What it shows.
        given: What it is labelled.
        lamp: The set-up.
        copy_of: File that it is a copy of, or None.
    """

    batch: str
    file: str
    label: str
    given: str
    lamp: str
    copy_of: str | None = None


@dataclass(frozen=True)
class CropsSet:
    """A rendered set on disk.

    Attributes:
        root: Its folder: `images/BATCH/CLASS/*.jpg`, `annotations/instances_BATCH.json`, `crops.json`.
        crops: All pictures, as `crops.json` has them.
    """

    root: Path
    crops: tuple[Crop, ...]

    def folder(self, batch: str) -> Path:
        """Folder of a batch's class folders."""
        return self.root / "images" / batch

    def annotation_file(self, batch: str) -> Path:
        """COCO file of a batch, with masks."""
        return self.root / "annotations" / f"instances_{batch}.json"

    def mislabeled(self) -> dict[str, str]:
        """File names of wrongly labelled pictures, below their batch's folder, and what they really show."""
        return {crop.file.partition("/")[2]: crop.label for crop in self.crops if crop.label != crop.given}


def make_crops(target: Path, batches: Sequence[Batch], *, side: int = 96, seed: int = 0, workers: int = 2) -> CropsSet:
    """Render batches of single parts.

    Args:
        target: Folder to write into; made if need be, else empty.
        batches: What is wanted; their names must differ.
        side: Of the square pictures, pixels.
        seed: The same seed and batches give the same bytes, for any number of workers. A batch's pictures follow from
            the seed and its name, whatever other batches there are.
        workers: Threads that draw.

    Returns:
        The set.

    Raises:
        UsageError: The folder is not empty, a name comes twice, or a class or lamp is not known.
    """
    _check(target, batches)
    crops = [crop for batch in batches for crop in _write_batch(target, batch, side, seed, workers)]
    write_atomic(target / CROPS_TRUTH, json.dumps([asdict(crop) for crop in crops], indent=0).encode())
    return CropsSet(target, tuple(crops))


def load_crops(root: Path) -> CropsSet:
    """A set that `make_crops` has written."""
    return CropsSet(root, tuple(Crop(**row) for row in json.loads((root / CROPS_TRUTH).read_bytes())))


def render_crop(
    label: str,
    lamp: str,
    rng: np.random.Generator,
    *,
    side: int = 96,
    exposure: float = 1.0,
    white: RGB = (1.0, 1.0, 1.0),
) -> tuple[Pixels, Mask]:
    """One part on a conveyor, a bench or a tray.

    Args:
        label: Its class.
        lamp: One of `shading.LIGHTINGS`.
        rng: Of everything else.
        side: Of the picture, pixels.
        exposure: Gain of the camera.
        white: Gains of red, green and blue.

    Returns:
        The picture, uint8 of shape (side, side, 3), and the part's mask, bool of shape (side, side).
    """
    return draw_crop(partial(sample_part, label), lamp, rng, side=side, exposure=exposure, white=white)


def draw_crop(
    sample: Callable[[np.random.Generator], Part],
    lamp: str,
    rng: np.random.Generator,
    *,
    side: int,
    exposure: float = 1.0,
    white: RGB = (1.0, 1.0, 1.0),
    surfaces: Sequence[str] = tuple(SURFACES),
    angles: tuple[float, float] = (0.0, 2 * np.pi),
) -> tuple[Pixels, Mask]:
    """As `render_crop`, of the part that a function draws from the generator, on one of the surfaces, turned by radians."""
    camera = Camera(side, side, rng.uniform(0.5, 0.9), rng.uniform(1.5, 3.0), white, exposure, _QUALITY)
    lighting = sample_lighting(lamp, rng)
    part = sample(rng)
    surface = sample_surface(str(rng.choice(list(surfaces))), rng)
    canvas = lay_ground(surface, camera, rng.uniform(-200, 200), lighting)
    x, y = side / 2 + rng.uniform(-_OFF, _OFF, 2) * side
    lean = (rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2))
    scale = rng.uniform(*_SHARE) * side / max(part.extent)
    pose = Pose(x, y, scale, rng.uniform(*angles), rng.uniform(0, 0.4), rng.uniform(0, 2 * np.pi), lean)
    owner, _ = compose(canvas, [draw_part(part, (), pose, sample_finish(part, rng), lighting)], lighting)
    return expose(canvas, camera, lighting, None, rng), owner == 0


def _check(target: Path, batches: Sequence[Batch]) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError("the folder is not empty", where=target, remedy="choose a new one, or empty it first")
    names = [batch.name for batch in batches]
    if len(set(names)) < len(names):
        raise UsageError(f"two batches have one name: {', '.join(names)}", remedy="give each a name of its own")
    for batch in batches:
        unknown = [*(set(batch.classes) - set(PART_LABELS)), *(set(batch.lamps) - set(LIGHTINGS))]
        if unknown:
            known = f"classes: {', '.join(PART_LABELS)}; lamps: {', '.join(LIGHTINGS)}"
            raise UsageError(f"batch '{batch.name}' asks for '{unknown[0]}', which is not known", remedy=known)


def _write_batch(target: Path, batch: Batch, side: int, seed: int, workers: int) -> list[Crop]:
    """Render a batch and write its COCO file. Threads draw: the time goes into numpy and OpenCV, which let others run."""
    planned = _plan(batch, seed)
    regions: dict[str, Region] = {}

    def draw(number: int) -> Region:
        crop, rng = planned[number], np.random.default_rng([*_key(batch, seed), number])
        drawn = render_crop(crop.label, crop.lamp, rng, side=side, exposure=batch.exposure, white=batch.white)
        return _write_crop(target / "images" / crop.file, crop.given, *drawn)

    own = [number for number, crop in enumerate(planned) if crop.copy_of is None]
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for number, region in zip(own, pool.map(draw, own), strict=True):
            regions[planned[number].file] = region
    for number, crop in enumerate(planned):
        if crop.copy_of is not None:
            _write_copy(target, crop, np.random.default_rng([*_key(batch, seed), number]))
            regions[crop.file] = regions[crop.copy_of]
    labelled = [_labelled(crop, regions[crop.file], side) for crop in planned]
    write_coco(target / "annotations" / f"instances_{batch.name}.json", labelled, PART_LABELS)
    return planned


def _key(batch: Batch, seed: int) -> list[int]:
    """What a batch's pictures are drawn from: the seed and the batch's name."""
    return [seed, 6, *batch.name.encode()]


def _plan(batch: Batch, seed: int) -> list[Crop]:
    """What each picture of a batch shows and is labelled; copies are the last."""
    rng = np.random.default_rng(_key(batch, seed))
    copied = round(batch.duplicates * batch.count)
    count = batch.count - copied
    labels = _shared_out(batch.classes, count, rng)
    lamps = _shared_out(batch.lamps, count, rng)
    wrong = set(rng.permutation(count)[: round(batch.mislabeled * count)].tolist())
    crops = []
    for number, (label, lamp) in enumerate(zip(labels, lamps, strict=True)):
        given = _confused(label, rng) if number in wrong else label
        crops.append(Crop(batch.name, _file(batch, given, number), label, given, lamp))
    for number, of in enumerate(rng.permutation(count)[:copied].tolist(), count):
        crop = crops[of]
        file = _file(batch, crop.given, number)
        crops.append(Crop(batch.name, file, crop.label, crop.given, crop.lamp, copy_of=crop.file))
    return crops


def _shared_out(shares: Mapping[str, float], count: int, rng: np.random.Generator) -> list[str]:
    """So many names, each as often as its share says to within one, in random order."""
    weights = np.array(list(shares.values()), dtype=np.float64)
    ends = np.round(np.cumsum(weights) / weights.sum() * count).astype(int)
    names = np.repeat(list(shares), np.diff(ends, prepend=0))
    return [str(name) for name in rng.permutation(names)]


def _confused(label: str, rng: np.random.Generator) -> str:
    others = CONFUSIONS[label]
    weights = np.array(list(others.values()))
    return str(rng.choice(list(others), p=weights / weights.sum()))


def _file(batch: Batch, given: str, number: int) -> str:
    return f"{batch.name}/{given}/{batch.name}_{number:05d}.jpg"


def _write_crop(path: Path, given: str, pixels: Pixels, mask: Mask) -> Region:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_jpeg(pixels, _QUALITY))
    return Region.of_mask(given, mask)


def _write_copy(target: Path, crop: Crop, rng: np.random.Generator) -> None:
    original = target / "images" / str(crop.copy_of)
    data = original.read_bytes()
    if rng.random() >= _EXACT:
        brighter = cv2.convertScaleAbs(load_pixels(original), alpha=1 + rng.uniform(0.06, 0.14))
        data = encode_jpeg(np.asarray(brighter), int(rng.integers(65, 80)))
    (target / "images" / crop.file).write_bytes(data)


def _labelled(crop: Crop, region: Region, side: int) -> Labelled:
    return Labelled(crop.file, side, side, (region,), {"lamp": crop.lamp, "batch": crop.batch})
