"""Words for people that depend on a number."""

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


def _is_plural(word: str) -> bool:
    return word.endswith("s") and not word.endswith("ss")


def _singular(word: str) -> str:
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[: -2 if word.endswith(("sses", "xes")) else -1]
