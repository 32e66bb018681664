"""Decisions from a report, read back: applied once, and refused with one clear error where they do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from curate.checks.store import stored_findings
from curate.cli import app
from curate.dataset import begin, open_dataset, remove
from tests.report.report_sets import make_set


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Decisions on three findings of the dataset 'plain': yes to what is missing, no to the leak and the hard image."""
    make_set("plain", tmp_path)
    return write(tmp_path, {"missing": "accept", "leak": "reject", "hard": "reject"})


def write(folder: Path, said: dict[str, str], **more: Any) -> Path:
    dataset = open_dataset("plain")
    ids: dict[str, str] = {finding.kind: finding.id for finding in stored_findings(dataset)}
    content = {
        "format": "curate decisions 1",
        "dataset": "plain",
        "commit": dataset.commit.number,
        "commit_time": dataset.commit.time,
        "decisions": [{"id": ids[kind], "decision": decision} for kind, decision in said.items()],
        **more,
    }
    path = folder / "decisions.json"
    path.write_text(json.dumps(content))
    return path


def accept(path: Path, *more: str, dataset: str = "plain") -> Any:
    return CliRunner().invoke(app, ["accept", "--from", str(path), "-d", dataset, "--json", *more])


def statuses() -> dict[str, str]:
    return {finding.kind: finding.status for finding in stored_findings(open_dataset("plain"))}


def test_each_finding_gets_what_was_decided_in_one_commit(saved: Path) -> None:
    result = accept(saved)
    assert json.loads(result.stdout) == {"confirmed": 1, "rejected": 2, "unchanged": 0, "stale": 0, "commit": 2}
    assert (statuses()["missing"], statuses()["leak"]) == ("confirmed", "rejected")
    assert dict(open_dataset("plain").commit.counts) == {"findings confirmed": 1, "findings rejected": 2}


def test_the_same_file_again_changes_nothing(saved: Path) -> None:
    accept(saved)
    result = accept(saved)
    assert json.loads(result.stdout) == {"confirmed": 0, "rejected": 0, "unchanged": 3, "stale": 0, "commit": 2}


def test_the_command_says_what_it_did(saved: Path) -> None:
    result = CliRunner().invoke(app, ["accept", "--from", str(saved), "-d", "plain"])
    assert "1 finding now confirmed, 2 rejected (commit 2)" in result.stderr
    result = CliRunner().invoke(app, ["accept", "--from", str(saved), "-d", "plain"])
    assert "0 findings now confirmed, 0 rejected (commit 2)" in result.stderr
    assert "as decided already: 3 findings" in result.stderr
    CliRunner().invoke(app, ["reject", "-d", "plain", "--where", "kind = 'missing'"])
    result = CliRunner().invoke(app, ["accept", "--from", str(saved), "-d", "plain", "--skip-stale"])
    assert "left out: 1 decision, on what is gone" in result.stderr
    result = CliRunner().invoke(app, ["reject", "-d", "plain", "--where", "kind = 'dark'"])
    assert "1 finding now rejected" in result.stderr


def test_rejecting_by_a_file_is_refused_for_the_file_confirms_as_well(saved: Path) -> None:
    result = CliRunner().invoke(app, ["reject", "--from", str(saved), "-d", "plain"])
    assert result.exit_code == 2
    assert f"curate accept --from {saved} -d plain" in result.stderr
    assert open_dataset("plain").commit.number == 1
    assert "--from FILE" not in CliRunner().invoke(app, ["reject", "--help"]).stdout.partition("Options")[2]


def test_a_finding_that_somebody_has_decided_on_since_is_not_overwritten(saved: Path) -> None:
    CliRunner().invoke(app, ["accept", "-d", "plain", "--where", "kind = 'leak'"])
    result = accept(saved)
    assert result.exit_code == 2
    assert "changed since commit 1: 1 of 3 decisions; finding" in result.stderr
    assert "is confirmed by now" in result.stderr
    assert statuses()["missing"] == "open"
    skipped = json.loads(accept(saved, "--skip-stale").stdout)
    assert (skipped["confirmed"], skipped["rejected"], skipped["stale"]) == (1, 1, 1)
    assert statuses()["leak"] == "confirmed"


