"""The strategies by name, and what each needs to be told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from curate.loop.strategies.herding import herd
from curate.loop.strategies.k_center import k_center
from curate.loop.strategies.probabilities import MEASURES
from curate.loop.strategies.ranked import FloatArray, IntArray, Ranked, Vectors, at_random, by_score
from curate.loop.strategies.typicality import typical
from curate.wording import counted

Evidence = Literal["none", "uncertainty", "margin", "entropy", "disagreement", "suspicion", "slices"]
"""What the images are scored by."""


@dataclass(frozen=True)
class Task:
    """What a strategy chooses from.

    Attributes:
        vectors: Of n images, float32 of shape (n, d).
        candidates: Rows that may be chosen.
        covered: Rows that are labelled, or were chosen already.
        score: Of each of the n rows, NaN where not known; None where there is none. Higher is more worth a label.
        seed: Of everything random.
    """

    vectors: Vectors
    candidates: IntArray
    covered: IntArray
    score: FloatArray | None
    seed: int


@dataclass(frozen=True)
class Strategy:
    """One way to choose.

    Attributes:
        about: What it chooses, for the help text.
        choose: From a task and how many are wanted to ranked rows.
        evidence: What it scores images by.
        why: What a row's value says, in words; None where the score says it.
        whole: Whether it looks at the set as a whole: its time grows with candidates times what is chosen.
    """

    about: str
    choose: Callable[[Task, int], Ranked]
    evidence: Evidence = "none"
    why: Callable[[float], str] | None = None
    whole: bool = False

    @property
    def doubts(self) -> bool:
        """Whether it goes by what predictions doubt, where there are any."""
        return self.evidence in MEASURES or self.evidence == "disagreement"


def _ranked(task: Task, count: int) -> Ranked:
    assert task.score is not None
    return by_score(task.score, task.candidates, count, seed=task.seed)


def _random(task: Task, count: int) -> Ranked:
    return at_random(task.candidates, count, seed=task.seed)


def _k_center(task: Task, count: int) -> Ranked:
    return k_center(task.vectors, task.candidates, task.covered, count, seed=task.seed)


def _typical(task: Task, count: int) -> Ranked:
    return typical(task.vectors, task.candidates, task.covered, count, seed=task.seed)


def _mix(task: Task, count: int) -> Ranked:
    return herd(task.vectors, task.candidates, task.covered, count, weights=task.score, seed=task.seed)


MIX: Final = "mix"

STRATEGIES: Final[Mapping[str, Strategy]] = {
    MIX: Strategy(
        "what stands for the most of what is uncertain: coverage first, doubt later",
        _mix,
        "margin",
        lambda value: f"stands for about {counted(max(1, round(value)), 'images')}",
        whole=True,
    ),
    "uncertainty": Strategy("the least confident", _ranked, "uncertainty"),
    "margin": Strategy("two classes nearly as probable", _ranked, "margin"),
    "entropy": Strategy("probability spread over the classes", _ranked, "entropy"),
    "disagreement": Strategy("models, or folds of one, disagree", _ranked, "disagreement"),
    "k-center": Strategy(
        "far from everything labelled or chosen",
        _k_center,
        why=lambda value: f"{value:.2f} from what is labelled or chosen" if value > 0 else "the first, drawn at random",
        whole=True,
    ),
    "typicality": Strategy(
        "typical of a cluster without labels",
        _typical,
        why=lambda value: f"typical of a cluster of {counted(round(value), 'images')}",
        whole=True,
    ),
    "suspicion": Strategy("open findings of wrong labels", _ranked, "suspicion"),
    "slices": Strategy("like the images on which the model fails", _ranked, "slices"),
    "random": Strategy("drawn by chance", _random, why=lambda value: "drawn at random"),
}
