"""Masks of defects with known errors, and segmenters that are made up.

Windows of 64 x 64 pixels are cut around the scratches and dents of rendered parts. A tenth of the masks is then wrong, a fortieth
each: dropped; eroded to 45% of their area, from the outline; shifted, in the window, until their IoU with themselves is at most
0.4; given the other class.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter

from curate.demo import NONE, make_parts
from curate.demo.pictures import Annotation, Picture
from curate.geometry import decode_rle, encode_rle, rle_boxes
from curate.models.predictors.base import ClassMap

CLASSES: Final = ("scratch", "dent")
KINDS: Final = ("dropped", "eroded", "shifted", "swapped")
WINDOW: Final = 64
SHARE: Final = 0.1

_LEAST_PIXELS: Final = 14
_ERODED: Final = 0.45
_SHIFTED: Final = 0.4

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Quality:
    """How good a simulated segmenter is."""

    found: float  # Share of the objects that it finds; small ones less.
    confused: float  # Share of those that it gives the other class.
    wavers: float  # How far an outline is off, pixels.
    imagined: float  # Regions with nothing there, for each window.


QUALITIES: Final = {
    "good": Quality(0.97, 0.01, 0.4, 0.03),
    "mediocre": Quality(0.9, 0.04, 0.8, 0.1),
    "poor": Quality(0.75, 0.1, 1.3, 0.3),
}


@dataclass(frozen=True)
class Labelled:
    """One mask of a window, bool of shape (64, 64), its class, and what is wrong with it ('' for nothing)."""

    window: int
    label: str
    mask: Mask
    fault: str = ""


@dataclass(frozen=True)
class Windows:
    """Pictures, uint8 of shape (n, 64, 64, 3), and what is on them."""

    pixels: npt.NDArray[np.uint8]
    masks: Sequence[Labelled]


def cut_windows(folder: Path, images: int, seed: int) -> Windows:
    """Windows around the defects of rendered parts, no two of which overlap, and others on parts without a defect."""
    parts = make_parts(folder, images=images, seed=seed, faults=NONE)
    rng = np.random.default_rng([seed, 1])
    pixels: list[npt.NDArray[np.uint8]] = []
    masks: list[Labelled] = []
    for picture in parts.truth.pictures:
        with Image.open(parts.root / picture.file) as opened:
            image = np.asarray(opened.convert("RGB"))
        defects = [(each, _draw(each, picture)) for each in picture.annotations if each.label in CLASSES]
        sound = [each for each in picture.annotations if each.label not in CLASSES]
        taken: list[tuple[int, int]] = []
        for wanted in [*(each for each, _ in defects), *rng.permutation(np.array(sound, dtype=object))[: len(defects)]]:
            place = _place(wanted, picture, rng)
            if any(max(abs(place[0] - x), abs(place[1] - y)) < WINDOW for x, y in taken):
                continue
            x, y = place
            inside = [(each.label, whole[y : y + WINDOW, x : x + WINDOW]) for each, whole in defects]
            found = [Labelled(len(pixels), label, mask) for label, mask in inside if mask.sum() >= _LEAST_PIXELS]
            if wanted.label not in CLASSES and (found or rng.random() < 0.5):
                continue
            taken.append(place)
            masks += found
            pixels.append(image[y : y + WINDOW, x : x + WINDOW])
    return Windows(np.stack(pixels), masks)


def plant(windows: Windows, seed: int) -> Windows:
    """The same with a tenth of the masks wrong."""
    rng = np.random.default_rng([seed, 2])
    each = max(round(SHARE * len(windows.masks) / len(KINDS)), 1)
    fault = dict(zip(rng.permutation(len(windows.masks)).tolist(), np.repeat(KINDS, each).tolist(), strict=False))
    masks = [_spoil(item, fault.get(number, ""), rng) for number, item in enumerate(windows.masks)]
    return replace(windows, masks=masks)


def write_coco(windows: Windows, folder: Path) -> None:
    """The pictures and a COCO file of their masks, without the dropped ones; the id of a mask is its place in the list."""
    (folder / "images").mkdir(parents=True)
    for number, pixels in enumerate(windows.pixels):
        Image.fromarray(pixels).save(folder / "images" / _name(number))
    shown = [(number, item) for number, item in enumerate(windows.masks) if item.fault != "dropped"]
    content = {
        "images": [
            {"id": number, "file_name": _name(number), "width": WINDOW, "height": WINDOW}
            for number in range(len(windows.pixels))
        ],
        "categories": [{"id": place, "name": name} for place, name in enumerate(CLASSES)],
        "annotations": [_coco(number, item) for number, item in shown],
    }
    (folder / "instances.json").write_text(json.dumps(content), encoding="utf-8")


def simulate(clean: Windows, quality: Quality, rng: np.random.Generator) -> list[ClassMap]:
    """What a segmenter of that quality says of each window."""
    scores = np.full((len(clean.pixels), 2, WINDOW, WINDOW), -3.0)

    def see(window: int, kind: int, distance: npt.NDArray[np.float64]) -> None:
        wave = gaussian_filter(rng.normal(size=distance.shape), 1.5) / 0.19  # of variance 1
        scores[window, kind] = np.maximum(scores[window, kind], distance + quality.wavers * (wave + rng.normal(0, 0.5)))

    for item in clean.masks:
        ease = 0.5 + 0.5 * min(float(item.mask.sum()) / 60.0, 1.0)
        if rng.random() < 1 - (1 - quality.found) / ease:
            see(item.window, own_first(item.label)[int(rng.random() < quality.confused)], _distance(item.mask))
    for window in np.repeat(np.arange(len(scores)), rng.poisson(quality.imagined, len(scores))).tolist():
        model = clean.masks[int(rng.integers(len(clean.masks)))]
        moved = np.roll(_distance(model.mask), rng.integers(-20, 20, 2), (0, 1))
        see(window, CLASSES.index(model.label), 0.7 * moved - 0.3)
    labels = np.where(scores.max(axis=1) > 0, scores.argmax(axis=1), -1).astype(np.int16)
    sure = (1 / (1 + np.exp(-np.abs(scores.max(axis=1))))).astype(np.float32)
    return [ClassMap(*each) for each in zip(labels, sure, strict=True)]


def drawn(windows: Windows) -> npt.NDArray[np.int8]:
    """The class of each pixel as labelled, -1 for none; shape (n, 64, 64)."""
    shown = np.full((len(windows.pixels), WINDOW, WINDOW), -1, dtype=np.int8)
    for item in windows.masks:
        if item.fault != "dropped":
            shown[item.window][item.mask] = CLASSES.index(item.label)
    return shown


def save(windows: Windows, path: Path) -> None:
    """Keep windows in a file."""
    columns = {
        name: np.array([getattr(item, name) for item in windows.masks]) for name in ("window", "label", "mask", "fault")
    }
    np.savez_compressed(path, allow_pickle=False, pixels=windows.pixels, **columns)


def load(path: Path) -> Windows:
    """The inverse of `save`."""
    with np.load(path) as kept:
        columns = [kept[name] for name in ("window", "label", "mask", "fault")]
        masks = [Labelled(int(w), str(name), mask, str(fault)) for w, name, mask, fault in zip(*columns, strict=True)]
        return Windows(kept["pixels"], masks)


def own_first(name: str) -> tuple[int, int]:
    """Number of a class, and that of the other."""
    own = CLASSES.index(name)
    return own, 1 - own


def _distance(mask: Mask) -> npt.NDArray[np.float64]:
    """From each pixel to the outline, negative outside."""
    return np.asarray(distance_transform_edt(mask) - distance_transform_edt(~mask), dtype=np.float64)


def _name(number: int) -> str:
    return f"{number:05d}.png"


def _draw(item: Annotation, picture: Picture) -> Mask:
    assert item.counts is not None
    return decode_rle(item.counts, [picture.height, picture.width]).astype(np.bool_)


def _place(item: Annotation, picture: Picture, rng: np.random.Generator) -> tuple[int, int]:
    """Left and top of a window around an object, not quite in the middle of it."""
    x, y, w, h = item.bbox
    centre = np.array([x + w / 2, y + h / 2]) + rng.uniform(-10, 10, 2)
    low = np.clip(np.round(centre - WINDOW / 2), 0, [picture.width - WINDOW, picture.height - WINDOW])
    return int(low[0]), int(low[1])


def _spoil(item: Labelled, fault: str, rng: np.random.Generator) -> Labelled:
    if fault == "swapped":
        return replace(item, fault=fault, label=CLASSES[1 - CLASSES.index(item.label)])
    if fault == "eroded":
        return replace(item, fault=fault, mask=_eroded(item.mask, rng))
    if fault == "shifted":
        return replace(item, fault=fault, mask=_shifted(item.mask, rng))
    return replace(item, fault=fault)


def _eroded(mask: Mask, rng: np.random.Generator) -> Mask:
    """The pixels furthest from the border."""
    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1] + 0.01 * rng.random(mask.shape)
    least = np.quantile(depth[mask], 1 - _ERODED)
    return np.asarray(mask & (depth >= least))


def _shifted(mask: Mask, rng: np.random.Generator) -> Mask:
    """The mask further and further away, in a direction in which it stays inside of the window."""
    for angle in rng.uniform(0, 2 * np.pi, 50):
        for step in range(2, WINDOW):
            dx, dy = round(step * np.cos(angle)), round(step * np.sin(angle))
            moved = np.zeros_like(mask)
            y, x = np.nonzero(mask)
            inside = (x + dx >= 0) & (x + dx < WINDOW) & (y + dy >= 0) & (y + dy < WINDOW)
            moved[y[inside] + dy, x[inside] + dx] = True
            if moved.sum() < 0.9 * mask.sum():
                break
            if (moved & mask).sum() <= _SHIFTED * (moved | mask).sum():
                return moved
    raise AssertionError("a mask fills its window")


def _coco(number: int, item: Labelled) -> dict[str, Any]:
    counts, size = encode_rle(item.mask), [WINDOW, WINDOW]
    return {
        "id": number,
        "image_id": item.window,
        "category_id": CLASSES.index(item.label),
        "segmentation": {"counts": counts, "size": size},
        "bbox": rle_boxes([counts], [size])[0].tolist(),
        "area": int(item.mask.sum()),
        "iscrowd": 0,
    }
