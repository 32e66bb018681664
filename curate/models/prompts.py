"""Prompts as people write them: names between commas, or a file.

night, day, indoor                        on the command line: names, which are put into templates

night: a dark street at night             a .txt file: one a line; a name may come again, with another text
night: headlights in the dark
day

night: [a dark street, headlights]        a .yaml file: names with a text, a list of texts, or nothing
day:
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from curate.errors import FormatError, InputError, UsageError
from curate.models.zero_shot import TEMPLATES, Prompts, prompts_of

_YAML: Final = frozenset({".yaml", ".yml"})
_TEXT: Final = frozenset({".txt"})


def read_prompts(source: str, templates: Sequence[str] = TEMPLATES) -> list[Prompts]:
    """Read what classes there are and how each is described.

    Args:
        source: As in the module's docstring: names, or the path of a file.
        templates: For names that come without a text; texts that are given are taken as they are.

    Raises:
        UsageError: There are fewer than two classes, or a template has no place for a name.
        InputError: The file is not there or cannot be read.
        FormatError: It does not hold names and texts.
    """
    for template in templates:
        if "{}" not in template:
            raise UsageError(f"'{template}' has no place for a name", where="--template", remedy="'a photo of {}'")
    path = Path(source.strip())
    if path.suffix.lower() in _YAML | _TEXT:
        pairs, where = _from_file(path), str(path)
    else:
        pairs, where = _from_lines(source.replace("\n", ",").split(","), "--prompts, name"), "--prompts"
    texts: dict[str, list[str]] = {}
    for name, text in pairs:
        known = texts.setdefault(name, [])
        if text is not None and text not in known:
            known.append(text)
    if len(texts) < 2:
        raise UsageError(
            "at least two classes are needed: the better of one is always that one",
            where=where,
            remedy="name what else an image may show: --prompts 'night, day'",
        )
    return [Prompts(name, tuple(given)) if given else prompts_of(name, templates) for name, given in texts.items()]


Pairs = Iterable[tuple[str, str | None]]
"""Names, each with a text or None."""


def _from_file(path: Path) -> Pairs:
    try:
        content = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError("there is no such file", where=path, remedy="check --prompts") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the prompts cannot be read: {error}", where=path, remedy="save them as UTF-8") from error
    if path.suffix.lower() in _TEXT:
        lines = ("" if line.lstrip().startswith("#") else line for line in content.splitlines())
        return _from_lines(lines, f"{path}, line")
    try:
        loaded = yaml.safe_load(content)
    except Exception as error:  # of a date, say, that is none, the parser has what Python raises
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error).partition("\n")[0]
        raise FormatError(
            f"not YAML: {reason}", where=path, remedy="put names that look like dates or numbers in quotes"
        ) from error
    return _from_yaml(loaded, path)


def _from_lines(lines: Iterable[str], where: str) -> Pairs:
    """'name' or 'name: text', empty ones left out; `where` and a number from 1 say where one stands."""
    pairs = []
    for number, line in enumerate(lines, start=1):
        name, colon, text = line.strip().partition(": ")
        if not colon and name.endswith(":"):
            name = name[:-1]
        if not name.strip() and text.strip():
            raise FormatError("a text without a name", where=f"{where} {number}", remedy="write 'name: text'")
        if name.strip():
            pairs.append((name.strip(), text.strip() or None))
    return pairs


def _from_yaml(content: Any, path: Path) -> Pairs:
    """A mapping of names to texts, or a list of names."""
    if isinstance(content, list):
        content = dict.fromkeys(each if isinstance(each, str) else _refuse(each, path) for each in content)
    if not isinstance(content, dict):
        _refuse(content, path)
    pairs: list[tuple[str, str | None]] = []
    for name, value in content.items():
        for text in (value or [None]) if isinstance(value, list) else [value]:
            if not isinstance(name, str) or not name.strip() or not (text is None or isinstance(text, str)):
                _refuse({name: value}, path)
            pairs.append((name.strip(), None if text is None else text.strip() or None))
    return pairs


def _refuse(value: Any, path: Path) -> Any:
    raise FormatError(
        f"{value!r} is neither a name nor a name with its texts",
        where=path,
        remedy="write 'night: a dark street' or 'night: [a dark street, headlights]'; yes, no and numbers in quotes",
    )
