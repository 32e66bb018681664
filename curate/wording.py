"""Texts for people: words that depend on a number, and names from the data that may hold anything."""

from __future__ import annotations


def counted(count: int, plural: str) -> str:
    """A count with what it counts: '1 class added', '2,000 images'.

    Args:
        count: How many.
        plural: In the plural. At a count of 1 the first word that is one loses it: 'holes in masks', 'image files'.
    """
    if count == 1:
        words = plural.split(" ")
        place = next((place for place, word in enumerate(words) if _is_plural(word)), None)
        if place is not None:
            words[place] = _singular(words[place])
        plural = " ".join(words)
    return f"{count:,} {plural}"


def printable(text: str) -> str:
    """A text from outside as a terminal can show it: control characters, those of writing directions too, spelt out."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def printable_lines(text: str) -> str:
    """The same of a text of several lines."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _is_plural(word: str) -> bool:
    return word.endswith("s") and not word.endswith("ss")


def _singular(word: str) -> str:
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[: -2 if word.endswith(("sses", "xes")) else -1]
