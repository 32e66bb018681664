"""The edge benchmark's rows as Markdown: INT8 by model, where its time goes, single layers, and the rest beside its targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from benchmarks.report import markdown

Row = Mapping[str, Any]

_IN_GROUPS: Final = " in groups"

FEWEST: Final = 20
"""Images of a slice that is judged."""


def table(rows: Sequence[Row]) -> str:
    """All rows; tables without rows are left out."""
    by_part: dict[str, list[Row]] = {}
    for row in rows:
        by_part.setdefault(row["part"], []).append(row)
    made = [draw(by_part[part]) for part, draws in _DRAWN.items() if part in by_part for draw in draws]
    told = [line for part, tell in _TOLD.items() for row in by_part.get(part, []) for line in tell(row)]
    if told:
        made.append(markdown(["measured", "figure", "target"], told))
    return "\n\n".join(made)


def _models(rows: Sequence[Row]) -> str:
    names = ["model", "images", "metric", "float", "INT8", "points lost", "slice that lost most"]
    columns = [*names, "size", "onnxruntime, CPU ms", "OpenVINO, CPU ms", "speed"]
    lines = []
    for row in rows:
        if "refused" in row:
            lines.append([row["model"], *["-"] * 5, "no INT8 model holds the budget", *["-"] * 4])
            continue
        times = [f"{each['float']:.2f} / {each['int8']:.2f}" for each in row["ms"].values()]
        faster = " / ".join(f"{each['float'] / each['int8']:.2f}" for each in row["ms"].values())
        size = row["bytes"]["float"] / row["bytes"]["int8"]
        lines.append(
            [
                f"{row['model']}, {row['architecture']}",
                row["images"],
                row["metric"],
                f"{100 * row['float']:.2f}",
                f"{100 * row['int8']:.2f}",
                f"{100 * row['drop']:.2f}",
                worst_slice(row["slices"]),
                f"1/{size:.2f}",
                *times,
                faster,
            ]
        )
    return markdown(columns, lines)


def _times(rows: Sequence[Row]) -> str:
    """Where the time of float and of INT8 goes: what is no convolution wins little or nothing."""
    lines = []
    for row in rows:
        for kind, found in row.get("times", {}).items():
            whole, share = row["ms"]["onnxruntime"][kind], found["share"]
            alone = sum(part for name, part in share.items() if name.endswith(_IN_GROUPS))
            convolutions = sum(part for name, part in share.items() if name.endswith("Conv"))
            rest = ", ".join(f"{name} {100 * part:.0f}%" for name, part in share.items() if "Conv" not in name)
            times = [f"{whole * part:.2f}" for part in (convolutions, alone, 1 - convolutions - alone)]
            lines.append([row["model"], kind, *times, rest])
    names = ["convolutions, CPU ms", "those in groups", "all else", "most of all else, of the whole"]
    return markdown(["model, onnxruntime", "as", *names], lines)


def worst_slice(slices: Mapping[str, Row]) -> str:
    """The slice of enough images that lost most, in points; '-' where none has enough."""
    enough = {name: each for name, each in slices.items() if each["images"] >= FEWEST}
    if not enough:
        return "-"
    name = max(enough, key=lambda each: enough[each]["drop"])
    return f"{name}, {enough[name]['images']} images: {100 * enough[name]['drop']:.2f}"


def _layers(rows: Sequence[Row]) -> str:
    lines = [[row["layer"], *(f"{each['float'] / each['int8']:.2f}" for each in row["ms"].values())] for row in rows]
    found = ", ".join(rows[0]["instructions"]) or "unknown"
    return markdown([f"convolutions alone; instructions: {found}", "onnxruntime, speed of INT8", "OpenVINO"], lines)


Line = Sequence[object]


def _inspection(row: Row) -> list[Line]:
    wall, cpu = row["wall_ms"], row["cpu_ms"]
    parts = ", ".join(f"{stage} {each:.1f}" for stage, each in cpu.items())
    times = ", ".join(f"{part} {wall[part]:.1f}" for part in ("p10", "p50", "p95"))
    return [
        [f"two-stage inspection, a frame, ms; load {row['load']}", times, f"100 on {row['cores']} cores"],
        ["the same, CPU ms", f"{row['cpu_ms_in_all']:.1f} ({parts})", ""],
        ["serial numbers read without a mistake", f"{100 * row['serials_right']:.1f}% of {row['frames']}", ""],
        ["parts with a defect that are flagged", "{} of {}".format(*row["faulty_flagged"]), ""],
        ["parts without that are", "{} of {}".format(*row["sound_flagged"]), ""],
    ]


def _cascade(row: Row) -> list[Line]:
    each = ", ".join(f"{name} {100 * value:.2f}" for name, value in row["accuracy"].items())
    times = ", ".join(f"{name} {value:.2f}" for name, value in row["ms"].items())
    return [
        ["cascade, CPU ms an image", f"{times}: {row['faster']:.2f} times faster", "2 times"],
        [f"cascade, {row['metric']}", f"{each}: {100 * row['lost']:.2f} lost", "0.5 lost"],
        ["cascade, asked the heavy model", f"{100 * row['heavy_share']:.1f}% of {row['images']}", ""],
    ]


def _soak(row: Row) -> list[Line]:
    grown = row["last_mb"] - row["first_mb"]
    return [
        [
            f"soak of {row['minutes']:g} min, memory",
            f"{row['first_mb']:.0f} to {row['last_mb']:.0f} MB ({grown:+.1f}), {row['slope_mb_per_hour']:+.1f} MB an hour",
            "flat",
        ],
        [
            f"soak, frames of {row['sent']:,}",
            f"{row['processed']:,} answered, {row['lost']:,} dropped, {row['uncounted']} not counted, {row['untold']} not told",
            "none uncounted",
        ],
    ]


def _kill(row: Row) -> list[Line]:
    found = f"{row['kept']} frames kept: {row['vanished']} gone, {row['damaged']} damaged"
    after = f"{row['imported']} imported, {row['left_out']} equal to others"
    return [[f"harvest after {row['kills']} times kill -9", f"{found}; {after}", "intact"]]


_DRAWN: Final[Mapping[str, Sequence[Callable[[Sequence[Row]], str]]]] = {"int8": [_models, _times], "layer": [_layers]}
_TOLD: Final[Mapping[str, Callable[[Row], list[Line]]]] = {
    "inspection": _inspection,
    "cascade": _cascade,
    "soak": _soak,
    "kill": _kill,
}
