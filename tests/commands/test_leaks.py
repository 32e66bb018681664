"""`curate leaks` as a user types it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from tests.commands.typed import curate, lines


@pytest.fixture
def leaky(tmp_path: Path) -> str:
    """An ImageFolder with splits, where one picture of test is also in train, and one of val in test."""
    pictures = {"train": [*range(12)], "val": [12, 13], "test": [3, 14, 12]}
    for split, numbers in pictures.items():
        for number in numbers:
            pixels = np.random.default_rng(number).integers(0, 255, (6, 6, 3), dtype=np.uint8)
            folder = tmp_path / "set" / split / ("even" if number % 2 == 0 else "odd")
            folder.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC)
            picture.save(folder / f"{split}{number}.png")
    curate("import", tmp_path / "set", "-d", "leaky")
    return "leaky"


def leaks(*arguments: str, status: int = 0) -> Result:
    return curate("leaks", "-d", "leaky", "--encoder", "builtin", *arguments, status=status)


def test_leaks_as_json_and_in_ci(leaky: str) -> None:
    found = lines(leaks("--json"))
    assert {(row["kind"], row["given"], row["suggested"]) for row in found} == {
        ("leak", "test", "train"),
        ("leak", "test", "val"),
    }
    assert all(row["score"] == 1 and len(row["related"]) == 1 for row in found)
    failed = leaks("--fail-on", "leak:0.9", status=1)
    assert "failed: 2 leak with a score of at least 0.9" in failed.stderr
    assert "the same file as" in failed.stdout


def test_a_dry_run_shows_the_split_and_resplit_writes_it(leaky: str) -> None:
    shown = leaks("--dry-run").stdout
    assert "Suggested split" in shown
    assert "Class balance" in shown
    assert lines(leaks("--json"))
    rows = lines(leaks("--resplit", "--json"))
    assert {row["table"] for row in rows} == {"Suggested split", "Class balance", "Moves"}
    leaks("--fail-on", "leak:0.1")
    (last, *_) = lines(curate("history", "-d", leaky, "--json"))
    assert last["changes"]["images moved"] == sum(row["table"] == "Moves" for row in rows)
    curate("undo", "-d", leaky)
    assert len(lines(leaks("--json"))) == 2


def test_ratios_are_checked(leaky: str) -> None:
    assert "add --resplit" in leaks("--ratios", "train=1", status=2).stderr
    assert "add up to 0.9" in leaks("--resplit", "--ratios", "train=0.8,test=0.1", status=2).stderr
    assert "'val' that is given no share" in leaks("--dry-run", "--ratios", "train=0.5,test=0.5", status=2).stderr
    rows = lines(leaks("--resplit", "--ratios", "train=0.6,val=0.2,test=0.2", "--json"))
    sizes = {row["split"]: row["after"] for row in rows if row["table"] == "Suggested split"}
    assert sum(sizes.values()) == 17
    assert abs(sizes["train"] - 10) <= 1
