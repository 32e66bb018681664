"""What answers for a frame: one package, two side by side or by turns, or a light one that hands on what it is unsure of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from curate.edge.runtime.likeness import likeness
from curate.errors import InputError, UsageError
from curate.imaging import Pixels
from curate.runner import Package, PackageError, Prepared, Result, Runner


@dataclass(frozen=True)
class Answer:
    """What is said of one frame.

    Attributes:
        result: By the package that decided.
        package: Which one that is.
        is_heavy: Whether a cascade asked its heavy package.
        other: What the second of two packages says; None where there is none.
        other_package: Which one that is.
        agreement: Of both, 0 to 1; None where there is one.
    """

    result: Result
    package: Package
    is_heavy: bool = False
    other: Result | None = None
    other_package: Package | None = None
    agreement: float | None = None


class Model(Protocol):
    """What a run asks of each frame.

    Attributes:
        package: The one that names classes and thresholds.
        runners: All that are asked, the package's own first.
    """

    package: Package
    runners: tuple[Runner, ...]

    def prepare(self, pixels: Pixels) -> Any:
        """One frame, uint8 of shape (height, width, 3), as `answer` takes it. Runs in a thread of its own."""
        ...

    def answer(self, prepared: Sequence[Any]) -> list[Answer]:
        """Of n prepared frames."""
        ...


class Single:
    """One package."""

    def __init__(self, runner: Runner) -> None:
        self.package = runner.package
        self.runners: tuple[Runner, ...] = (runner,)

    def prepare(self, pixels: Pixels) -> Prepared:
        """See `Model`."""
        return self.runners[0].prepare(pixels)

    def answer(self, prepared: Sequence[Prepared]) -> list[Answer]:
        """See `Model`."""
        return [Answer(result, self.package) for result in results_of(self.runners[0], prepared)]


class Pair:
    """Two packages that both look at every frame; the first decides."""

    def __init__(self, first: Runner, second: Runner) -> None:
        require_alike(first.package, second.package)
        self.package = first.package
        self.runners: tuple[Runner, ...] = (first, second)

    def prepare(self, pixels: Pixels) -> tuple[Prepared, Prepared]:
        """See `Model`."""
        return self.runners[0].prepare(pixels), self.runners[1].prepare(pixels)

    def answer(self, prepared: Sequence[tuple[Prepared, Prepared]]) -> list[Answer]:
        """See `Model`."""
        first, second = self.runners
        ones = results_of(first, [each[0] for each in prepared])
        others = results_of(second, [each[1] for each in prepared])
        return [
            Answer(
                one,
                first.package,
                other=other,
                other_package=second.package,
                agreement=likeness(one.above(first.package.thresholds), other.above(second.package.thresholds)),
            )
            for one, other in zip(ones, others, strict=True)
        ]


class Cascade:
    """A light package first; frames on which it is less sure than a threshold go to a heavy one, whose word then counts.

    Args:
        light: Asked of every frame.
        heavy: Asked of frames whose uncertainty by the light one is above the threshold.
        threshold: In [0, 1]; `curate.edge.runtime.judging` finds it on labelled images.
    """

    def __init__(self, light: Runner, heavy: Runner, threshold: float) -> None:
        require_alike(light.package, heavy.package)
        if not 0 <= threshold <= 1:
            raise UsageError(f"a threshold of {threshold:g} is no uncertainty", where="--threshold", remedy="0 to 1")
        self.package, self.threshold = light.package, threshold
        self.runners: tuple[Runner, ...] = (light, heavy)

    def prepare(self, pixels: Pixels) -> tuple[Prepared, Pixels]:
        """See `Model`. What few frames need, the heavy package's own preparation, is left for later."""
        return self.runners[0].prepare(pixels), pixels

    def answer(self, prepared: Sequence[tuple[Prepared, Pixels]]) -> list[Answer]:
        """See `Model`."""
        light, heavy = self.runners
        answers = [Answer(each, light.package) for each in results_of(light, [first for first, _ in prepared])]
        hard = [row for row, answer in enumerate(answers) if answer.result.uncertainty > self.threshold]
        again = results_of(heavy, [heavy.prepare(prepared[row][1]) for row in hard])
        for row, result in zip(hard, again, strict=True):
            answers[row] = Answer(result, heavy.package, is_heavy=True)
        return answers


