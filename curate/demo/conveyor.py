"""A camera over a conveyor belt: parts that pass, every box, identity and crossing known; as a video, and as stills.

film = make_film(Path("line.avi"), frames=300, seed=1)
film.crossings                                  # what a counter at the middle of the picture should tell
make_stills(Path("stills"), {"train": 200, "val": 40}, seed=2)     # what its detector learns from
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np

from curate.demo.coco import Labelled, Region, write_coco
from curate.demo.parts import sample_part
from curate.demo.pictures import BBox
from curate.demo.render import Camera, compose, encode_jpeg, expose, lay_ground, sample_finish
from curate.demo.shading import Field, Lighting, sample_lighting
from curate.demo.sprites import Pose, Sprite, draw_part
from curate.demo.surfaces import sample_surface
from curate.errors import UsageError
from curate.imaging import Pixels

LINE: Final = "50%,0,50%,100%"
"""The counting line of a film's crossings, as `curate run --line` takes it."""

_UNIT: Final = (0.075, 0.10)  # of the picture's height, that a part's unit is
_GAP: Final = (0.30, 0.75)  # of the picture's height, between the middles of parts that follow one another
_POST: Final = 0.10  # of the picture's width
_POST_AT: Final = 0.32  # of the picture's width, from the left to its middle
_SEEN: Final = 0.25  # of a part at least, that it is labelled
_BESIDE: Final = 0.25  # of the picture's height, that is drawn to the left and right of it, so that parts come in whole
_QUALITY: Final = 88


@dataclass(frozen=True)
class Belt:
    """What is filmed.

    Attributes:
        labels: Classes of the parts that pass.
        size: Of the picture, (width, height) in pixels.
        speed: Pixels that the belt moves between two frames.
        lanes: 1 belt that runs to the right, or 2 side by side, the lower one of which runs to the left.
        post: Whether a post stands before the belt, behind which parts are hidden for a while.
        lamp: The set-up of `shading.LIGHTINGS`.
        halts: First frame, and the one after the last, of each time that the belt stands still.
    """

    labels: tuple[str, ...] = ("bolt", "nut", "washer")
    size: tuple[int, int] = (320, 240)
    speed: float = 4.0
    lanes: Literal[1, 2] = 1
    post: bool = False
    lamp: str = "ring"
    halts: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Seen:
    """A part as far as it is to be seen on a frame.

    Attributes:
        track: Its number, the same on all frames.
        label: Its class.
        bbox: [x, y, width, height] of what is visible, pixels.
        visible: Share of it that is visible, in (0, 1].
    """

    track: int
    label: str
    bbox: BBox
    visible: float


@dataclass(frozen=True)
class Frame:
    """One frame: RGB, uint8 of shape (height, width, 3), and the parts on it."""

    pixels: Pixels
    seen: tuple[Seen, ...]


@dataclass(frozen=True)
class Crossing:
    """A part's middle has crossed `LINE`.

    Attributes:
        frame: Number of the first frame on which it is beyond.
        track: Which part.
        label: Its class.
        way: 'in' to the left, 'out' to the right: as `curate run` tells it of this line.
    """

    frame: int
    track: int
    label: str
    way: Literal["in", "out"]


@dataclass(frozen=True)
class Film:
    """A video file and what is on it.

    Attributes:
        path: The file.
        seen: The parts on each frame.
        crossings: In their order.
    """

    path: Path
    seen: tuple[tuple[Seen, ...], ...]
    crossings: tuple[Crossing, ...]


@dataclass(frozen=True)
class _Rider:
    """A part on a belt: its picture where it would be at frame 0, and which way it goes."""

    track: int
    label: str
    sprite: Sprite
    x: float
    way: int


