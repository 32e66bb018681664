"""`curate.toml`: what a project expects of its datasets, beside its code and under the same version control.

    [check]
    run = ["quality", "duplicates", "leaks"]    # default: every check there is
    fail-on = ["leak", "corrupt:0.9"]           # as --fail-on
    min-score = 0.3                             # as --min-score

    [thresholds]                                # from which score on a kind is reported at all
    blurry = 0.8

    [[ignore]]                                  # findings that are known and accepted
    kind = "dark"
    image = "night/*"                           # of the image's location; * stands for anything, '/' included
    reason = "the night shift works without lamps"

An ignored finding stays in the dataset, and open: it is left out of what commands print and of what makes them fail.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from curate.checks.findings import KINDS, Finding
from curate.checks.gate import Gate, parse_gates
from curate.checks.registry import CHECKS
from curate.errors import InputError

FILE_NAME: Final = "curate.toml"

_CHECK_KEYS: Final = frozenset({"run", "fail-on", "min-score"})
_IGNORE_KEYS: Final = frozenset({"kind", "image", "id", "reason"})


@dataclass(frozen=True)
class Ignore:
    """Findings that are known and accepted: those that fit everything that is given.

    Attributes:
        reason: Why, for the next reader.
        kind: One of `curate.checks.findings.KINDS`.
        image: Pattern of the image's location.
        id: Beginning of the finding's id.
    """

    reason: str
    kind: str | None = None
    image: str | None = None
    id: str | None = None

    def __str__(self) -> str:
        """Which findings, in words."""
        asked = (("kind", self.kind), ("image", self.image), ("id", self.id))
        return ", ".join(f"{name} '{value}'" for name, value in asked if value is not None)

    def fits(self, finding: Finding) -> bool:
        """Whether a finding is one of them."""
        return (
            (self.kind is None or finding.kind == self.kind)
            and (self.image is None or fnmatchcase(finding.image, self.image))
            and (self.id is None or finding.id.startswith(self.id))
        )


@dataclass(frozen=True)
class Config:
    """What a project expects.

    Attributes:
        path: The file; None where there is none.
        run: Names of the checks to run; None for all.
        gates: What makes a command fail.
        min_score: Findings with a lower score are left out; None for the command's own limit.
        thresholds: The same for single kinds.
        ignores: What is accepted.
    """

    path: Path | None = None
    run: Sequence[str] | None = None
    gates: Sequence[Gate] = ()
    min_score: float | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    ignores: Sequence[Ignore] = ()

    def select(self, findings: Sequence[Finding]) -> tuple[list[Finding], list[str]]:
        """The findings that are neither ignored nor below their kind's threshold, and a sentence on those that are."""
        kept: list[Finding] = []
        ignored: Counter[tuple[str, str]] = Counter()
        below = 0
        for finding in findings:
            accepted = next((each for each in self.ignores if each.fits(finding)), None)
            if accepted is not None:
                ignored[finding.kind, accepted.reason] += 1
            elif finding.score < self.thresholds.get(finding.kind, 0.0):
                below += 1
            else:
                kept.append(finding)
        lines = [f"ignored by {FILE_NAME}: {count:,} {kind} ({reason})" for (kind, reason), count in ignored.items()]
        return kept, [*lines, *([f"below the thresholds of {FILE_NAME}: {below:,}"] if below else [])]

    def idle(self, findings: Sequence[Finding], kinds: Collection[str]) -> list[str]:
        """A sentence for each entry that did nothing: what it was written for is mended, or it is misspelt.

        Args:
            findings: All that was found, with every check run on all images.
            kinds: What those checks can find.
        """
        unused = [each for each in self.ignores if not any(each.fits(finding) for finding in findings)]
        never = [kind for kind in self.thresholds if kind not in kinds]
        return [
            *(f"{FILE_NAME} ignores {each}, and nothing of that was found" for each in unused),
            *(f"{FILE_NAME} has a threshold for '{kind}', which no check that was run finds" for kind in never),
        ]


def find_config(folder: Path) -> Path | None:
    """The `curate.toml` of a folder or of the nearest one above it, up to the root of a Git repository."""
    for place in (folder, *folder.parents):
        if (place / FILE_NAME).is_file():
            return place / FILE_NAME
        if (place / ".git").exists():
            return None
    return None


def load_config(path: Path | None) -> Config:
    """Read a `curate.toml`; None gives the defaults.

    Raises:
        InputError: The file cannot be read, or holds something that is not known.
    """
    if path is None:
        return Config()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"the settings cannot be read: {error}", where=path, remedy="mend the file") from error
    reader = _Reader(path)
    reader.only(content, {"check", "thresholds", "ignore"}, "the file")
    check = reader.table(content.get("check", {}), "[check]")
    reader.only(check, _CHECK_KEYS, "[check]")
    thresholds = reader.table(content.get("thresholds", {}), "[thresholds]")
    reader.only(thresholds, frozenset(KINDS), "[thresholds]")
    ignores = content.get("ignore", [])
    if not isinstance(ignores, list):
        raise reader.error("ignore is no list of tables", "write [[ignore]]")
    return Config(
        path,
        reader.checks(check["run"]) if "run" in check else None,
        parse_gates(reader.texts(check.get("fail-on", []), "fail-on"), where=f"{path}, fail-on"),
        reader.score(check["min-score"], "min-score") if "min-score" in check else None,
        {kind: reader.score(value, kind) for kind, value in thresholds.items()},
        [reader.ignore(entry, number) for number, entry in enumerate(ignores, 1)],
    )


@dataclass(frozen=True)
class _Reader:
    """Checks the values of a file, and says where one is wrong."""

    path: Path

    def error(self, what: str, remedy: str) -> InputError:
        return InputError(what, where=self.path, remedy=remedy)

    def table(self, value: Any, what: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.error(f"{what} is no table", f"write {what}, and the values below it")
        return value

    def only(self, table: Mapping[str, Any], known: frozenset[str] | set[str], what: str) -> None:
        for key in table:
            if key not in known:
                raise self.error(f"{what} has no '{key}'", f"one of: {', '.join(sorted(known))}")

    def texts(self, value: Any, what: str) -> list[str]:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self.error(f"{what} is no list of texts", f'write {what} = ["...", "..."]')
        return value

    def checks(self, value: Any) -> list[str]:
        names, known = self.texts(value, "run"), CHECKS.names()
        if not names:
            raise self.error("run names no check, so that nothing would be looked at", "leave it out to run all")
        for name in names:
            if name not in known:
                raise self.error(f"run: there is no check named '{name}'", f"one of: {', '.join(known)}")
        return names

    def score(self, value: Any, what: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self.error(f"{what} = {value!r} is not a score", "a number from 0 to 1")
        return float(value)

    def ignore(self, value: Any, number: int) -> Ignore:
        what = f"[[ignore]] number {number}"
        entry = self.table(value, what)
        self.only(entry, _IGNORE_KEYS, what)
        if not all(isinstance(each, str) and each for each in entry.values()):
            raise self.error(f"{what} has a value that is not a text", "write each in quotes")
        if "reason" not in entry:
            raise self.error(f"{what} gives no reason", 'add reason = "...", for the next reader')
        if len(entry) == 1:
            raise self.error(f"{what} says nothing of which findings", "add kind, image or id")
        if entry.get("kind", KINDS[0]) not in KINDS:
            raise self.error(f"{what}: there is no kind '{entry['kind']}'", f"one of: {', '.join(KINDS)}")
        return Ignore(entry["reason"], entry.get("kind"), entry.get("image"), entry.get("id"))
