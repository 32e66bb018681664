"""The datasets and the trained models that the edge benchmark packages: made where they are not there yet."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from PIL import Image

from benchmarks.edge_closeups import write_closeups
from benchmarks.report import real_set
from curate.dataset.home import dataset_names, home
from curate.demo import NONE, load_truth, make_parts
from curate.demo.render import PART_LABELS
from curate.formats.importing import import_source
from curate.imaging import load_pixels

SIDE: Final = 96
"""Of a crop of a part, pixels."""

_MARGIN: Final = 1.15
_SEEDS: Final = {"parts": 77, "crops": 77, "defects": 77, "new-crops": 78}


@dataclass(frozen=True)
class Wanted:
    """A model.

    Attributes:
        name: Of its run.
        dataset: That it learns from.
        settings: As `curate train` takes them.
        empty: Whether images without annotations have nothing on them.
    """

    name: str
    dataset: str
    settings: dict[str, Any] = field(default_factory=dict)
    empty: bool = False


CLASSIFIER: Final = Wanted(
    "crops-classify",
    "crops",
    {"task": "classify", "model": "mobilenetv4_conv_small", "weights": "scratch", "image_size": SIDE, "epochs": 25},
)
HEAVY: Final = Wanted(
    "crops-heavy",
    "crops",
    {"task": "classify", "model": "resnet18", "weights": "scratch", "image_size": SIDE, "epochs": 10},
)
DETECTOR: Final = Wanted("bccd-detect", "bccd", {"task": "detect", "epochs": 10})
NEW: Final = "new-crops"
"""A dataset of crops that no model has learnt from, made as the others but with other parts in other light."""

_SPLITS_OF_NEW: Final = {"train": "val", "val": "test", "test": "test"}
"""What would be learnt from is for choosing there."""

DEFECTS: Final = Wanted("defects-segment", "defects", {"task": "segment", "image_size": 160, "epochs": 7}, empty=True)
SEGMENTER: Final = Wanted("parts-segment", "parts", {"task": "segment", "image_size": 160, "epochs": 10})


def obtain(wanted: Wanted, data: Path | None, images: int, epochs: int | None, notes: list[str]) -> str | None:
    """See that a model is there: its dataset imported, its run trained.

    Args:
        wanted: Which one.
        data: Folder of public data, for what is not rendered.
        images: How many are rendered.
        epochs: At most so many; None for what the model needs.
        notes: Told what is left out.

    Returns:
        The run's name; None where there is no data for it.
    """
    from curate.models.training.runs import read_run, run_names
    from curate.models.training.train import Asked, train

    if not import_dataset(wanted.dataset, data, images, notes):
        return None
    if wanted.name in run_names() and read_run(wanted.name) is not None:
        print(f"{wanted.name}: trained before", file=sys.stderr)
        return wanted.name
    settings = {**wanted.settings, "amp": True, "seed": 0}
    settings["epochs"] = settings["epochs"] if epochs is None else min(epochs, settings["epochs"])
    run = train(
        Asked(dataset=wanted.dataset, settings=settings, empty=wanted.empty or None),
        name=wanted.name,
        command="benchmark",
        report=lambda done, total, now: None,
        say=lambda text: print(f"{wanted.name}: {text}", file=sys.stderr, flush=True),
    )
    print(run.describe(), file=sys.stderr, flush=True)
    return wanted.name


def import_dataset(name: str, data: Path | None, images: int, notes: list[str]) -> bool:
    """See that a dataset is there; False where there is no data for it. Arguments as for `obtain`."""
    if name in dataset_names():
        return True
    source = real_set(data, name, notes) if name == "bccd" else _rendered(name, images)
    if source is not None:
        import_source(name, source, command="benchmark")
    return source is not None


def _rendered(name: str, images: int) -> Path:
    """Images of parts, close-ups of their defects, or crops of the parts in folders by split and class."""
    folder = home() / "benchmark-files" / str(_SEEDS[name])
    parts, crops = folder / "parts", folder / "crops"
    if not parts.exists():
        make_parts(parts, images=images, seed=_SEEDS[name], faults=NONE)
    if name == "parts":
        return parts
    if name == "defects":
        return write_closeups(parts, folder / "defects", _SEEDS[name])
    for picture in load_truth(parts).pictures:
        split = _SPLITS_OF_NEW[picture.split] if name == NEW else picture.split
        image = Image.fromarray(load_pixels(parts / picture.file))
        for number, part in enumerate(picture.annotations):
            if part.label in PART_LABELS:
                target = crops / split / part.label / f"{Path(picture.file).stem}_{number}.jpg"
                target.parent.mkdir(parents=True, exist_ok=True)
                crop(image, part.bbox).save(target, quality=92)
    return crops


def crop(image: Image.Image, bbox: tuple[float, float, float, float] | list[float]) -> Image.Image:
    """A square around a box [x, y, width, height], a little larger than it, of `SIDE` pixels; black beyond the image."""
    x, y, width, height = bbox
    half = _MARGIN * max(width, height) / 2
    left, top = x + width / 2 - half, y + height / 2 - half
    return image.crop((int(left), int(top), int(left + 2 * half), int(top + 2 * half))).resize((SIDE, SIDE))
