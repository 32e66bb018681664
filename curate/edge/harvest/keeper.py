"""Which frames are hard, and the keeper that a run hands its finished frames to.

A frame is looked at for a few microseconds; one that is hard is copied and handed to a thread that writes it, so a slow disk
never holds up the run: where the thread is behind, the frame is counted and let go. A scene that stands still would fill the
ring with one picture, so frames that look like one that was kept lately are left out, and no more are kept than so many a minute.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.edge.harvest.entry import HardFrame
from curate.edge.harvest.ring import Ring
from curate.edge.runtime.keeper import FrameContext, Tally
from curate.errors import UsageError
from curate.runner import Package, Reference, Result

USUAL_UNSURE: Final = 0.5
"""From which uncertainty on a frame is hard where its package does not say what is usual."""

_LOG: Final = logging.getLogger(__name__)
_WAITING: Final = 4
_REMEMBERED: Final = 64


@dataclass(frozen=True)
class Criteria:
    """What makes a frame worth keeping; the first three are numbers from 0 to 1, and 1 switches one off.

    Attributes:
        unsure: From this uncertainty on; None for what only `hardest` of the images that a package was measured on are above. A
            weak detector is unsure of something on nearly every frame, so that no number suits all.
        drift: From this drift on: 0.99 is what one in a hundred training images has.
        disagreement: From this disagreement of two packages on.
        hardest: Part of the images, more than 0 and less than 1.
        per_minute: No more frames than this are kept, with as many at once; the rest are counted.
        apart: Bits of 64 in which a frame's small grey picture must differ from those kept lately; 0 keeps all.
    """

    unsure: float | None = None
    drift: float = 0.99
    disagreement: float = 0.5
    hardest: float = 0.05
    per_minute: float = 30.0
    apart: int = 6

    def __post_init__(self) -> None:
        for name in ("unsure", "drift", "disagreement"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"{value:g} is not from 0 to 1", where=f"--harvest-{name}", remedy="1 switches it off")
        if not 0 < self.hardest < 1:
            what = f"the hardest {self.hardest:.0%} of frames are all of them, or none"
            raise UsageError(
                what, where="--harvest-unsure", remedy="a part between 0 and 1; an uncertainty of 1 keeps none"
            )
        if not self.per_minute > 0 or not 0 <= self.apart <= 64:
            what = f"{self.per_minute:g} frames a minute that are {self.apart} bits apart cannot be kept"
            raise UsageError(what, where="--harvest-rate", remedy="more than 0 a minute, and 0 to 64 bits")


def read_unsure(text: str) -> tuple[float | None, float]:
    """`Criteria.unsure` and `Criteria.hardest` from what a person says: '0.5', an uncertainty, or '5%', of the images.

    Raises:
        UsageError: It is neither.
    """
    try:
        if text.endswith("%"):
            return None, float(text[:-1]) / 100
        return float(text), Criteria.hardest
    except ValueError:
        what = f"'{text}' is no uncertainty"
        raise UsageError(what, where="--harvest-unsure", remedy="as in 0.5, or 5% for the hardest") from None


def own_criteria(criteria: Criteria, reference: Reference | None) -> Criteria:
    """Criteria for frames of one package: what it is unsure of is told by its own reference where nothing else is said.

    Where the package does not say, as those made before it was measured do not, it is `USUAL_UNSURE`.
    """
    if criteria.unsure is not None:
        return criteria
    hardest = None if reference is None else reference.hardest(criteria.hardest)
    # The next number above: images of exactly that uncertainty, such as 0, may be many.
    return replace(criteria, unsure=USUAL_UNSURE if hardest is None else min(float(np.nextafter(hardest, 2)), 1.0))


@dataclass
class HarvestCounts:
    """What became of the frames that were offered.

    Attributes:
        offered: All of them.
        hard: Those with a reason to be kept; each of these is one of the following, or still being written.
        kept: On disk.
        why: Of these, by the strongest reason.
        similar: Looked like one that was kept lately.
        limited: More than the limit for a minute.
        busy: The writing was behind.
        failed: Could not be written.
        oversized: Larger than the whole ring may be.
        evicted: Kept before, and gone to make room.
    """

    offered: int = 0
    hard: int = 0
    kept: int = 0
    similar: int = 0
    limited: int = 0
    busy: int = 0
    failed: int = 0
    oversized: int = 0
    evicted: int = 0
    why: Counter[str] = field(default_factory=Counter)


class Harvester:
    """Keeps hard frames in a ring; `curate.edge.runtime.keeper.Keeper`. Close it, or frames that wait are not written.

    Args:
        ring: Where they go. The harvester writes to it from a thread of its own, and closes it.
        packages: Those whose results are offered, by the key that `FrameContext.package` has.
        criteria: What is hard.
        references: Of those packages that have one, by the same key; see `own_criteria`.
        live: Whether frames come in their own time. Those of files can wait for the disk, and how many are kept in a minute
            means nothing then, so neither costs any.
        note: Told, once, that frames cannot be written, and why; the log is where there is nobody.
        clock: Seconds, never going back.
    """

    def __init__(
        self,
        ring: Ring,
        packages: Mapping[str, Package],
        criteria: Criteria | None = None,
        *,
        references: Mapping[str, Reference] | None = None,
        live: bool = True,
        note: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = HarvestCounts()
        self.last_error: Exception | None = None
        self._ring = ring
        self._criteria = criteria or Criteria()
        known = references or {}
        self._own = {key: own_criteria(self._criteria, known.get(key)) for key in packages}
        self._live = live
        self._note = note or _LOG.warning
        self._clock = clock
        self._allowed = self._burst = max(self._criteria.per_minute, 1.0)
        self._at = clock()
        self._seen: deque[int] = deque(maxlen=_REMEMBERED)
        self._waiting: queue.Queue[HardFrame | None] = queue.Queue(_WAITING)
        for key, package in packages.items():
            ring.add_package(key, package_facts(package))
        self._thread = threading.Thread(target=self._write, name="harvest", daemon=True)
        self._thread.start()

    def __enter__(self) -> Harvester:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def offer(self, pixels: npt.NDArray[np.uint8], result: Result, context: FrameContext) -> None:
        """Keep a frame if it is hard; arguments as for `curate.edge.runtime.keeper.Keeper.offer`."""
        self.counts.offered += 1
        reasons = reasons_to_keep(context, self._own.get(context.package, self._criteria))
        if not reasons:
            return
        self.counts.hard += 1
        look = difference_hash(pixels)
        if any((look ^ other).bit_count() < self._criteria.apart for other in self._seen):
            self.counts.similar += 1
        elif not self._may_keep():
            self.counts.limited += 1
        else:
            frame = HardFrame(pixels.copy(), _copied(result), _own(context), reasons)
            try:
                self._waiting.put(frame, block=not self._live)
            except queue.Full:
                self.counts.busy += 1
                return
            self._allowed -= 1
            self._seen.append(look)

    def settle(self) -> None:
        """Wait until what is on its way is written."""
        self._waiting.join()

    def tally(self) -> Tally:
        """See `curate.edge.runtime.keeper.Keeper.tally`."""
        counts = self.counts
        skipped = {name: getattr(counts, name) for name in ("similar", "limited", "busy", "oversized")}
        return Tally(counts.hard, counts.why.copy(), skipped, counts.failed, counts.evicted)

    def close(self) -> None:
        """Write what waits, and let go of the ring."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()
        self._ring.close()

    def _may_keep(self) -> bool:
        """Whether the limit allows one more: a bucket that fills at the rate that is allowed."""
        if not self._live:
            return True
        now = self._clock()
        self._allowed = min(self._burst, self._allowed + (now - self._at) * self._criteria.per_minute / 60)
        self._at = now
        return self._allowed >= 1

    def _write(self) -> None:
        while (frame := self._waiting.get()) is not None:
            try:
                kept = self._ring.put(frame)
            except Exception as error:  # a full disk must not end the run, and nothing else may end this thread
                self.counts.failed += 1
                if self.counts.failed == 1:
                    self._note(
                        f"hard frames cannot be kept, which costs nothing else: {error} (at: {self._ring.folder})"
                    )
                self.last_error = error
            else:
                self.last_error = None
                self.counts.kept += kept is not None
                self.counts.oversized += kept is None
                if kept is not None:
                    self.counts.why[frame.reason] += 1
            self.counts.evicted = self._ring.evicted
            self._waiting.task_done()
        self._waiting.task_done()


