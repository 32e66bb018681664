"""A recipe at work: images and what is drawn on them are changed together, the same way for the same random state.

pipeline = Pipeline(named_recipe("night"))
applied = pipeline(pixels, np.random.default_rng(0), shapes=shapes)
applied.pixels, applied.shapes
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from curate.errors import InputError
from curate.imaging import Pixels, load_pixels
from curate.recipes import backend
from curate.recipes.labels import Outside, move, require_on_image
from curate.recipes.recipe import Recipe, Step
from curate.recipes.shapes import Shape
from curate.recipes.warps import Array, Size, Warp
from curate.recipes.warps_of import repeats_border, warp_of

References = Mapping[str, Sequence[Pixels]]
"""Images to take colours from, by the `metadata_key` of the transform that takes them."""

_MOST_SEED: Final = 2**31
_SHORT: Final = 16
"""Values in an array that is told of what was drawn; longer ones are maps and noise."""


@dataclass(frozen=True)
class Drawn:
    """One transform that was done.

    Attributes:
        transform: Its name.
        params: What it drew, in plain numbers, texts and lists; without maps and noise.
    """

    transform: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Drawing:
    """An image after a recipe, and how it was moved.

    Attributes:
        pixels: The image.
        warps: What moved it, in order; none where its pixels stayed where they were.
        applied: What was done.
    """

    pixels: Pixels
    warps: tuple[Warp, ...]
    applied: tuple[Drawn, ...]


@dataclass(frozen=True)
class Applied:
    """An image and its annotations after a recipe.

    Attributes:
        pixels: The image.
        shapes: As many as were given, None for one that has left the image. Where nothing was moved, those that were given.
        visible: Share of each that is still on the image (`curate.recipes.labels.Moved`); float64 of shape (n,).
        applied: What was done.
    """

    pixels: Pixels
    shapes: tuple[Shape | None, ...]
    visible: Array
    applied: tuple[Drawn, ...]


@dataclass(eq=False)
class Pipeline:
    """A recipe made ready. It may be called from several threads, and sent to other processes.

    Attributes:
        recipe: What is done.
        references: Images to take colours from; None reads those that the recipe names.
        min_visible: Annotations of which a smaller share is left are gone.
        outside: What is done with annotations that leave the image from the start.

    Raises:
        InputError: The recipe cannot be done: a transform, a parameter or a reference of it is not there.
    """

    recipe: Recipe
    references: References | None = None
    min_visible: float = 0.0
    outside: Outside = "refuse"
    _needs: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._needs = frozenset(step.transform for step in leaves(self.recipe.steps))
        _machine(self)
        self.references = _references(self.recipe, self.references)

    def __call__(
        self,
        pixels: Pixels,
        rng: np.random.Generator,
        shapes: Sequence[Shape] = (),
        depth: npt.ArrayLike | None = None,
    ) -> Applied:
        """Change an image and its annotations.

        Args:
            pixels: The image.
            rng: Decides what happens; the same state gives the same change.
            shapes: What is drawn on it.
            depth: How far away what each pixel shows is, farther is larger; shape (height, width). For `FogWithDepth`.

        Raises:
            InputError: The recipe cannot be done to this image, or an annotation leaves it (unless `outside` is 'cut').
        """
        size = (pixels.shape[0], pixels.shape[1])
        require_on_image(shapes, size, outside=self.outside)
        boxes = [shape.bbox for shape in shapes if shape.bbox is not None] if self._needs & backend.BY_BOXES else ()
        drawing = self.draw(pixels, rng, boxes=np.reshape(boxes, (-1, 4)), depth=depth, labelled=bool(shapes))
        moved = move(shapes, drawing.warps, min_visible=self.min_visible)
        return Applied(drawing.pixels, moved.shapes, moved.visible, drawing.applied)

    def draw(
        self,
        pixels: Pixels,
        rng: np.random.Generator,
        *,
        boxes: npt.ArrayLike = (),
        depth: npt.ArrayLike | None = None,
        labelled: bool = False,
    ) -> Drawing:
        """Change an image alone, and say how it was moved.

        Args:
            pixels: The image.
            rng: Decides what happens.
            boxes: [x, y, width, height] for crops that ask where things are; shape (k, 4).
            depth: As in a call.
            labelled: Whether anything is drawn on the image, so that no step may show things twice.

        Raises:
            InputError: The recipe cannot be done to this image.
        """
        seed = int(rng.integers(_MOST_SEED))
        if not self.recipe.steps:
            return Drawing(np.ascontiguousarray(pixels), (), ())
        machine = _machine(self)
        # One state for all steps: `set_random_seed` gives each a state of its own with the same seed, so that what is
        # mirrored would always be moved as well.
        machine.compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        machine.seen.clear()
        data = {**self._told(pixels, boxes, depth), **(self.references or {})}
        try:
            done = machine.compose(image=np.ascontiguousarray(pixels, dtype=np.uint8), **data)["image"]
        except Exception as error:  # of albumentations, OpenCV and numpy
            raise self._refused(pixels, backend.said_of(error)) from error
        if done.dtype != np.uint8 or done.ndim != 3 or done.shape[2] != 3:
            raise self._refused(pixels, f"it gives no RGB image of 8 bits but {done.dtype} of shape {done.shape}")
        warps = []
        for transform, params, before, after in machine.seen:
            warp = warp_of(transform, params, before, after)
            if warp is not None and labelled and repeats_border(transform):
                said = (
                    f"{type(transform).__name__} fills the border with things shown twice, which would have no labels"
                )
                raise self._refused(pixels, said, "set its border_mode to 0")
            warps += [] if warp is None else [warp]
        applied = tuple(Drawn(type(transform).__name__, _plain(params)) for transform, params, _, _ in machine.seen)
        return Drawing(np.ascontiguousarray(done), tuple(warps), applied)

    def _told(self, pixels: Pixels, boxes: npt.ArrayLike, depth: npt.ArrayLike | None) -> dict[str, Any]:
        """What transforms are told besides the image."""
        height, width = pixels.shape[:2]
        told: dict[str, Any] = {}
        if self._needs & backend.BY_BOXES:
            given = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
            corners = np.clip(np.column_stack([given[:, :2], given[:, :2] + given[:, 2:]]), 0, [width, height] * 2)
            corners = corners[(corners[:, 2:] > corners[:, :2]).all(axis=1)]
            told = {"bboxes": corners, "rows": np.arange(len(corners))}
        if depth is not None and "FogWithDepth" in self._needs:
            distance = np.asarray(depth, dtype=np.float32)
            if distance.shape != (height, width):
                said = f"its map of depth has {distance.shape[1]} x {distance.shape[0]} values"
                raise InputError(said, where=f"image of {width} x {height}", remedy="scale the map to the image")
            told["depth"] = distance
        return told

    def _refused(
        self, pixels: Pixels, said: str, remedy: str = "change the recipe, or leave such images out"
    ) -> InputError:
        where = f"recipe {self.recipe.name}, image of {pixels.shape[1]} x {pixels.shape[0]}"
        return InputError(said, where=where, remedy=remedy)


@dataclass(frozen=True)
class _Machine:
    """One thread's pipeline of albumentations, and what it has done to the last image."""

    compose: Any
    seen: list[tuple[Any, Mapping[str, Any], Size, Size]]


