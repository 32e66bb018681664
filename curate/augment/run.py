"""`curate augment`: measure what is wanted, make more of it, check it, keep it in one commit."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from curate.augment.check.made import check_made
from curate.augment.fit import Fitted
from curate.augment.fitting import Report as Report
from curate.augment.fitting import fit_target
from curate.augment.making import Made
from curate.augment.parents import Parent, labelled_images
from curate.augment.plan import Plan, find_things, plan, what_to_put
from curate.augment.request import Augmented, Request
from curate.augment.store import add_to_dataset, holds_jobs, require_new_folder, stored_jobs, unfinished, write_folder
from curate.augment.synthesise import Synthesis, synthesise
from curate.augment.targets import Target, find_target
from curate.dataset import Dataset, Transaction, begin, open_dataset
from curate.errors import UsageError
from curate.recipes import Recipe, load_recipe
from curate.wording import counted

FILES: Final = "files/augment"
"""Of a dataset's folder: where new images are."""


@dataclass(frozen=True)
class Intent:
    """What a request comes to before anything is made.

    Attributes:
        request: With what follows from it.
        dataset: At the commit that is read.
        target: What more is wanted of; None for nothing certain.
        every: The labelled images that new ones may be made from.
        recipe: What is done to them; None where things are only put on them.
        fitted: What fitting it came to; None where it was named.
        notes: What a person should know.
    """

    request: Request
    dataset: Dataset
    target: Target | None
    every: list[Parent]
    recipe: Recipe | None
    fitted: Fitted | None
    notes: list[str]

    def fit_json(self) -> dict[str, Any]:
        """The recipe and what it rests on, JSON-ready."""
        fitted: dict[str, Any] = {}
        if self.fitted is not None and not self.fitted.lights:
            fitted["fitted"] = {name: each.to_json() for name, each in self.fitted.parameters.items()}
        elif self.fitted is not None:
            fitted["lights"] = [
                {"images": count, "fitted": {name: each.to_json() for name, each in found.items()}}
                for count, found in self.fitted.lights
            ]
        steps = [] if self.recipe is None else [each.transform for each in self.recipe.steps]
        return {"recipe": None if self.recipe is None else self.recipe.name, "steps": steps, "fitted": {}, **fitted}


def understand(name: str, request: Request, *, report: Report) -> Intent:
    """Find the target, the labelled images and the recipe, which is fitted where none is named.

    Raises:
        UsageError: The request cannot be met; nothing is written.
        InputError: The recipe cannot be read or done.
    """
    if request.output is not None and not request.output.is_dir():
        require_new_folder(request.output)
    dataset = open_dataset(name)
    notes: list[str] = []
    target = None if request.target is None else find_target(dataset, request.target, option=request.target_option)
    recipe = None if request.recipe is None else load_recipe(request.recipe)
    every = labelled_images(dataset, empty=request.empty, notes=notes)
    request = what_to_put(every, request, target, notes)
    fitted = None
    if recipe is not None and target is not None and target.class_name is None and request.parents is None:
        notes.append(
            f"with --recipe, {request.target_option} names images that look as is wanted already: the others are changed "
            "(--from says which)"
        )
    if recipe is None and target is not None and target.class_name is None:
        reference = None if request.reference is None else find_target(dataset, request.reference, option="--reference")
        fitted = fit_target(dataset, target, reference, seed=request.seed, notes=notes, report=report)
        recipe = _some_recipe(fitted, request, notes)
    return Intent(request, dataset, target, every, recipe, fitted, notes)


def plan_images(intent: Intent) -> Plan:
    """What is to be made; nothing is made yet.

    Raises:
        UsageError: There is nothing to make new images from, or nothing to put on them.
    """
    dataset, request = intent.dataset, intent.request
    things = find_things(dataset, intent.every, request, intent.notes)
    folder = dataset.path / FILES if request.output is None else unfinished(request.output)
    return plan(dataset, intent.every, request, intent.target, things, intent.recipe, folder, intent.notes)


