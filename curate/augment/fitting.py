"""Which images a recipe is fitted to, and which they are compared with: those that may be learnt from, where there are enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pyarrow as pa

from curate.augment.fit import Fitted, fit_recipe
from curate.augment.fit.fit import LEAST
from curate.augment.parents import is_measured_on
from curate.augment.targets import BoolArray, Target
from curate.dataset import Dataset
from curate.dataset.synthetic import real_only
from curate.errors import ImageError, UsageError
from curate.imaging import read_header
from curate.wording import counted

Report = Callable[[int, int, str], None]
"""Told (done, total, what is going on)."""


@dataclass(frozen=True)
class Side:
    """Images that are looked at.

    Attributes:
        paths: Their files.
        groups: What each belongs with: its video or burst, else itself.
    """

    paths: list[str]
    groups: list[str]

    def __len__(self) -> int:
        return len(self.paths)


def fit_target(
    dataset: Dataset, target: Target, reference: Target | None, *, seed: int, notes: list[str], report: Report
) -> Fitted:
    """Fit a recipe that makes other images look like those of a target.

    Args:
        dataset: Their dataset.
        target: What others should look like.
        reference: What they look like now; None for all that are not of the target.
        seed: Of what is drawn.
        notes: What a person should know is added here.
        report: Told how many images are read.

    Raises:
        UsageError: There are too few images on a side.
        ImageError: A file cannot be read.
    """
    images = dataset.table("images", columns=["image_id", "path", "group", "split"], where=real_only(dataset, None))
    inside = target.among(images["image_id"])
    others = ~inside if reference is None else reference.among(images["image_id"]) & ~inside
    wanted, source = _side(images, inside, measured=False), _side(images, others, measured=False)
    if len(wanted) < LEAST:
        more = _side(images, inside, measured=True)
        if more.paths:
            notes.append(
                f"the recipe is fitted to {counted(len(more), 'images')} of splits that are measured on as well, by their pixels "
                "alone: what is measured on them may flatter it"
            )
        wanted = Side(wanted.paths + more.paths, wanted.groups + more.groups)
    for name, side in (("the target", wanted), ("what it is compared with", source)):
        if len(side) < LEAST:
            raise UsageError(
                f"{counted(len(side), 'images')} of {name} can be read, too few to fit a recipe to",
                where=f"--target {target.text!r}",
                remedy=f"{LEAST} at least, better 50; or --recipe NAME, which fits nothing",
            )
    fitted = fit_recipe(
        source.paths, wanted.paths, seed=seed, name=target.name, groups=(source.groups, wanted.groups),
        progress=lambda done, total: report(done, total, "fitting a recipe"),
    )  # fmt: skip
    notes += fitted.notes
    if fitted.lights:
        counts = ", ".join(f"{count:,}" for count, _ in fitted.lights)
        notes.append(
            f"the other images were taken in {len(fitted.lights)} lights ({counts} images): each is changed by what was fitted "
            "from its own"
        )
    about = {**fitted.recipe.about, "target": target.text, "commit": dataset.commit.number}
    return replace(fitted, recipe=replace(fitted.recipe, about=about))


def _side(images: pa.Table, chosen: BoolArray, *, measured: bool) -> Side:
    """Those of the chosen images that are, or are not, of a split that is measured on, and whose files are images."""
    rows = sorted(images.filter(pa.array(chosen)).to_pylist(), key=lambda row: str(row["image_id"]))
    kept = [row for row in rows if is_measured_on(row["split"]) == measured and _is_readable(row["path"])]
    return Side([row["path"] for row in kept], [row["group"] or row["image_id"] for row in kept])


def _is_readable(path: str | None) -> bool:
    if path is None:
        return False
    try:
        read_header(path)
    except ImageError:
        return False
    return True