class Split:
    """Two packages of which each frame has one: a new one that is tried on a part of the frames, and the usual one.

    Args:
        first: The usual one.
        second: The new one.
        share: Part of the frames that the new one answers, in (0, 1); which ones is drawn.
        seed: Of what is drawn.

    Raises:
        UsageError: The packages have other tasks or classes, or the share is none.
    """

    def __init__(self, first: Runner, second: Runner, share: float, *, seed: int = 0) -> None:
        require_alike(first.package, second.package)
        if not 0 < share < 1:
            raise UsageError(f"{share:g} is no part of the frames", where="--share", remedy="such as 0.1")
        self.package, self._share = first.package, share
        self.runners: tuple[Runner, ...] = (first, second)
        self._draws = np.random.default_rng(seed)

    def prepare(self, pixels: Pixels) -> tuple[int, Prepared]:
        """See `Model`. Draws whose frame this is, so frames are to be prepared in their order."""
        turn = int(self._draws.random() < self._share)
        return turn, self.runners[turn].prepare(pixels)

    def answer(self, prepared: Sequence[tuple[int, Prepared]]) -> list[Answer]:
        """See `Model`."""
        answers: dict[int, Answer] = {}
        for turn, runner in enumerate(self.runners):
            rows = [row for row, (whose, _) in enumerate(prepared) if whose == turn]
            results = results_of(runner, [prepared[row][1] for row in rows])
            answers |= {row: Answer(each, runner.package) for row, each in zip(rows, results, strict=True)}
        return [answers[row] for row in range(len(prepared))]


def open_runner(folder: str, *, threads: int = 1, backend: str | None = None) -> Runner:
    """Load a package.

    Raises:
        InputError: It, its model, or its runtime cannot be used.
    """
    try:
        return Runner(folder, threads=threads, backend=backend)
    except PackageError as error:
        raise told_of(error) from error


def results_of(runner: Runner, prepared: Sequence[Prepared]) -> list[Result]:
    """What a package says of prepared frames.

    Raises:
        InputError: The model fails on them.
    """
    try:
        return runner.run_prepared(prepared)
    except PackageError as error:
        raise told_of(error) from error


def told_of(error: PackageError) -> InputError:
    """A package's error as curate tells errors."""
    return InputError(error.what, where=error.where, remedy=error.remedy or None)


def require_alike(one: Package, other: Package) -> None:
    """Refuse two packages that cannot answer for each other.

    Raises:
        UsageError: They have other tasks or classes.
    """
    if (one.task, one.classes) != (other.task, other.classes):
        raise UsageError(
            f"the packages differ: '{one.task}' of {', '.join(one.classes)}, and '{other.task}' of "
            f"{', '.join(other.classes)}",
            where=other.folder,
            remedy="both need one task and the same classes in the same order",
        )


def tell_apart(runners: Sequence[Runner]) -> None:
    """Have two packages of one name and version told apart by their targets from here on, as in 'bolts-1.0.0 (openvino)'.

    What each says is kept by what it is called, so one of two that are called alike would be lost.

    Raises:
        UsageError: They have one target too.
    """
    if len(runners) < 2 or runners[0].package.id != runners[1].package.id:
        return
    one, other = (runner.package for runner in runners)
    if one.target == other.target:
        raise UsageError(
            f"both packages are called {one.id}, and are for {one.target}",
            where=other.folder,
            remedy="make one of them again with another --version or --name",
        )
    for runner in runners:
        runner.package = replace(runner.package, apart=runner.package.target)
