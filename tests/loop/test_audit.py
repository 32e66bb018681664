"""The audit: intervals that cover the truth as often as they say, and advice that follows the verdicts."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from curate.checks.findings import Finding
from curate.loop.audit import Audit, audit


def findings(scores: np.ndarray, right: np.ndarray, decided: int) -> list[Finding]:
    """Findings, the first `decided` of which people have decided on, in order of the score."""
    order = np.argsort(-scores)
    result = []
    for place, row in enumerate(order.tolist()):
        status = ("fixed" if right[row] else "rejected") if place < decided else "open"
        finding = Finding("mislabeled", float(scores[row]), f"{row}.png", f"{row:016x}", "mistakes", f"{row:016x}")
        result.append(replace(finding, status=status))  # type: ignore[arg-type]
    return result


def one(found: list[Finding]) -> Audit:
    (result,) = audit(found)
    return result


@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (0.7, -1.0), (1.0, 1.0)])
def test_the_interval_of_what_is_left_covers_the_truth(slope: float, shift: float) -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(60):
        scores = rng.beta(0.7, 1.5, 400)
        truth = 1 / (1 + np.exp(-(shift + slope * np.log(scores / (1 - scores)))))
        right = rng.random(400) < truth
        order = np.argsort(-scores)
        left = int(right[order[120:]].sum())
        remaining = one(findings(scores, right, 120)).remaining
        covered += remaining.low <= left <= remaining.high
    assert covered >= 51  # 85%: what lies below the reviewed scores is an extrapolation


def test_verdicts_move_the_estimate_away_from_the_scores() -> None:
    scores = np.linspace(0.99, 0.5, 200)
    none = one(findings(scores, np.ones(200, bool), 0))
    assert none.precision is None
    assert none.remaining.value == pytest.approx(scores.sum(), rel=0.15)
    bad = one(findings(scores, np.zeros(200, bool), 80))
    assert bad.precision is not None
    assert bad.precision.value == 0
    assert 0 < bad.precision.high < 0.05
    assert bad.remaining.value < 5
    assert bad.next_ten is None
    assert bad.stops(0.1)
    good = one(findings(scores, np.ones(200, bool), 80))
    assert good.remaining.value > 100
    assert not good.stops(0.1)
    assert good.next_ten is not None
    assert 10 <= good.next_ten.value <= 12


def test_nothing_left_is_no_error() -> None:
    done = one(findings(np.array([0.9, 0.8]), np.array([True, False]), 2))
    assert (done.right, done.wrong, done.undecided) == (1, 1, 0)
    assert done.remaining.value == 0
    assert done.stops(0.1)


def test_the_same_seed_gives_the_same_numbers() -> None:
    found = findings(np.linspace(0.1, 0.9, 50), np.arange(50) % 2 == 0, 20)
    assert audit(found, seed=3) == audit(found, seed=3)


def test_the_command_prints_one_line_for_each_check_and_kind(capsys: pytest.CaptureFixture[str]) -> None:
    from typer.testing import CliRunner

    from curate.checks.store import replace_findings, set_status
    from curate.cli import app
    from curate.dataset import begin

    with begin("parts", command="test", create=True) as transaction:
        replace_findings(transaction, "mistakes", findings(np.linspace(0.9, 0.1, 20), np.ones(20, bool), 0))
    set_status("parts", "rejected", where="score > 0.7", command="test")
    result = CliRunner().invoke(app, ["audit", "-d", "parts", "--json"])
    assert result.exit_code == 0, result.output
    (line,) = map(json.loads, result.stdout.splitlines())
    assert (line["check"], line["kind"], line["right"]) == ("mistakes", "mislabeled", 0)
    assert line["precision"]["value"] == 0
    table = CliRunner().invoke(app, ["audit", "-d", "parts"])
    assert "mislabeled" in table.stdout
    empty = CliRunner().invoke(app, ["audit", "-d", "parts", "--check", "leaks"])
    assert empty.exit_code == 2