def make_film(path: Path, *, frames: int, belt: Belt | None = None, fps: float = 25.0, seed: int = 0) -> Film:
    """Write a film.

    Args:
        path: An .avi (Motion JPEG) or .mp4 (MPEG-4) file.
        frames: How many.
        belt: What is filmed.
        fps: Frames a second, as the file tells.
        seed: Of the parts and the belt.

    Returns:
        The file and the truth.

    Raises:
        UsageError: The file's ending is another one, or this OpenCV cannot write such files.
    """
    belt = belt or Belt()
    codecs = {".avi": "MJPG", ".mp4": "mp4v"}
    if path.suffix not in codecs:
        raise UsageError(f"'{path.suffix}' is no kind of video that is written", where=path, remedy="use .avi or .mp4")
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = cv2.VideoWriter_fourcc(*codecs[path.suffix])  # type: ignore[attr-defined]  # missing in OpenCV's stubs
    writer = cv2.VideoWriter(str(path), codec, fps, belt.size)
    try:
        if not writer.isOpened():
            raise UsageError("this OpenCV cannot write such videos", where=path, remedy="choose the other ending")
        seen = []
        for frame in film_frames(belt, frames, seed=seed):
            writer.write(cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2BGR))
            seen.append(frame.seen)
    finally:
        writer.release()
    return Film(path, tuple(seen), tuple(_crossings(belt, frames, seed)))


def film_frames(belt: Belt, frames: int, *, seed: int = 0) -> Iterator[Frame]:
    """The frames of a film, one after another, noise and all; the same for the same belt, number and seed."""
    camera, lighting, riders, grounds = _set_up(belt, frames, seed)
    light, noise = np.random.default_rng([seed, 11]), np.random.default_rng([seed, 12])
    steady = replace(camera, exposure=1.0 + light.uniform(-0.03, 0.03))
    inside = slice(_beside(belt), _beside(belt) + belt.size[0])
    for travel in _travels(belt, frames):
        canvas = _ground_at(belt, grounds, travel)
        moved = [_at(rider, travel, _beside(belt)) for rider in riders]
        near = [(rider, sprite) for rider, sprite in zip(riders, moved, strict=True) if _is_near(sprite, belt)]
        owner, kept = compose(canvas, [sprite for _, sprite in near], lighting)
        canvas, owner = np.ascontiguousarray(canvas[:, inside]), owner[:, inside]
        if belt.post:
            post = _post(belt)
            canvas[:, post] = np.array([0.30, 0.24, 0.03], np.float32)
            owner[:, post] = -1
        seen = []
        for number in kept:
            rider, sprite = near[number]
            rows, columns = np.nonzero(owner == number)
            visible = len(rows) / max(int(sprite.mask.sum()), 1)
            if visible >= _SEEN:
                left, top = int(columns.min()), int(rows.min())
                bbox = (left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top)
                seen.append(Seen(rider.track, rider.label, bbox, round(visible, 4)))
        yield Frame(expose(canvas, steady, lighting, None, noise), tuple(seen))


def make_stills(target: Path, counts: Mapping[str, int], *, belt: Belt | None = None, seed: int = 0) -> Path:
    """Labelled single pictures of belts like one, no two of the same parts: `images/SPLIT/*.jpg` and COCO files.

    Args:
        target: Folder to write into; made if need be, else empty.
        counts: How many pictures of each split.
        belt: What is pictured.
        seed: The same seed and counts give the same bytes.

    Returns:
        The folder.

    Raises:
        UsageError: The folder is not empty.
    """
    belt = belt or Belt()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError("the folder is not empty", where=target, remedy="choose a new one, or empty it first")
    width, height = belt.size
    for split, count in counts.items():
        (target / "images" / split).mkdir(parents=True)
        images = []
        for number in range(count):
            key = int(np.random.default_rng([seed, 13, *split.encode(), number]).integers(2**31))
            (frame,) = film_frames(belt, 1, seed=key)
            file = f"{split}/{number:05d}.jpg"
            (target / "images" / file).write_bytes(encode_jpeg(frame.pixels, _QUALITY))
            regions = tuple(Region.of_box(each.label, each.bbox) for each in frame.seen)
            images.append(Labelled(file, width, height, regions))
        write_coco(target / "annotations" / f"instances_{split}.json", images, belt.labels)
    return target


