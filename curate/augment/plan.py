"""From what a person asks to what is done: which images, how they are changed, what is put on them, and how many are made."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from curate.augment.balance import deal, default_count, repeat_weights
from curate.augment.copy_paste import Ground, learn_ground
from curate.augment.labels import mask_of
from curate.augment.making import BY_DEPTH, Job, Maker, plan_jobs
from curate.augment.objects import Donor, doubted_labels, whole_objects
from curate.augment.parents import Parent, choose_parents
from curate.augment.request import Request
from curate.augment.targets import Target
from curate.augment.transplant import Defect, find_defects
from curate.dataset import Dataset
from curate.errors import UsageError
from curate.models.depth.maps import open_maps
from curate.recipes import NAMED, Pipeline, Recipe
from curate.recipes.pipeline import leaves
from curate.wording import counted

_FEW_DEFECTS: Final = 3
_SAMPLED: Final = 200
_FORM: Final = 1
"""Of what a job becomes: another number where the same job would give another image."""
_FORM_OF_DEFECTS: Final = 2


@dataclass(frozen=True)
class Things:
    """What is put on images.

    Attributes:
        objects: What can be pasted, by class.
        weights: How often each class is, in proportion; as many.
        ground: Where objects of each class are seen.
        defects: What can be transplanted, by class.
    """

    objects: Mapping[str, Sequence[Donor]] = field(default_factory=dict)
    weights: Sequence[float] = ()
    ground: Mapping[str, Ground] = field(default_factory=dict)
    defects: Mapping[str, Sequence[Defect]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.objects or self.defects)


@dataclass(frozen=True)
class Plan:
    """What is to be made, and how.

    Attributes:
        maker: How.
        jobs: What.
        parents: From which images.
        target: What more is wanted of; None for nothing certain.
        recipe: What is done to each; None where things are only put on images.
        notes: What a person should know.
    """

    maker: Maker
    jobs: list[Job]
    parents: list[Parent]
    target: Target | None
    recipe: Recipe | None
    notes: list[str]

    def size_estimate(self) -> int:
        """Bytes that the images will take, by what their parents do."""
        paths = [job.parent.path for job in self.jobs[:: max(len(self.jobs) // _SAMPLED, 1)]]
        sizes = [Path(path).stat().st_size for path in paths]
        return int(np.mean(sizes) * len(self.jobs)) if sizes else 0


def parents_of(dataset: Dataset, every: Sequence[Parent], request: Request, target: Target | None) -> list[Parent]:
    """Those of the labelled images that new ones are made from (`curate.augment.parents.choose_parents`).

    What gets things put onto it need not show the class that is wanted.
    """
    puts = bool(request.copy_paste or request.transplant)
    shown = None if puts and target is not None and target.class_name is not None else target
    return choose_parents(dataset, every, shown, request.parents)


def what_to_put(every: Sequence[Parent], request: Request, target: Target | None, notes: list[str]) -> Request:
    """The request, with what follows from a class that more is wanted of where nothing was said: its things are put on images.

    Raises:
        UsageError: Nothing would be done.
    """
    if request.recipe is not None or request.copy_paste or request.transplant:
        return request
    if target is None:
        raise UsageError(
            "nothing says what new images should be like",
            where="--target",
            remedy=f"--target slice:NAME fits a recipe; --recipe takes one: {', '.join(NAMED)}; --copy-paste CLASS, "
            "--transplant CLASS",
        )
    if target.class_name is None:
        return request
    name = target.class_name
    defects = find_defects(every, [name], (), request.seed)[name]
    if len(defects) >= _FEW_DEFECTS:
        notes.append(f"'{name}' lies on other objects, and is transplanted (--transplant {name})")
        return _with(request, transplant=(name,))
    if any(label.label == name and _has_mask(parent, label) for parent in every for label in parent.labels):
        notes.append(f"objects of '{name}' are cut out and pasted (--copy-paste {name})")
        return _with(request, copy_paste=(name,))
    raise UsageError(
        f"'{name}' has no masks, so that none can be cut out, and no light of its own to fit a recipe to",
        where=f"--target 'class:{name}'",
        remedy=f"--recipe NAME changes the images that show it: {', '.join(NAMED)}; 'curate predict --boxes-from "
        "ground_truth' makes masks of boxes",
    )


def find_things(dataset: Dataset, every: Sequence[Parent], request: Request, notes: list[str]) -> Things:
    """What can be put on images: objects and defects of the training images, real ones.

    Raises:
        UsageError: There is no such class, or nothing of it can be used.
    """
    if not request.copy_paste and not request.transplant:
        return Things()
    known = [each["name"] for each in dataset.commit.classes]
    for option, names in (("--copy-paste", request.copy_paste), ("--transplant", request.transplant)):
        for name in names:
            if name not in known:
                raise UsageError(f"there is no class '{name}'", where=option, remedy=f"classes: {', '.join(known)}")
    doubted = doubted_labels(dataset)
    objects = whole_objects(every, request.copy_paste, doubted, request.seed)
    for name in request.copy_paste:
        if not objects[name]:
            raise _nothing_to_paste(every, name)
    defects = find_defects(every, request.transplant, doubted, request.seed)
    for name in request.transplant:
        if not defects[name]:
            raise UsageError(
                f"no '{name}' with a mask lies on another object, so that there is nothing to transplant",
                where="--transplant",
                remedy=f"--copy-paste {name} for things that stand alone; masks come from labels or 'curate predict'",
            )
    if doubted:
        notes.append(f"{counted(len(doubted), 'labels')} that findings doubt are not copied")
    return Things(objects, _weights(every, objects, request.balance), learn_ground(every, objects), defects)


def plan(
    dataset: Dataset,
    every: Sequence[Parent],
    request: Request,
    target: Target | None,
    things: Things,
    recipe: Recipe | None,
    folder: Path,
    notes: list[str],
) -> Plan:
    """Everything that is to be made; the same for the same arguments.

    Args:
        dataset: The dataset.
        every: Its labelled images.
        request: What was asked for.
        target: What more is wanted of.
        things: What is put on them.
        recipe: What is done to them.
        folder: In which a folder for the files is named.
        notes: What a person should know is added here.
    """
    parents = parents_of(dataset, every, request, target)
    name = recipe.name if recipe is not None else target.name if target is not None else "objects"
    digest = _digest(recipe, things)
    maker = Maker(
        name, digest, request.seed, folder / f"{name}-{digest[:8]}", None if recipe is None else Pipeline(recipe, outside="cut"),
        things.objects, things.weights, things.ground, things.defects, open_maps(dataset),
    )  # fmt: skip
    _tell_of_depth(recipe, parents, maker, notes)
    doubted = doubted_labels(dataset)
    wrong = sum(any(label.annotation_id in doubted for label in parent.labels) for parent in parents)
    if wrong:
        notes.append(
            f"{wrong:,} of {counted(len(parents), 'parents')} have a label that findings doubt, and their children will have it "
            "too; mend them first, or leave them out with --from"
        )
    weights = repeat_weights(parents) if request.balance else np.ones(len(parents))
    count = request.count if request.count is not None else _count(every, target, notes)
    uses = deal(weights, count, request.seed)
    jobs = plan_jobs(parents, uses, name=name, digest=digest, seed=request.seed)
    return Plan(maker, jobs, parents, target, recipe, notes)


def _tell_of_depth(recipe: Recipe | None, parents: Sequence[Parent], maker: Maker, notes: list[str]) -> None:
    """Say where fog has to guess how far away things are."""
    if recipe is None or all(step.transform != BY_DEPTH for step in leaves(recipe.steps)):
        return
    unknown = sum(not maker.knows_depth(parent.image_id) for parent in parents)
    if unknown:
        notes.append(
            f"fog of {recipe.name} goes by distance, which is not known of {unknown:,} of {counted(len(parents), 'parents')}: "
            "flat ground below a horizon at 35% of the height is assumed there, which is wrong for pictures from above and for "
            "close-ups (curate predict makes maps of depth)"
        )


def _count(every: Sequence[Parent], target: Target | None, notes: list[str]) -> int:
    """As many as make a third of the training images look as is wanted."""
    there = frozenset(target.image_ids.to_pylist()) if target is not None else frozenset()
    inside = sum(parent.image_id in there for parent in every)
    count = default_count(len(every), inside)
    notes.append(
        f"{counted(count, 'images')}: {inside:,} of {len(every):,} training images look as is wanted, and a third should, with "
        "what is made a tenth at least (--count)"
    )
    return count


def _weights(every: Sequence[Parent], objects: Mapping[str, Sequence[Donor]], balance: bool) -> list[float]:
    """How often each class is pasted: alike, or the rarer the more."""
    if not balance:
        return [1.0] * len(objects)
    counts = Counter(label.label for parent in every for label in parent.labels)
    return [1.0 / max(counts[name], 1) for name in objects]


def _nothing_to_paste(every: Sequence[Parent], name: str) -> UsageError:
    shown = [(parent, label) for parent in every for label in parent.labels if label.label == name]
    if any(_has_mask(*each) for each in shown):
        return UsageError(
            f"no object of '{name}' is wholly to be seen: all touch the border, are covered by others, or are doubted",
            where="--copy-paste",
            remedy="label some that are not, or choose another class",
        )
    what = "only boxes" if shown else "no labelled objects"
    return UsageError(
        f"'{name}' has {what} in the training images, and what is pasted is cut out by its mask",
        where="--copy-paste",
        remedy="label masks or outlines; 'curate predict --boxes-from ground_truth' with SAM 2 makes masks of boxes",
    )


def _has_mask(parent: Parent, label: Any) -> bool:
    return mask_of(label.shape, parent.height, parent.width) is not None


def _with(request: Request, **changes: Collection[str]) -> Request:
    return Request(**{**vars(request), **changes})


def _digest(recipe: Recipe | None, things: Things) -> str:
    """Of all that decides what an image becomes, its parent aside; 16 hexadecimal digits."""
    said = [
        _FORM_OF_DEFECTS if things.defects else _FORM,
        None if recipe is None else recipe.digest,
        [[name, [donor.label.annotation_id for donor in donors]] for name, donors in things.objects.items()],
        list(things.weights),
        [[name, [donor.label.annotation_id for donor in donors]] for name, donors in things.defects.items()],
    ]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]
