"""What a package was measured to be, on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from curate.report.terminal import console, print_table
from curate.wording import counted

if TYPE_CHECKING:
    from curate.edge.package.build import Made
    from curate.edge.package.parity import Parity


def print_package(made: Made) -> None:
    """Print the original and the package side by side, and where the package is."""
    out, parity = console(), made.parity
    out.print(f"{made.id} for {made.target}, compared with {parity.before.model} on {parity.chosen}", soft_wrap=True)
    out.print()
    print_table(list(_rows(parity)), right={"images", "original", "packaged", "lost"})
    out.print()
    packaged, original = (f"{size / 1e6:,.1f} MB" for size in made.bytes)
    out.print(f"answers agree by {parity.agreement:.4f}; model {packaged}, original {original}", soft_wrap=True)
    if made.findings:
        out.print(
            f"{counted(len(made.findings), 'images')} changed most: curate findings --where \"check = 'package'\""
        )
    if made.folder is not None:
        out.print(f"package: {made.folder}", soft_wrap=True)


def _rows(parity: Parity) -> Iterator[dict[str, Any]]:
    before, after = parity.before, parity.after
    yield _row("all images", len(parity.changes), before.metric, before.overall, after.overall)
    for name, value in before.per_class.items():
        yield _row(f"class {name}", None, before.class_metric, value, after.per_class.get(name))
    for name, value in before.per_slice.items():
        yield _row(name, before.slice_images[name], before.slice_metric, value, after.per_slice.get(name))


def _row(what: str, images: int | None, metric: str, before: float | None, after: float | None) -> dict[str, Any]:
    lost = None if before is None or after is None else before - after
    numbers = {"original": before, "packaged": after, "lost": lost}
    told = {key: "" if value is None else f"{value + 0.0:.4f}" for key, value in numbers.items()}
    return {"of": what, "images": "" if images is None else images, "metric": metric, **told}
