"""What `benchmarks/encoders.py` measures encoders on: crops, views and pictures with a class, a source and, some, a domain."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from benchmarks.changes import STYLES
from benchmarks.sets import read_coco, read_voc
from curate.checks.labels import Labels
from curate.demo.parts import PART_TYPES, Part, sample_part
from curate.demo.render import plan_shots, render
from curate.demo.shading import LIGHTINGS, sample_lighting
from curate.demo.sprites import Finish, Pose, draw_part
from curate.demo.surfaces import SURFACES, sample_surface
from curate.errors import FormatError
from curate.imaging import IMAGE_SUFFIXES, Pixels, crop, load_pixels, resize

MARGIN: Final = 0.15
"""Context around a box, as a part of its longer side."""

LIMIT: Final = 2000
_SIDE: Final = 96


@dataclass
class Task:
    """n pictures that are to be told apart.

    Attributes:
        name: Of the set.
        images: Pictures, or the files that they are read from when they are wanted.
        labels: The class of each.
        groups: Pictures of one group share a source, and are no evidence for one another.
        domains: The style or light of each, where it has one to be told.
    """

    name: str
    images: list[Pixels | Path] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    domains: list[str] = field(default_factory=list)

    def add(self, image: Pixels | Path, label: str, group: int, domain: str = "") -> None:
        """One picture more."""
        self.images.append(image)
        self.labels.append(label)
        self.groups.append(group)
        if domain:
            self.domains.append(domain)


def digits() -> Task:
    """1,797 handwritten digits, 8 x 8 pixels."""
    bunch = load_digits()
    task = Task("digits")
    for number, (image, digit) in enumerate(zip(bunch.images, bunch.target, strict=True)):
        task.add(np.repeat((image * 15.9).astype(np.uint8)[..., None], 3, axis=2), str(digit), number)
    return task


def places(count: int = 60, views: int = 10) -> Task:
    """Which place in two photographs a view shows: shifted, scaled, mirrored, darkened, 32 x 32 pixels."""
    rng = np.random.default_rng(0)
    task = Task("places")
    for place in range(count):
        photo = np.asarray(load_sample_images().images[place % 2])
        centre = rng.uniform((80, 80), np.array(photo.shape[:2]) - 80)
        for _ in range(views):
            side = 90 * np.exp(rng.uniform(-0.3, 0.3))
            top, left = centre + rng.uniform(-14, 14, 2) - side / 2
            image = resize(crop(photo, [left, top, side, side]), (32, 32))[:, :: rng.choice([-1, 1])]
            bright = 255 * (image / 255) ** np.exp(rng.uniform(-0.5, 0.5)) + rng.normal(0, 6, image.shape)
            task.add(bright.clip(0, 255).astype(np.uint8), str(place), len(task.images))
    return task


def pieces(count: int = 40, views: int = 10) -> Task:
    """Which single part a rendered view shows: turned, tilted, nearer or farther, on another ground, in another light.

    As many views as the faces of Olivetti, a set that no package ships: 40 parts with 10 views each.
    """
    task = Task("pieces")
    names = list(PART_TYPES)
    for number in range(count):
        rng = np.random.default_rng([0, number])
        part = sample_part(names[number % len(names)], rng)
        material, second = str(rng.choice(part.materials)), str(rng.choice(part.second))
        finish = Finish(material, second, offset=rng.uniform(0, 400), grain=0.1, rust=0.0, grime=0.1)
        for _ in range(views):
            task.add(_view(part, finish, rng), str(number), len(task.images))
    return task


def parts(count: int = 120) -> Task:
    """Crops of rendered machine parts; their domain is the lamp."""
    task = Task("parts")
    for shot in plan_shots(count, 0):
        rendering = render(shot, 0)
        pixels = _decoded(rendering.jpeg)
        for thing in rendering.things:
            task.add(_cut(pixels, thing.bbox), thing.label, shot.scene, shot.lighting)
    return task


def crops(labels: Labels, name: str, *, backgrounds: int = 0) -> Task:
    """The boxes of a set, up to `LIMIT` and the image that goes beyond; and squares per image that touch no box, if asked for."""
    rng = np.random.default_rng(0)
    usable, groups = labels.boxes().usable, labels.image_groups()
    task = Task(name)
    for number, path in enumerate(labels.images["path"].to_pylist()):
        rows = np.flatnonzero((labels.image == number) & usable)
        if not len(rows) or len(task.images) > LIMIT:
            continue
        pixels = load_pixels(path)
        given = labels.bbox[rows].tolist()
        squares = _squares_outside(pixels, given, backgrounds, rng)
        for box, label in zip(given, labels.label[rows], strict=True):
            task.add(_cut(pixels, box), labels.classes[label], int(groups[number]))
        for box in squares:
            task.add(_cut(pixels, box), "background", int(groups[number]))
    return task


def in_styles(tasks: Sequence[Task], each: int = 60) -> Task:
    """Up to `each` pictures of every class of some sets, a fifth of them in each style; no picture in two styles."""
    rng = np.random.default_rng(0)
    styled = Task("styles")
    styles = list(STYLES)
    for task in tasks:
        first_group = max(styled.groups, default=-1) + 1
        for label in sorted(set(task.labels)):
            rows = [row for row, given in enumerate(task.labels) if given == label]
            for place, row in enumerate(rng.permutation(rows)[:each]):
                style = styles[place % len(styles)]
                pixels = resize(read(task.images[row]), (_SIDE, _SIDE))
                styled.add(STYLES[style](pixels, rng), f"{task.name} {label}", first_group + task.groups[row], style)
    return styled


def read_domains(folder: Path) -> Task:
    """The pictures of a folder DOMAIN/CLASS/FILE.

    Raises:
        FormatError: It holds fewer than two domains or two classes.
    """
    task = Task("domains")
    for path in sorted(folder.glob("*/*/*")):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            task.add(path, path.parent.name, len(task.images), path.parent.parent.name)
    if len(set(task.domains)) < 2 or len(set(task.labels)) < 2:
        raise FormatError(
            f"{len(task.images)} pictures of {len(set(task.labels))} classes in {len(set(task.domains))} domains",
            where=folder,
            remedy="lay them out as DOMAIN/CLASS/FILE.jpg, two domains and two classes at least",
        )
    return task


def originals(data: Path | None, each: int = 120, side: int = 320) -> list[Pixels]:
    """Whole pictures of every set that is there, no two of one source, at most `side` pixels on their longer side."""
    scenes = {shot.scene: shot for shot in plan_shots(2 * each, 7)}
    pictures = [_decoded(render(shot, 7).jpeg) for shot in list(scenes.values())[:each]]
    pictures += [np.asarray(photo) for photo in load_sample_images().images]
    rng = np.random.default_rng(0)
    for files in [sorted(data.glob(pattern)) for pattern in PHOTOGRAPHS] if data is not None else []:
        found = {path.name.split(".rf.")[0]: path for path in files}
        chosen = [load_pixels(path) for path in rng.permutation(sorted(found.values()))[:each]]
        # raccoon has equal files
        pictures += {picture.tobytes(): picture for picture in chosen}.values()
    return [_fitted(picture, side) for picture in pictures]


def read(image: Pixels | Path) -> Pixels:
    """A picture, from its file if it is one: decoded to no less than 224 pixels on its shorter side."""
    return load_pixels(image, shortest_side=224) if isinstance(image, Path) else image


def _cut(pixels: Pixels, bbox: Sequence[float]) -> Pixels:
    """A box with some context, as a copy: a view would keep the whole picture in memory."""
    return crop(pixels, bbox, margin=MARGIN).copy()


def _fitted(pixels: Pixels, side: int) -> Pixels:
    height, width = pixels.shape[:2]
    ratio = min(1, side / max(height, width))
    return resize(pixels, (max(1, round(width * ratio)), max(1, round(height * ratio))))


def _decoded(jpeg: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


def _view(part: Part, finish: Finish, rng: np.random.Generator) -> Pixels:
    """One part from about above, in the middle of a small picture."""
    x, y = (_SIDE / 2 + rng.uniform(-5, 5, 2)).tolist()
    scale = 0.42 * _SIDE / max(part.extent) * rng.uniform(0.85, 1.1)
    lean = (rng.uniform(-0.22, 0.22), rng.uniform(-0.22, 0.22))
    pose = Pose(x, y, scale, rng.uniform(-0.5, 0.5), rng.uniform(0, 0.42), rng.uniform(0, 2 * np.pi), lean)
    lighting = sample_lighting(str(rng.choice(LIGHTINGS)), rng)
    sprite = draw_part(part, (), pose, finish, lighting)
    surface = sample_surface(str(rng.choice(list(SURFACES))), rng)
    columns, rows = np.meshgrid(*(rng.uniform(0, 200) + np.arange(_SIDE, dtype=np.float32) for _ in "xy"))
    ground = surface(columns.astype(np.float32), rows.astype(np.float32), lighting).transpose(1, 2, 0)
    # The sprite may reach beyond the picture: both are laid on a canvas that holds them.
    border = _SIDE
    canvas = np.pad(ground, ((border, border), (border, border), (0, 0)), mode="edge")
    height, width = sprite.coverage.shape
    place = canvas[border + sprite.top :, border + sprite.left :][:height, :width]
    place *= 1 - sprite.coverage[..., None]
    place += sprite.light
    light = canvas[border:-border, border:-border]
    return (255 * np.sqrt(light) + rng.normal(0, 2, light.shape)).clip(0, 255).astype(np.uint8)


def _squares_outside(
    pixels: Pixels, given: Sequence[Sequence[float]], count: int, rng: np.random.Generator
) -> list[tuple[float, float, float, float]]:
    height, width = pixels.shape[:2]
    squares: list[tuple[float, float, float, float]] = []
    for _ in range(40 if count else 0):
        side = min(height, width) * rng.uniform(0.2, 0.6)
        left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
        if all(left + side < x or x + w < left or top + side < y or y + h < top for x, y, w, h in given):
            squares.append((left, top, side, side))
    return squares[:count]


RENDERED: Final[dict[str, Callable[[], Task]]] = {"digits": digits, "places": places, "pieces": pieces, "parts": parts}
"""Sets that need no data."""

REAL: Final[dict[str, Callable[[Path], Task]]] = {
    "bccd": lambda folder: crops(read_voc(folder), "bccd"),
    "raccoon": lambda folder: crops(read_voc(folder), "raccoon", backgrounds=2),
    "roboflow_wagon": lambda folder: crops(read_coco(folder), "wagon"),
}
"""Sets in a folder of public data, by the names of their folders."""

PHOTOGRAPHS: Final = (
    "detection/bccd/JPEGImages/*.jpg",
    "detection/raccoon/images/*.jpg",
    "detection/roboflow_wagon/*/*.jpg",
    "images/imagededup/base_images/*.jpg",
)
