"""Tables for people, on stdout. Colour and width follow the terminal; in a pipe they are plain."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from curate.formats.losses import LossReport
from curate.formats.unread import Unread
from curate.wording import counted, printable, printable_lines

_PIPE_WIDTH = 160


class _Printable(Console):
    """Names from the data are printed as text, whatever control characters are in them; only lines may be broken."""

    def print(self, *objects: Any, **options: Any) -> None:
        shown = [printable_lines(each) if isinstance(each, str) else each for each in objects]
        super().print(*shown, **options)


def console() -> Console:
    """Where tables go: stdout. Names from the data are never taken for markup, nor for commands to the terminal."""
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return _Printable(file=sys.stdout, width=width, markup=False, highlight=False, emoji=False)


def print_table(rows: Sequence[Mapping[str, Any]], *, right: Collection[str] = (), title: str | None = None) -> None:
    """Print rows of equal keys as a table.

    Args:
        rows: At least one row.
        right: Columns set flush right; whole numbers in them get thousands separators.
        title: Above the table.
    """
    table = Table(title=title, box=None, pad_edge=False, header_style="bold", title_style="bold", title_justify="left")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    console().print(table)


def print_summary(summary: Mapping[str, Any]) -> None:
    """Print what `curate.dataset.summary.summarize` gives."""
    out = console()
    out.print(f"{summary['name']}: commit {summary['commit']}, {summary['time']}, {summary['path']}", soft_wrap=True)
    if not summary["tables_at"].startswith(summary["path"]):
        out.print(f"tables at {summary['tables_at']}", soft_wrap=True)
    missing = summary["images_without_file"]
    out.print(counted(summary["images"], "images") + (f", {missing:,} of them without a file" if missing else ""))
    rows: list[tuple[str, str, Mapping[str, int]]] = [("split", "", summary["splits"])]
    rows += [("tags", "", summary["tags"])] if summary["tags"] else []
    rows += [("layer", layer, types) for layer, types in summary["layers"].items()]
    rows += [("classes", layer, classes) for layer, classes in summary["classes"].items()]
    rows += [("embeddings", "", summary["embeddings"])] if summary["embeddings"] else []
    rows += [("tables", "", summary["tables"])] if summary["tables"] else []
    rows += [("findings", kind, statuses) for kind, statuses in summary["findings"].items()]
    rows += [("synced with", remote, counts) for remote, counts in summary["remotes"].items()]
    print_table([{"what": what, "of": of, "count": _counts(counts)} for what, of, counts in rows])


def print_losses(losses: LossReport, *, folder: Path | None = None, unread: Sequence[Unread] = ()) -> None:
    """Print a loss report: what came over, for each reason what was converted or dropped, and what was not read.

    Args:
        losses: The report.
        folder: Places below it are printed relative to it.
        unread: What else lies in the folder that was imported.
    """
    out = console()
    carried = ", ".join(counted(count, what) for what, count in losses.carried_counts.items()) or "nothing"
    out.print(f"came over: {carried}")
    if not losses.losses:
        out.print("nothing of what was read was lost or changed" if unread else "nothing was lost or changed")
    for loss in losses.losses:
        out.print(f"{loss.outcome}: {counted(loss.count, loss.what)}: {loss.reason}", soft_wrap=True)
        more = ", ..." if loss.count > len(loss.places) else ""
        places = ", ".join(loss.places) if folder is None else _relative(", ".join(loss.places), folder)
        out.print(f"    at {printable(places)}{more}", soft_wrap=True)
    for each in unread:
        more = ", ..." if each.count > len(each.places) else ""
        out.print(f"not read: {counted(each.count, each.what)}", soft_wrap=True)
        out.print(f"    at {printable(', '.join(each.places))}{more}", soft_wrap=True)


def print_difference(result: Mapping[str, Any]) -> None:
    """Print what `curate.dataset.difference.difference` gives."""
    out = console()
    out.print(f"from commit {result['from']} to commit {result['to']}")
    changed = False
    for table in ("images", "annotations", "findings"):
        for what, part in result.get(table, {}).items():
            if part["count"]:
                changed = True
                by = next(value for key, value in part.items() if key.startswith("by_"))
                out.print(f"{counted(part['count'], table)} {what}: {_counts(by)}", soft_wrap=True)
                for row in part["first"]:
                    out.print(f"    {_row(row)}", soft_wrap=True)
    for what, names in result.get("classes", {}).items():
        if names:
            changed = True
            out.print(f"classes {what}: {', '.join(names)}", soft_wrap=True)
    if not changed:
        out.print("no difference")


def _relative(text: str, folder: Path) -> str:
    """A text with the paths in it relative to a folder, where they lie below it."""
    return text if folder == folder.parent else text.replace(str(folder / "_").removesuffix("_"), "")


def _row(row: Mapping[str, Any]) -> str:
    if "before" not in row:
        return "  ".join(_cell(value) for value in row.values())
    before, after = row["before"], row["after"]
    same = next(iter(before.values()))
    changes = [
        f"{name}: {_cell(before[name])} -> {_cell(after[name])}" for name in before if before[name] != after[name]
    ]
    return f"{same}  {'; '.join(changes) or 'details'}"


def _counts(counts: Mapping[str, int], limit: int = 12) -> str:
    shown = [f"{name} {count:,}" for name, count in list(counts.items())[:limit]]
    return ", ".join(shown) + (f", and {len(counts) - limit:,} more" if len(counts) > limit else "")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_cell(item) for item in value) + "]"
    return printable(str(value))
