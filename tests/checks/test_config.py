"""`curate.toml`: what it says is what is left out, and whatever is wrong with it is told with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.checks.config import Config, find_config, load_config
from curate.checks.findings import Finding, Kind
from curate.checks.gate import Gate
from curate.errors import CurateError


def finding(kind: Kind, image: str, score: float = 0.9) -> Finding:
    return Finding(kind, score, image, f"{image:>016}"[-16:], "quality")


def written(folder: Path, text: str) -> Config:
    path = folder / "curate.toml"
    path.write_text(text)
    return load_config(path)


def test_a_whole_file(tmp_path: Path) -> None:
    config = written(
        tmp_path,
        """
        [check]
        run = ["quality", "leaks"]
        fail-on = ["leak", "corrupt:0.9"]
        min-score = 0.3
        [thresholds]
        blurry = 0.8
        [[ignore]]
        kind = "dark"
        image = "night/*"
        reason = "no lamps"
        """,
    )
    assert (config.run, config.min_score) == (["quality", "leaks"], 0.3)
    assert config.gates == [Gate("leak", 0.5), Gate("corrupt", 0.9)]
    findings = [
        finding("dark", "night/deep/a.jpg"),
        finding("dark", "day/b.jpg"),
        finding("blurry", "night/a.jpg", 0.79),
        finding("blurry", "day/b.jpg", 0.8),
    ]
    kept, told = config.select(findings)
    assert kept == [findings[1], findings[3]]
    assert told == ["ignored by curate.toml: 1 dark (no lamps)", "below the thresholds of curate.toml: 1"]


def test_a_finding_is_ignored_by_its_id(tmp_path: Path) -> None:
    found = finding("leak", "a.jpg")
    config = written(tmp_path, f'[[ignore]]\nid = "{found.id[:8]}"\nreason = "known"')
    assert config.select([found])[0] == []
    assert config.select([finding("leak", "b.jpg")])[0] != []


def test_entries_that_do_nothing_are_told(tmp_path: Path) -> None:
    config = written(
        tmp_path,
        """
        [thresholds]
        blurry = 0.8
        hard = 0.9
        [[ignore]]
        kind = "dark"
        image = "nigth/*"
        reason = "no lamps"
        [[ignore]]
        id = "0123"
        reason = "mended since"
        [[ignore]]
        kind = "leak"
        reason = "known"
        """,
    )
    findings = [finding("dark", "night/a.jpg"), finding("leak", "a.jpg")]
    assert config.idle(findings, {"dark", "leak", "blurry"}) == [
        "curate.toml ignores kind 'dark', image 'nigth/*', and nothing of that was found",
        "curate.toml ignores id '0123', and nothing of that was found",
        "curate.toml has a threshold for 'hard', which no check that was run finds",
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[check", "cannot be read"),
        ("[chek]", "has no 'chek'"),
        ("check = 3", "is no table"),
        ("[check]\nfail_on = []", "has no 'fail_on'"),
        ("[check]\nfail-on = 'leak'", "is no list of texts"),
        ("[check]\nfail-on = ['leek']", "there is no kind 'leek'"),
        ("[check]\nmin-score = 2", "is not a score"),
        ("[check]\nrun = []", "run names no check"),
        ("[check]\nrun = ['qualty']", "there is no check named 'qualty'"),
        ("[thresholds]\nblury = 0.5", "has no 'blury'"),
        ("[thresholds]\nblurry = true", "is not a score"),
        ("ignore = 'dark'", "is no list of tables"),
        ("[[ignore]]\nkind = 'dark'", "gives no reason"),
        ("[[ignore]]\nreason = 'because'", "says nothing of which findings"),
        ("[[ignore]]\nreason = ''\nkind = 'dark'", "not a text"),
        ("[[ignore]]\nreason = 'because'\nkind = 'darkness'", "there is no kind 'darkness'"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(CurateError, match=what) as raised:
        written(tmp_path, text)
    assert str(tmp_path / "curate.toml") in str(raised.value.where)


def test_the_nearest_file_up_to_the_repository_counts(tmp_path: Path) -> None:
    inner = tmp_path / "project" / "data"
    inner.mkdir(parents=True)
    (tmp_path / "curate.toml").touch()
    assert find_config(inner) == tmp_path / "curate.toml"
    (tmp_path / "project" / ".git").mkdir()
    assert find_config(inner) is None
    (inner / "curate.toml").touch()
    assert find_config(inner) == inner / "curate.toml"
    assert load_config(None) == Config()