def augment(
    intent: Intent,
    *,
    command: str,
    report: Report,
    workers: int | None = None,
    agree: Callable[[Plan], None] = lambda plan: None,
) -> Augmented:
    """Make new images and keep them: one commit, or a folder. Interrupted, it goes on where it stopped.

    Args:
        intent: What `understand` gave.
        command: The command line, for the history.
        report: Told of every step.
        workers: Processes; None for one per core.
        agree: Told what is planned before anything is made; raises if that is not wanted.

    Raises:
        UsageError: There is nothing to make new images from; the folder is there already.
        InputError: The disk is full, or not one image could be made.
    """
    request, name = intent.request, intent.dataset.name
    planned = plan_images(intent)
    if request.output is not None:
        if holds_jobs(request.output, planned.jobs):
            return _nothing_new(intent, planned)
        require_new_folder(request.output)
    agree(planned)
    with begin(name, command=command) as transaction:
        present = stored_jobs(transaction.base, planned.jobs) if request.output is None else frozenset()
        jobs = [job for job in planned.jobs if job.image_id not in present]
        spool = _spool(transaction.base, request, planned)
        result = synthesise(
            planned.maker, jobs, spool, workers=workers,
            progress=lambda done, total: report(done, total, "making images"),
        )  # fmt: skip
        if request.output is not None and not result.made:
            shutil.rmtree(unfinished(request.output), ignore_errors=True)
        _require_some(result, jobs)
        kept, dropped, check = _checked(transaction, intent, planned, result.made, report)
        if request.output is not None:
            write_folder(transaction.base, kept, request.output, planned.jobs)
            shutil.rmtree(unfinished(request.output), ignore_errors=True)
        else:
            add_to_dataset(transaction, kept)
            transaction.after_commit(result.discard_spool)
    _delete_files(result.made, kept)
    return Augmented(
        recipe=planned.maker.name, digest=planned.maker.digest, parents=len(planned.parents), added=len(kept),
        annotations=sum(len(each.annotations) for each in kept), reused=result.reused, present=len(present),
        image_ids=(*sorted(present), *(each.job.image_id for each in kept)),
        failed=dict(result.failed), dropped=dict(dropped),
        output=None if request.output is None else str(request.output),
        commit=open_dataset(name).commit.number, check=check, notes=intent.notes,
    )  # fmt: skip


def _nothing_new(intent: Intent, planned: Plan) -> Augmented:
    """What comes of making a folder again that is there just so."""
    ids = tuple(sorted(job.image_id for job in planned.jobs))
    return Augmented(
        recipe=planned.maker.name, digest=planned.maker.digest, parents=len(planned.parents), added=0, annotations=0, reused=0,
        present=len(ids), image_ids=ids, failed={}, dropped={}, output=str(intent.request.output),
        commit=intent.dataset.commit.number, notes=intent.notes,
    )  # fmt: skip


def _some_recipe(fitted: Fitted, request: Request, notes: list[str]) -> Recipe | None:
    """The fitted recipe; None where it does nothing, and things are put on images all the same or nothing is made anyway.

    Raises:
        UsageError: It does nothing, and neither does anything else.
    """
    if fitted.recipe.steps:
        return fitted.recipe
    said = "the target's images differ from the rest in nothing that a recipe does: light, colour, blur, noise or compression"
    if not request.copy_paste and not request.transplant and not request.fit_only:
        raise UsageError(
            said,
            where=f"{request.target_option} {request.target!r}",
            remedy="name what to do: --recipe NAME, --copy-paste CLASS",
        )
    notes.append(said)
    return None


def _require_some(result: Synthesis, jobs: Sequence[Any]) -> None:
    if jobs and not result.made:
        reason, count = result.failed.most_common(1)[0]
        raise UsageError(
            f"not one of {counted(len(jobs), 'images')} could be made; {counted(count, 'times')}: {reason}",
            remedy="other images with --from, another recipe, or other classes",
        )


def _checked(
    transaction: Transaction, intent: Intent, planned: Plan, made: Sequence[Made], report: Report
) -> tuple[list[Made], Counter[str], dict[str, Any] | None]:
    """The images that are kept, why others are not, and what checking them came to."""
    if not made:
        return [], Counter(), None
    found = check_made(
        transaction.base, made, intent.target, seed=intent.request.seed,
        progress=lambda done, total: report(done, total, "checking images"),
    )  # fmt: skip
    intent.notes.extend(found.describe())
    dropped = found.dropped.tolist()
    return [each for each, gone in zip(made, dropped, strict=True) if not gone], found.reasons(), found.to_json()


def _delete_files(made: Sequence[Made], kept: Sequence[Made]) -> None:
    """Take away the files of images that are not kept."""
    names = {each.job.image_id for each in kept}
    for each in made:
        if each.job.image_id not in names and each.image is not None:
            Path(each.image["path"]).unlink(missing_ok=True)


def _spool(dataset: Dataset, request: Request, planned: Plan) -> Path:
    """Where the labels of finished images wait: images for a folder elsewhere have nothing to do with those for the dataset."""
    above = dataset.path / "spool" if request.output is None else unfinished(request.output)
    return above / f"augment-{planned.maker.digest}"
