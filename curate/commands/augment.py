"""curate augment: make more of what the data lack, from labelled images, and find out whether it helps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.commands.app import command_line
from curate.commands.options import DatasetOption, JsonOption, SeedOption, YesOption
from curate.commands.output import agrees, note, print_json

if TYPE_CHECKING:
    from curate.augment.plan import Plan
    from curate.augment.request import Augmented
    from curate.augment.run import Intent

_MUCH = 1 << 30
"""Bytes from which on a person is asked."""

TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target", help="What more is wanted of: slice:NAME, class:NAME or finding:KIND.", metavar="KIND:NAME"
    ),
]
WantedOption = Annotated[
    str | None,
    typer.Option("--where", help="The same as a condition on images: \"array_has(tags, 'night')\".", metavar="SQL"),
]
ReferenceOption = Annotated[
    str | None,
    typer.Option(
        "--reference",
        help="With --incoming: the images that those are compared with. Default: the rest.",
        metavar="SQL",
    ),
]
IncomingOption = Annotated[
    str | None, typer.Option("--incoming", help="New images that training images should look like.", metavar="SQL")
]
RecipeOption = Annotated[
    str | None,
    typer.Option("--recipe", help="Fit nothing: a recipe by its name, or a file.", metavar="NAME|FILE"),
]
FromOption = Annotated[
    str | None,
    typer.Option("--from", help="Labelled images that are changed. Default: those not of the target.", metavar="SQL"),
]
CopyPasteOption = Annotated[
    list[str] | None,
    typer.Option("--copy-paste", help="Cut objects of this class out and paste them. Repeatable.", metavar="CLASS"),
]
TransplantOption = Annotated[
    list[str] | None,
    typer.Option(
        "--transplant", help="Put defects of this class on other objects of the same kind. Repeatable.", metavar="CLASS"
    ),
]
BalanceOption = Annotated[bool, typer.Option("--balance", help="Use images and objects of rare classes more often.")]
CountOption = Annotated[
    int | None,
    typer.Option(
        "--count",
        help="How many images. Default: until a third of the training images look as is wanted.",
        metavar="N",
    ),
]
EmptyOption = Annotated[
    bool, typer.Option("--empty", help="Images without annotations are known to have nothing on them.")
]
FitOnlyOption = Annotated[bool, typer.Option("--fit-only", help="Fit the recipe, say what it is, and make nothing.")]
SaveOption = Annotated[
    Path | None, typer.Option("--save-recipe", help="Write the recipe as YAML for albumentations.", metavar="FILE")
]
PlainOption = Annotated[
    bool,
    typer.Option("--plain", help="With --save-recipe: only what albumentations reads where there is no curate."),
]
PreviewOption = Annotated[
    Path | None,
    typer.Option("--preview", help="Write a contact sheet of what would be made, and make nothing.", metavar="FILE"),
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", help="Write a COCO folder, and leave the dataset as it is.", metavar="FOLDER"),
]
ProveOption = Annotated[
    bool, typer.Option("--prove", help="Train with the new images and without, and measure what they bring.")
]
SeedsOption = Annotated[
    int, typer.Option("--seeds", help="How many pairs of trainings --prove does: one says little.", metavar="N", min=1)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting of the trainings of --prove: epochs=20. Repeatable.", metavar="KEY=VALUE"),
]


def augment(
    dataset: DatasetOption,
    target: TargetOption = None,
    where: WantedOption = None,
    incoming: IncomingOption = None,
    reference: ReferenceOption = None,
    recipe: RecipeOption = None,
    from_: FromOption = None,
    copy_paste: CopyPasteOption = None,
    transplant: TransplantOption = None,
    balance: BalanceOption = False,
    count: CountOption = None,
    empty: EmptyOption = False,
    fit_only: FitOnlyOption = False,
    save_recipe: SaveOption = None,
    plain: PlainOption = False,
    preview: PreviewOption = None,
    output: OutputOption = None,
    prove: ProveOption = False,
    seeds: SeedsOption = 3,
    option: SetOption = None,
    seed: SeedOption = 0,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Make new training images that look like a target, with their labels: a recipe is fitted to it, or named.

    They are in the dataset's training part, tagged 'synthetic', and left out wherever something is measured. 'curate undo' takes
    them away again. Interrupted, the same command goes on.
    """
    from curate.augment.request import Request
    from curate.commands.train import phases

    _require_sense(fit_only=fit_only, prove=prove, output=output, option=option, save_recipe=save_recipe, plain=plain)
    named, wanted = _target(target, where, incoming)
    request = Request(
        target=wanted, target_option=named, reference=reference, recipe=recipe, parents=from_, count=count,
        copy_paste=tuple(copy_paste or ()), transplant=tuple(transplant or ()), balance=balance, empty=empty,
        output=output, fit_only=fit_only, seed=seed,
    )  # fmt: skip
    from curate.augment.run import understand

    _require_files(save_recipe, preview)
    with phases() as report:
        intent = understand(dataset, request, report=report)
    _save(intent, save_recipe, fit_only, plain)
    if fit_only:
        _print_fit(intent, json)
        return
    if preview is not None:
        _preview(intent, preview, json)
        return
    if prove:
        _require_provable(intent, option or [], seeds)
    result = _make(intent, yes)
    for line in result.notes:
        note(line)
    proof = _prove(intent, result, seeds, option or []) if prove else None
    _print(result, proof, json)


