"""What `curate augment` did, as text for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from curate.augment.fit.base import Parameter
from curate.augment.prove.store import Proof
from curate.augment.request import Augmented
from curate.augment.run import Intent
from curate.recipes import Step
from curate.report.terminal import console, print_table
from curate.wording import counted

_RULE: Final = (
    "'differs' asks for more than an interval beside 'nothing': so many things are looked at that one is there by chance, and "
    "one may stand in for another. What is marked explains, beyond all else that is, what chance would in one of 600 fits; JPEG "
    "quality has to be 3 lower besides, shadows and glare on a tenth more of the images. The rest is left as it is"
)


def print_augmented(result: Augmented, proof: Proof | None) -> None:
    """Print what was made, what was not and why, and what training with it brought."""
    out = console()
    out.print(result.describe(), soft_wrap=True)
    rows = [
        {"images": f"{count:,}", "what": what, "why": why}
        for what, reasons in (("not made", result.failed), ("not kept", result.dropped))
        for why, count in sorted(reasons.items(), key=lambda each: -each[1])
    ]
    if rows:
        out.print()
        print_table(rows, right={"images"})
    if proof is not None:
        out.print()
        out.print(proof.describe(), soft_wrap=True)


def print_fit(intent: Intent) -> None:
    """Print a recipe: what was measured, with its interval, and the steps that follow from it."""
    out = console()
    if intent.fitted is not None:
        source, target = intent.fitted.images
        out.print(
            f"{intent.fitted.recipe.name}: {target:,} images of the target beside {source:,} others", soft_wrap=True
        )
        lights = intent.fitted.lights
        for number, (images, parameters) in enumerate(lights, 1):
            out.print(f"\nfitted from light {number} of the others: {counted(images, 'images')}", soft_wrap=True)
            _print_parameters(parameters)
        if not lights:
            _print_parameters(intent.fitted.parameters)
        out.print(_RULE, soft_wrap=True)
        out.print()
    for line in _lines(() if intent.recipe is None else intent.recipe.steps, ""):
        out.print(line, soft_wrap=True)


def _print_parameters(parameters: Mapping[str, Parameter]) -> None:
    console().print()
    print_table(
        [
            {
                "what": each.name.replace("_", " "), "estimate": f"{each.estimate:.3g}",
                "95%": f"{each.low:.3g} to {each.high:.3g}", "nothing": f"{each.nothing:.3g}",
                "differs": "yes" if each.differs else "", "unit": each.unit,
            }
            for each in parameters.values()
        ],
        right={"estimate", "nothing"},
    )  # fmt: skip
    console().print()


def _lines(steps: Sequence[Step], indent: str) -> Iterator[str]:
    for step in steps:
        params = ", ".join(f"{key}={value}" for key, value in step.params.items())
        yield f"{indent}{step.transform}({params}), chance {step.p:g}"
        yield from _lines(step.steps, indent + "  ")