# A pipeline of albumentations keeps its random state in itself, so each thread has its own.
_here = threading.local()


def _machine(pipeline: Pipeline) -> _Machine:
    made: WeakKeyDictionary[Pipeline, _Machine] | None = getattr(_here, "machines", None)
    if made is None:
        made = _here.machines = WeakKeyDictionary()
    if pipeline not in made:
        steps = [
            backend.make(step, f"{pipeline.recipe.name}, step {n}") for n, step in enumerate(pipeline.recipe.steps, 1)
        ]
        needs = frozenset(step.transform for step in leaves(pipeline.recipe.steps))
        compose = backend.compose(steps, depth="FogWithDepth" in needs, boxes=bool(needs & backend.BY_BOXES))
        machine = _Machine(compose, [])
        backend.observe(compose, lambda *seen: machine.seen.append(seen))
        made[pipeline] = machine
    return made[pipeline]


def leaves(steps: Sequence[Step]) -> Iterator[Step]:
    """The transforms among steps, those in groups too."""
    for step in steps:
        if step.transform in backend.GROUPS:
            yield from leaves(step.steps)
        else:
            yield step


def _references(recipe: Recipe, given: References | None) -> dict[str, list[Pixels]]:
    """The images that a recipe's transforms take colours from."""
    found: dict[str, list[Pixels]] = {}
    named = recipe.about.get("references") or {}
    for step in leaves(recipe.steps):
        if step.transform not in backend.BY_REFERENCES:
            continue
        default = backend.parameters(backend.transform_class(step.transform, recipe.name))["metadata_key"]
        key = str(step.params.get("metadata_key", default))
        if given is None:
            folder = recipe.folder or Path()
            found[key] = [load_pixels(folder / str(path)) for path in named.get(key, ())]
        else:
            found[key] = list(given.get(key, ()))
        if not found[key]:
            raise InputError(
                f"{step.transform} has no images to take colours from",
                where=f"recipe {recipe.name}",
                remedy=f"name some in the recipe's file under curate: references: {key}:",
            )
    return found


def _plain(value: Any) -> Any:
    """Numbers, texts, lists and mappings of them; None for what is longer than is worth telling."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist() if value.size <= _SHORT else None
    if isinstance(value, Mapping):
        found = {str(key): _plain(inner) for key, inner in value.items() if key not in {"shape", "interpolation"}}
        return {key: inner for key, inner in found.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value] if len(value) <= _SHORT else None
    return value if isinstance(value, str | int | float | bool) else None
