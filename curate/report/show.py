"""One finding for a person at a terminal: its picture, where the terminal can show one, and what is known of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from curate.checks.findings import Finding
from curate.dataset import Dataset
from curate.errors import ImageError
from curate.imaging import NOT_THERE
from curate.report.html.cards import (
    GIVEN,
    REGION,
    SUGGESTED,
    Names,
    image_ids_of,
    make_cards,
    read_shapes,
    read_sources,
)
from curate.report.html.pictures import Wanted
from curate.report.terminal import console
from curate.report.terminal_image.picture import place_side_by_side, read_tile, room_for
from curate.report.terminal_image.screen import METHODS, Method, choose_method, has_true_color, read_screen
from curate.report.terminal_image.send import encode_picture

_COMPARES: Final = frozenset({"exact_duplicate", "near_duplicate", "leak"})
"""Kinds that say nothing without the other image."""

_MEANINGS: Final[Mapping[str, str]] = {
    GIVEN: "orange: as it is",
    SUGGESTED: "blue, dashed: as it should be",
    REGION: "pink, dashed: where it is wrong",
}
_HARD: Final[Mapping[str, str]] = {GIVEN: "orange: missed", SUGGESTED: "blue, dashed: made up"}


def show_findings(dataset: Dataset, findings: Sequence[Finding], image: str) -> None:
    """Print findings on stdout, each with its picture.

    Args:
        dataset: The commit that they are of.
        findings: Those.
        image: How pictures are shown: one of `METHODS`; 'auto' for what the terminal can, 'none' for none. There are none where
            stdout is no terminal.
    """
    asked = next((method for method in METHODS if method == image), None)
    method = None if image == "none" else choose_method(asked, sys.stdout, os.environ)
    for number, finding in enumerate(findings):
        if number:
            console().print()
        _show(dataset, finding, method)


def _show(dataset: Dataset, finding: Finding, method: Method | None) -> None:
    shapes = read_shapes(dataset, [finding])
    sources = read_sources(dataset, image_ids_of([finding], shapes))
    wanted, names = Wanted(sources), Names(sources)
    card = make_cards([finding], shapes, names, wanted).cards[0]
    out = console()
    if method is not None:
        _show_picture(card, names, wanted, method)
    rows = _rows(card, names, finding.evidence.get("suggested_bbox"))
    margin = max(len(name) for name, _ in rows)
    for name, value in rows:
        out.print(f"{name:<{margin}}  {value}", soft_wrap=True)


def _show_picture(card: Mapping[str, Any], names: Names, wanted: Wanted, method: Method) -> None:
    """Print a finding's picture and what is on it; or, in one line, why there is none."""
    out, screen = console(), read_screen(sys.stdout)
    room = room_for(method, screen)
    tiles, shown = [], []
    for part in [card, *card["related"]]:
        location = names.locations[part["image"]]
        try:
            if part["picture"] is None:
                raise ImageError(NOT_THERE)
            tiles.append(read_tile(wanted, part["picture"], part["outlines"], max(room)))
            shown.append((location, part["outlines"]))
        except ImageError as error:
            out.print(f"no picture of {location}: {error.what}", soft_wrap=True)
            if part is card:
                return
    picture, count = place_side_by_side(tiles, room, least=2 if card["kind"] in _COMPARES else 1)
    sys.stdout.write(encode_picture(picture, method, screen, true_color=has_true_color(os.environ)))
    sys.stdout.flush()
    if count > 1:
        out.print("from left to right: " + ", ".join(location for location, _ in shown[:count]), soft_wrap=True)
    meanings = _HARD if card["kind"] == "hard" else _MEANINGS
    drawn = {what for _, outlines in shown[:count] for what, _ in outlines}
    if drawn:
        out.print("; ".join(text for what, text in meanings.items() if what in drawn), soft_wrap=True)
    out.print()


def _rows(card: Mapping[str, Any], names: Names, suggested_box: Sequence[float] | None) -> list[tuple[str, str]]:
    """What is known of a finding, by name."""
    given, suggested = ("is in", "belongs to") if card["kind"] == "leak" else ("labelled", "suggested")
    rows = [
        ("finding", f"{card['kind'].replace('_', ' ')}, {card['score']:.3f}, {card['status']}"),
        ("image", names.locations[card["image"]]),
        ("box", None if card["box"] is None else _numbers(card["box"])),
        (given, card["given"]),
        (suggested, card["suggested"]),
        ("suggested box", None if suggested_box is None else _numbers(suggested_box)),
        ("why", card["why"]),
        *((name.replace("_", " "), value) for name, value in card["details"]),
        *(("compares with", _related(other, names)) for other in card["related"]),
        ("closed", card.get("verdict")),
        ("found by", f"{card['check']}, in commit {card['commit']}"),
        ("id", card["id"]),
    ]
    return [(name, str(value)) for name, value in rows if value not in (None, "")]


def _related(other: Mapping[str, Any], names: Names) -> str:
    said = [] if other["label"] is None else [str(other["label"])]
    said += [] if other["score"] is None else [f"alike {other['score']:.3g}"]
    location = names.locations[other["image"]]
    return f"{location} ({', '.join(said)})" if said else location


def _numbers(values: Sequence[float | None]) -> str:
    return " ".join("-" if value is None else f"{value:.1f}".removesuffix(".0") for value in values)
