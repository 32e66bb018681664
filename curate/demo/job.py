"""`curate demo`: render, import, find mistakes, and compare with what was planted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from curate.checks.base import Result, Settings, run_check
from curate.checks.mistakes.run import CHECK
from curate.dataset import dataset_names, open_dataset, remove
from curate.dataset.home import home
from curate.demo.build import make_parts
from curate.demo.detector import make_predictions
from curate.demo.score import KindScore, score_findings
from curate.errors import DatasetExists
from curate.formats.base import ReadOptions
from curate.formats.importing import import_source
from curate.models.passes import Progress
from curate.names import PREDICTIONS

LAYER: Final = f"{PREDICTIONS}simulated"
KINDS: Final = ("mislabeled", "missing", "spurious", "mislocated")


@dataclass(frozen=True)
class Demo:
    """What the demo did.

    Attributes:
        dataset: Its name.
        folder: Where the pictures, annotation files and the truth are.
        mistakes: What was found.
        scores: Found against planted, by kind.
    """

    dataset: str
    folder: Path
    mistakes: Result
    scores: list[KindScore]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "dataset": self.dataset,
            "folder": str(self.folder),
            "scores": [{**asdict(score), "f1": score.f1} for score in self.scores],
        }


def run_demo(
    name: str,
    *,
    images: int,
    target: Path | None = None,
    seed: int = 0,
    command: str,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Demo:
    """Render `parts_v3`, import it and a simulated detector's results, and look for mistakes.

    A dataset that an earlier demo made is made anew.

    Args:
        name: The dataset.
        images: How many pictures.
        target: Folder for them; None for one beside the datasets.
        seed: Of everything random.
        command: The command line, for the history.
        progress: Told (done, total) of the long steps.
        say: Told what is being done.

    Raises:
        DatasetExists: The name belongs to a dataset that is not a demo's.
        UsageError: The folder is not empty, or too few pictures were asked for.
    """
    _make_room(name)
    own = home() / "demo" / name
    folder = own if target is None else target.expanduser().absolute()
    if folder == own and own.exists():
        shutil.rmtree(own)
    say(f"rendering {images:,} pictures of machined parts into {folder}")
    parts = make_parts(folder, images=images, seed=seed, progress=progress)
    predictions = make_predictions(parts, seed=seed)
    say("importing them, and the results of a simulated detector")
    import_source(name, folder / "annotations", command=command, options=ReadOptions(images=folder / "images"))
    import_source(name, predictions, command=command, options=ReadOptions(layer=LAYER))
    say("looking for mistakes")
    mistakes = run_check(CHECK, name, Settings(seed=seed, progress=progress), command=command)
    return Demo(name, folder, mistakes, score_findings(mistakes.findings, parts.truth, KINDS))


def _make_room(name: str) -> None:
    if name not in dataset_names():
        return
    first = open_dataset(name, commit=1).commit
    if " demo" not in first.command:
        raise DatasetExists(
            f"there is already a dataset named '{name}', and the demo did not make it",
            remedy=f"'curate demo --dataset OTHER', or 'curate rm {name}' first",
        )
    remove(name)