def _set_up(belt: Belt, frames: int, seed: int) -> tuple[Camera, Lighting, list[_Rider], list[Field]]:
    """The camera, the light, every part that is ever to be seen, and the belts' pictures, longer than the picture."""
    rng = np.random.default_rng([seed, 10])
    width, height = belt.size
    camera = Camera(width, height, 0.55, 1.6, (1.0, 1.0, 1.0), 1.0, _QUALITY)
    lighting = sample_lighting(belt.lamp, rng)
    lighting = replace(lighting, slope=(0.0, lighting.slope[1]))  # what a part's light is does not change on its way
    total = _travels(belt, frames)[-1]
    riders: list[_Rider] = []
    grounds = []
    for lane in range(belt.lanes):
        way = 1 if lane == 0 else -1
        middle = height * (lane + 0.5) / belt.lanes
        riders += _load(belt, way, middle, total, lighting, len(riders), rng)
        surface = sample_surface("conveyor", rng)
        long = replace(camera, width=width + 2 * _beside(belt) + int(np.ceil(total)) + 1, height=height // belt.lanes)
        grounds.append(lay_ground(surface, long, 0.0, lighting))
    return camera, lighting, riders, grounds


def _load(
    belt: Belt, way: int, middle: float, total: float, lighting: Lighting, first: int, rng: np.random.Generator
) -> list[_Rider]:
    """The parts of one belt, from the one that is ahead to the last that comes into the picture."""
    width, height = belt.size
    riders: list[_Rider] = []
    ahead = width * rng.uniform(0.55, 0.95)
    while ahead > -total - _BESIDE * height:
        label = str(rng.choice(belt.labels))
        part = sample_part(label, rng)
        unit = height * rng.uniform(*_UNIT) / (max(part.extent) ** 0.5) / (1.0 if belt.lanes == 1 else 1.3)
        off = height / belt.lanes * rng.uniform(-0.2, 0.2)
        pose = Pose(0.0, middle + off, unit, rng.uniform(0, 2 * np.pi), 0.0, 0.0, (0.0, 0.0))
        sprite = draw_part(part, (), pose, sample_finish(part, rng), lighting)
        x = ahead if way > 0 else width - ahead
        riders.append(_Rider(first + len(riders), label, sprite, float(x), way))
        ahead -= height * rng.uniform(*_GAP)
    return riders


def _travels(belt: Belt, frames: int) -> Sequence[float]:
    """How far the belt has moved by each frame, pixels."""
    moves = np.ones(frames)
    moves[0] = 0.0
    for start, stop in belt.halts:
        moves[max(start, 0) : stop] = 0.0
    return [float(value) for value in np.cumsum(moves) * belt.speed]


def _ground_at(belt: Belt, grounds: Sequence[Field], travel: float) -> Field:
    width, moved = belt.size[0] + 2 * _beside(belt), round(travel)
    strips = []
    for lane, ground in enumerate(grounds):
        left = ground.shape[1] - width - moved if lane == 0 else moved
        strips.append(ground[:, left : left + width])
    missing = belt.size[1] - sum(len(strip) for strip in strips)
    if missing:
        strips.append(strips[-1][-missing:])
    return np.concatenate(strips)


def _beside(belt: Belt) -> int:
    """Pixels that are drawn on either side of the picture."""
    return round(_BESIDE * belt.size[1])


def _at(rider: _Rider, travel: float, beside: int) -> Sprite:
    return replace(rider.sprite, left=rider.sprite.left + beside + round(rider.x + rider.way * travel))


def _is_near(sprite: Sprite, belt: Belt) -> bool:
    """Whether it is in what is drawn."""
    return sprite.left < belt.size[0] + 2 * _beside(belt) and sprite.left + sprite.mask.shape[1] > 0


def _post(belt: Belt) -> slice:
    width = belt.size[0]
    left = round(width * (_POST_AT - _POST / 2))
    return slice(left, left + round(width * _POST))


def _crossings(belt: Belt, frames: int, seed: int) -> list[Crossing]:
    _, _, riders, _ = _set_up(belt, frames, seed)
    line = belt.size[0] / 2
    travels = np.array(_travels(belt, frames))
    found = []
    for rider in riders:
        columns = np.flatnonzero(rider.sprite.mask.any(axis=0))
        middle = rider.sprite.left + (columns[0] + columns[-1] + 1) / 2
        places = middle + np.round(rider.x + rider.way * travels)
        beyond = rider.way * (places - line) > 0
        if beyond.any() and not beyond[0]:
            frame = int(np.argmax(beyond))
            found.append(Crossing(frame, rider.track, rider.label, "out" if rider.way > 0 else "in"))
    return sorted(found, key=lambda crossing: (crossing.frame, crossing.track))