def reasons_to_keep(context: FrameContext, criteria: Criteria) -> dict[str, float]:
    """Why a frame is hard, and how strongly: 0.5 at a criterion's own value, 1 at the most there can be.

    Returns:
        Some of `curate.edge.harvest.entry.REASONS`; nothing for a frame that is not hard.
    """
    values = {
        "unsure": (context.uncertainty, USUAL_UNSURE if criteria.unsure is None else criteria.unsure),
        "drift": (context.drift, criteria.drift),
        "disagreement": (None if context.agreement is None else 1 - context.agreement, criteria.disagreement),
    }
    reasons = {
        name: 0.5 + 0.5 * (min(value, 1.0) - least) / (1 - least)
        for name, (value, least) in values.items()
        if value is not None and least < 1 and value >= least
    }
    if context.asks:
        reasons["asked"] = 0.5 + 0.5 * min(max(context.uncertainty, 0.0), 1.0)
    return reasons


def package_facts(package: Package) -> dict[str, Any]:
    """What an import must know of a package."""
    model = package.manifest.get("model", {})
    return {
        "name": package.name,
        "version": package.version,
        "target": package.target,
        "task": package.task,
        "classes": list(package.classes),
        "model": str(package.manifest.get("files", {}).get(model.get("file"), "")),
    }


def difference_hash(pixels: npt.NDArray[np.uint8]) -> int:
    """Which of 8 x 8 parts of an image are lighter than the one to their right, as 64 bits (Krawetz, 2013)."""
    from PIL import Image

    step = max(1, min(pixels.shape[0] // 32, pixels.shape[1] // 36))
    small = Image.fromarray(np.ascontiguousarray(pixels[::step, ::step])).convert("L")
    values = np.asarray(small.resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    return int.from_bytes(np.packbits(values[:, :-1] > values[:, 1:]).tobytes(), "big")


def _copied(result: Result) -> Result:
    """A result of its own: the run may use its arrays again."""
    own = {name: value.copy() for name, value in vars(result).items() if isinstance(value, np.ndarray)}
    return Result(**{**vars(result), **own})


def _own(context: FrameContext) -> FrameContext:
    return context if context.other is None else replace(context, other=_copied(context.other))
