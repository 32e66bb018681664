"""What fitting gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curate.recipes.recipe import Recipe


@dataclass(frozen=True)
class Parameter:
    """One way in which the target may differ from the source.

    Attributes:
        name: Of it.
        unit: Of its values.
        nothing: Its value where nothing is done.
        estimate: Its likeliest value.
        low: Lower end of the 95% interval.
        high: Upper end of it.
        differs: Whether it is not `nothing`: more is explained by it than by chance.
        spread: Standard deviation from image to image of the target, beyond what the source's images vary.
    """

    name: str
    unit: str
    nothing: float
    estimate: float
    low: float
    high: float
    differs: bool
    spread: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values, rounded to what they can tell."""
        numbers = {key: round(getattr(self, key), 4) for key in ("nothing", "estimate", "low", "high", "spread")}
        return {"unit": self.unit, **numbers, "differs": self.differs}


@dataclass(frozen=True)
class Fitted:
    """A recipe that makes the source look like the target, and what it rests on.

    Attributes:
        recipe: Steps for the parameters that differ, in a camera's order; none where none does. `about["fitted"]` has the
            parameters. Where the source was taken in several lights, one step `ByLight` with such steps for each, and
            `about["lights"]` has them in place of that.
        parameters: All of them, by name, of the whole source; where there are `lights`, the recipe follows those instead.
        references: Positions in the target of images to take colours from: between them they look like all of the target.
        unexplained: What light, exposure, colour and tone leave of the difference, in chi-square for each number that was
            compared: about 1 where nothing is left.
        notes: What differs and cannot be made by a recipe, and which lights are not fitted from, in words.
        images: How many images of the source and of the target were used.
        lights: Fitted from each light of the source by itself, where it has several and the target has one: how many images
            were taken in it, and all parameters by name.
    """

    recipe: Recipe
    parameters: Mapping[str, Parameter]
    references: tuple[int, ...]
    unexplained: float
    notes: tuple[str, ...]
    images: tuple[int, int]
    lights: tuple[tuple[int, Mapping[str, Parameter]], ...] = ()
