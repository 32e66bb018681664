"""What a person asks of `curate augment`, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.errors import UsageError
from curate.wording import counted


@dataclass(frozen=True)
class Request:
    """What is wanted.

    Attributes:
        target: What more is wanted of: 'slice:NAME', 'class:NAME', 'finding:KIND', or an SQL condition; None for nothing certain.
        target_option: How the target was given, for errors: `--target`, `--where` or `--incoming`.
        reference: SQL condition on the images that the target is compared with; None for the rest.
        recipe: Name or file of a recipe; None to fit one to the target.
        parents: SQL condition on the images that are changed; None for all that may be.
        count: How many images; None for as many as are sensible.
        copy_paste: Classes whose objects are pasted.
        transplant: Classes of defects that are put on other objects.
        balance: Whether images and objects of rare classes are used more often.
        empty: Whether images without annotations are known to have nothing on them.
        output: Folder to write in place of the dataset.
        fit_only: Whether nothing is made, so that a recipe that does nothing is an answer.
        seed: Of everything random.
    """

    target: str | None = None
    target_option: str = "--target"
    reference: str | None = None
    recipe: str | None = None
    parents: str | None = None
    count: int | None = None
    copy_paste: Sequence[str] = ()
    transplant: Sequence[str] = ()
    balance: bool = False
    empty: bool = False
    output: Path | None = None
    fit_only: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise UsageError(f"{self.count} images cannot be made", where="--count", remedy="at least 1")
        if self.reference is not None and self.target is None:
            raise UsageError(
                "what should become like what?",
                where="--reference",
                remedy="name the wanted images: --incoming SQL, or --target",
            )


@dataclass(frozen=True)
class Augmented:
    """What came of it.

    Attributes:
        recipe: Its name, or what was done where there is none.
        digest: Of all that decides what an image becomes.
        parents: How many images could be parents.
        added: New images in the dataset, or the folder.
        annotations: On them.
        reused: How many of the images an interrupted run had made.
        present: How many were there from an earlier run.
        image_ids: Of those that were added, and of those that were there.
        failed: Why an image could not be made, and how often.
        dropped: Why an image was made and not kept, and how often.
        output: The folder, where not the dataset was written.
        commit: Number of the dataset's newest commit.
        check: What checking the new images came to, JSON-ready; None where they were not checked.
        notes: What a person should know, one sentence each.
    """

    recipe: str
    digest: str
    parents: int
    added: int
    annotations: int
    reused: int
    present: int
    image_ids: tuple[str, ...]
    failed: dict[str, int]
    dropped: dict[str, int]
    output: str | None
    commit: int
    check: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {key: value for key, value in vars(self).items() if key not in {"notes", "image_ids"}}

    def describe(self) -> str:
        """A sentence for a person."""
        place = self.output or f"commit {self.commit}"
        made = f"{counted(self.added, 'images')} with {counted(self.annotations, 'annotations')}, by {self.recipe}: {place}"
        return (
            made if self.added else f"nothing new: {counted(self.present, 'images')} of {self.recipe} are there already"
        )
