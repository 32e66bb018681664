"""What two packages are on labelled images, on a terminal."""

from __future__ import annotations

from curate.edge.runtime.judging import Cost, Judged, Tuned
from curate.report.terminal import console, print_table
from curate.wording import counted

UNDECIDED = "cannot be told yet"


def print_judged(found: Judged | Tuned, first: str, second: str) -> None:
    """Print which of two packages is better, or what a cascade of them is worth.

    Args:
        found: What was measured.
        first: Name of the first package, or of the light one.
        second: Of the other.
    """
    if first == second:
        first, second = f"{first} (first)", f"{second} (second)"
    rows = _tuned(found, first, second) if isinstance(found, Tuned) else _judged(found, first, second)
    print_table([{"what": what, "value": value} for what, value in rows])
    if isinstance(found, Judged):
        console().print(
            "Images of one group, as the frames of a video are, make one pair: the difference is the mean over groups, so it "
            "need not be that of the two means above. The first is better above 0, the second below.",
            soft_wrap=True,
        )


def _judged(found: Judged, first: str, second: str) -> list[tuple[str, str]]:
    test = found.comparison
    low, high = test.interval
    better = {None: UNDECIDED, "first": first, "second": second}[test.better]
    return [
        ("better", better),
        (f"mean of {first}", f"{found.first:.4f}, of {counted(found.images, 'images')}"),
        (f"mean of {second}", f"{found.second:.4f}"),
        ("agreement", f"{found.agreement:.4f}"),
        ("pairs", f"{test.count:,}, {found.new:,} of them new"),
        ("mean difference", "" if test.mean is None else f"{test.mean:+.4f}"),
        (f"interval at {1 - test.alpha:.3g}", f"{low:+.3f} to {high:+.3f}"),
    ]


def _tuned(found: Tuned, first: str, second: str) -> list[tuple[str, str]]:
    interval = found.lost_interval
    span = "" if interval is None else f" ({interval[0]:+.4f} to {interval[1]:+.4f})"
    refusals = found.refusals
    advice = f"none: no cascade helps, as {'; '.join(refusals)}" if refusals else f"{found.threshold:.6f}"
    choosing, checking = found.images
    return [
        ("threshold", advice),
        *([("tried", f"{found.threshold:.6f}")] if refusals else []),
        (f"{found.metric} of {first}", f"{found.light:.4f}"),
        (f"{found.metric} of {second}", f"{found.heavy:.4f}"),
        (f"{found.metric} of the cascade", f"{found.cascade:.4f}"),
        ("lost", f"{found.lost:+.4f}{span}, {found.max_loss:g} allowed"),
        ("asked the heavy package", f"{found.heavy_share:.1%} of images"),
        (f"an image by {first}", _cost(found.light_cost)),
        (f"an image by {second}", _cost(found.heavy_cost)),
        ("an image by the cascade", _cost(found.cascade_cost)),
        ("speed up", f"{found.speed_up:.2f} times"),
        ("processor time saved", f"{found.saved:.1%}"),
        ("images", f"{choosing:,} chose, {checking:,} checked"),
    ]


def _cost(cost: Cost) -> str:
    return f"{cost.wall_ms:.2f} ms, of the processor {cost.processor_ms:.2f} ms"