def _target(target: str | None, where: str | None, incoming: str | None) -> tuple[str, str | None]:
    """The option that says what more is wanted of, and what it says."""
    from curate.errors import UsageError

    given = {"--target": target, "--where": where, "--incoming": incoming}
    named = {option: value for option, value in given.items() if value is not None}
    if len(named) > 1:
        raise UsageError(
            f"{' and '.join(named)} all say what more is wanted of", where=", ".join(named), remedy="give one of them"
        )
    return next(iter(named.items()), ("--target", None))


def _require_sense(
    *, fit_only: bool, prove: bool, output: Path | None, option: list[str] | None, save_recipe: Path | None, plain: bool
) -> None:
    """Options that contradict one another, or mean nothing without another."""
    from curate.errors import UsageError

    if prove and output is not None:
        raise UsageError(
            "what is not in the dataset cannot be proved in it",
            where="--prove, --output",
            remedy="leave one of them out",
        )
    if prove and fit_only:
        raise UsageError(
            "nothing is made that could be proved", where="--prove, --fit-only", remedy="leave one of them out"
        )
    if option and not prove:
        raise UsageError("nothing is trained", where="--set", remedy="add --prove")
    if plain and save_recipe is None:
        raise UsageError("no recipe is written", where="--plain", remedy="add --save-recipe FILE")


def _require_files(save_recipe: Path | None, preview: Path | None) -> None:
    """That what is fitted can be written is seen before it is fitted."""
    from curate.recipes.files import require_recipe_file
    from curate.recipes.preview import require_format

    if save_recipe is not None:
        require_recipe_file(save_recipe)
    if preview is not None:
        require_format(preview)


def _save(intent: Intent, path: Path | None, fit_only: bool, plain: bool) -> None:
    from curate.errors import UsageError

    if intent.recipe is None and fit_only and intent.fitted is not None:
        if path is not None:
            note("no recipe was written, for it would do nothing")
        return
    if intent.recipe is None and (path is not None or fit_only):
        raise UsageError(
            "there is no recipe: things are put on images, and the images are left as they are",
            where="--save-recipe" if path is not None else "--fit-only",
            remedy="name a target that light sets apart, or a recipe",
        )
    if intent.recipe is not None and path is not None:
        from curate.recipes import own_transforms, write_recipe

        lost = write_recipe(intent.recipe, path, plain=plain)
        note(f"the recipe is in {path}")
        for line in lost:
            note(f"lost in it: {line}")
        own = () if plain else own_transforms(intent.recipe)
        if own:
            note(
                f"to read it, albumentations needs curate installed, and 'import curate.recipes' first: {', '.join(own)} "
                "are curate's own; --plain writes what albumentations has nearest to them"
            )


def _print_fit(intent: Intent, json: bool) -> None:
    from curate.report.augment import print_fit

    for line in intent.notes:
        note(line)
    if json:
        print_json(intent.fit_json())
    else:
        print_fit(intent)


def _preview(intent: Intent, path: Path, json: bool) -> None:
    from curate.augment.run import plan_images
    from curate.augment.sheet import write_preview

    plan = plan_images(intent)
    shown = write_preview(plan, path)
    for line in intent.notes:
        note(line)
    if json:
        print_json({"preview": str(path), "recipe": plan.maker.name, "images": len(plan.jobs), "shown": shown})
    else:
        note(
            f"{path} shows {shown:,} of the {len(plan.jobs):,} images that would be made, as they would be; nothing was made"
        )


def _make(intent: Intent, yes: bool) -> Augmented:
    from curate.augment.run import augment as make
    from curate.commands.train import phases

    with phases() as report:
        return make(intent, command=command_line(), report=report, agree=_asker(yes))


def _asker(yes: bool) -> Callable[[Plan], None]:
    """Asks before much is written."""

    def ask(plan: Plan) -> None:
        from curate.errors import UsageError

        size = plan.size_estimate()
        question = f"Make {len(plan.jobs):,} images, about {size / _MUCH:.1f} GB?"
        if size >= _MUCH and not yes and not agrees(question):
            raise UsageError("nothing was made", where="--count", remedy="answer y, say --yes, or ask for fewer")

    return ask


def _require_provable(intent: Intent, pairs: list[str], seeds: int) -> None:
    """What a proof would refuse is refused before anything is made."""
    from curate.augment.proving import what_to_prove
    from curate.commands.train import settings_of

    what_to_prove(intent, settings_of(pairs), seeds=seeds)


def _prove(intent: Intent, result: Augmented, seeds: int, pairs: list[str]) -> Any:
    from curate.augment.proving import prove_images
    from curate.commands.train import phases, settings_of

    with phases() as report:
        settings = settings_of(pairs)
        return prove_images(intent, result, settings, seeds=seeds, command=command_line(), report=report, say=note)


def _print(result: Augmented, proof: Any, json: bool) -> None:
    from curate.report.augment import print_augmented

    if json:
        print_json(result.to_json() | ({} if proof is None else {"proof": proof.to_json()}))
    else:
        print_augmented(result, proof)
