"""The loss report: what came over in an import or export, what of it was converted, and what was dropped.

Everything is counted once as carried or as dropped; what was converted is carried too. Reasons come with their first places.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from curate.errors import FormatError
from curate.wording import counted

Outcome = Literal["converted", "dropped"]

PLACES_KEPT: Final = 5


@dataclass
class Loss:
    """One reason for which things were converted or dropped."""

    outcome: Outcome
    what: str
    reason: str
    count: int = 0
    places: list[str] = field(default_factory=list)


class LossReport:
    """Collects what happened to each thing on its way in or out.

    Args:
        strict: Raise `FormatError` at the first thing dropped or converted.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.carried_counts: dict[str, int] = {}
        self._losses: dict[tuple[str, str, str], Loss] = {}

    def carried(self, what: str, count: int = 1) -> None:
        """Count things that came over, those that were converted among them: 'images', 'annotations', 'classes' ..."""
        self.carried_counts[what] = self.carried_counts.get(what, 0) + count

    def converted(self, what: str, reason: str, place: object, count: int = 1) -> None:
        """Count things that came over changed, in a way the user may care about; they are counted as carried as well.

        Arguments as for `dropped`.
        """
        self._add("converted", what, reason, place, count)

    def dropped(self, what: str, reason: str, place: object, count: int = 1) -> None:
        """Count things that did not come over; they are not counted as carried.

        Args:
            what: 'annotations', 'images', 'attributes' ... : plural, as counted.
            reason: Why, in words a user understands; the same words for the same reason.
            place: The file, and the place in it, of the first of them ('labels/a.txt:3'); or a list of several places, of
                which the first `PLACES_KEPT` are kept.
            count: How many.
        """
        self._add("dropped", what, reason, place, count)

    def include(self, losses: Iterable[Loss]) -> None:
        """Add what another report has collected.

        Raises:
            FormatError: With `strict`, at the first.
        """
        for loss in losses:
            self._add(loss.outcome, loss.what, loss.reason, loss.places, loss.count)

    def rename_places(self, old: str, new: str) -> None:
        """Replace a text in every place: files that were read at one path and are known to the user by another."""
        for loss in self._losses.values():
            loss.places = [place.replace(old, new) for place in loss.places]

    def _add(self, outcome: Outcome, what: str, reason: str, place: object, count: int) -> None:
        if count == 0:
            return
        places = place if isinstance(place, list) else [place]
        if self.strict:
            raise FormatError(
                f"{counted(count, what)} {outcome}, the first of what would be lost or changed: {reason}",
                where=next(iter(places), None),
                remedy="mend the source, or leave out --strict to go on with a loss report",
            )
        loss = self._losses.setdefault((outcome, what, reason), Loss(outcome, what, reason))
        loss.count += count
        loss.places += map(str, places[: PLACES_KEPT - len(loss.places)])

    @property
    def losses(self) -> list[Loss]:
        """Every reason: what was dropped first, then what was converted, the most numerous first."""
        return sorted(self._losses.values(), key=lambda loss: (loss.outcome != "dropped", -loss.count))

    def to_json(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return {
            "carried": dict(self.carried_counts),
            "losses": [
                {
                    "outcome": loss.outcome,
                    "what": loss.what,
                    "reason": loss.reason,
                    "count": loss.count,
                    "places": loss.places,
                }
                for loss in self.losses
            ],
        }
