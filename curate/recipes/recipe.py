"""A recipe: what is done to images, with what chance, by which parameters, and why.

    recipe = load_recipe("night")                 # one that comes with curate
    recipe = load_recipe("dark_warm.yaml")        # a file
    write_recipe(recipe, Path("mine.yaml"))

It is a tree of transforms as albumentations nests them; `curate.recipes.pipeline` runs it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Step:
    """One transform, or a group of steps.

    Attributes:
        transform: Name of a class of albumentations ('RandomGamma', 'OneOf') or of `curate.recipes.transforms`.
        params: Its arguments but `p` and `transforms`: plain numbers, texts, booleans, lists. What is left out has the
            transform's own default.
        p: Chance that it is done; of a step in a `OneOf`, its weight.
        steps: Of a group ('Sequential', 'OneOf', 'SomeOf', 'RandomOrder'), what is in it.
    """

    transform: str
    params: Mapping[str, Any] = field(default_factory=dict)
    p: float = 1.0
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """Steps that are done one after the other.

    Attributes:
        name: For people, tags and file names.
        steps: What is done.
        about: Where it comes from: `description`, `source` (the paper or the physics), and of a fitted recipe `fitted`,
            `target`, `commit`, and `references`: the files of images to take colours from, by the `metadata_key` of the
            transform that takes them. What `yaml` can write.
        folder: Where the references' relative paths start: the recipe's file's folder.
    """

    name: str
    steps: tuple[Step, ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = field(default=None, compare=False)

    @property
    def digest(self) -> str:
        """Of the steps and references: recipes with the same one do the same; 16 hexadecimal digits."""
        said = [_plain(step) for step in self.steps], self.about.get("references")
        text = json.dumps(said, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(step: Step) -> list[Any]:
    return [step.transform, dict(step.params), step.p, [_plain(inner) for inner in step.steps]]