def test_a_finding_that_has_gone_is_told(saved: Path) -> None:
    with begin("plain", command="curate leaks") as transaction:
        transaction.overwrite("findings", [transaction.read("findings", where="kind <> 'leak'")])
    result = accept(saved)
    assert result.exit_code == 2
    assert "is not found any more" in result.stderr
    assert json.loads(accept(saved, "--skip-stale").stdout)["stale"] == 1


def test_somebody_who_decided_alike_is_no_conflict(saved: Path) -> None:
    CliRunner().invoke(app, ["reject", "-d", "plain", "--where", "kind = 'leak'"])
    assert json.loads(accept(saved).stdout)["unchanged"] == 1


def test_a_file_of_another_dataset_is_refused(saved: Path, tmp_path: Path) -> None:
    make_set("other", tmp_path)
    result = accept(saved, dataset="other")
    assert result.exit_code == 2
    assert "on the dataset 'plain', not on 'other'" in result.stderr


def test_a_dataset_that_was_made_anew_is_another(saved: Path, tmp_path: Path) -> None:
    said = json.loads(saved.read_text())
    remove("plain")
    make_set("plain", tmp_path)
    saved.write_text(json.dumps({**said, "commit_time": "2020-01-01T00:00:00+00:00"}))
    assert "it was made anew" in accept(saved).stderr
    saved.write_text(json.dumps({**said, "commit": 7}))
    assert "it was made anew" in accept(saved).stderr
    assert statuses()["missing"] == "open"


def test_findings_that_never_were_are_told(saved: Path) -> None:
    said = json.loads(saved.read_text())
    said["decisions"].append({"id": "00000000deadbeef", "decision": "accept"})
    saved.write_text(json.dumps(said))
    result = accept(saved, "--skip-stale")
    assert result.exit_code == 2
    assert "commit 1 never had 1 finding of the file, the first: 00000000deadbeef" in result.stderr


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a file of decisions"),
        (b"\xff\xfe", "not a file of decisions"),
        (b"[]", "not a file of decisions"),
        (b'{"dataset": "plain"}', "missing required field"),
        (
            b'{"format": "curate decisions 9", "dataset": "plain", "commit": 1, "commit_time": "", "decisions": []}',
            "format",
        ),
        (
            b'{"format": "curate decisions 1", "dataset": "plain", "commit": 1, "commit_time": "", '
            b'"decisions": [{"id": "a", "decision": "perhaps"}]}',
            "perhaps",
        ),
        (
            b'{"format": "curate decisions 1", "dataset": "plain", "commit": 1, "commit_time": "", '
            b'"decisions": [{"id": "a", "decision": "accept"}, {"id": "a", "decision": "reject"}]}',
            "both accepts and rejects",
        ),
    ],
)
def test_anything_else_is_no_file_of_decisions(saved: Path, content: bytes, says: str) -> None:
    saved.write_bytes(content)
    result = accept(saved)
    assert result.exit_code == 2
    assert says in result.stderr
    assert str(saved) in result.stderr
    assert open_dataset("plain").commit.number == 1


def test_an_editors_byte_order_mark_does_no_harm(saved: Path) -> None:
    saved.write_bytes(b"\xef\xbb\xbf" + saved.read_bytes())
    assert accept(saved).exit_code == 0


def test_wrong_use_is_told(saved: Path, tmp_path: Path) -> None:
    assert "is not there" in accept(tmp_path / "none.json").stderr
    folder = accept(tmp_path)
    assert folder.exit_code == 2
    assert "this is a folder" in folder.stderr
    assert "NAME-decisions.json" in folder.stderr
    below = accept(saved / "decisions.json")
    assert below.exit_code == 2
    assert "cannot be read" in below.stderr
    assert "leave the ids" in accept(saved, "--where", "kind = 'leak'").stderr
    result = CliRunner().invoke(app, ["accept", "-d", "plain", "--where", "kind = 'leak'", "--skip-stale"])
    assert "--from FILE" in result.stderr
