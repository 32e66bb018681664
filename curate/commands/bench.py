"""bench: how fast packages are here, and what they may come to elsewhere."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from curate.commands.given import require_numbers
from curate.commands.options import JsonOption, SeedOption
from curate.commands.output import late_progress, print_json_lines

NO_FIT: Final = 1
"""Exit status where a package did not fit into the memory that it may have."""

PackagesArgument = Annotated[
    list[Path],
    typer.Argument(
        help="Packages, side by side. The first is what the others are compared with.",
        metavar="PACKAGE...",
        show_default=False,
    ),
]
BackendOption = Annotated[
    list[str] | None,
    typer.Option(
        "--backend",
        help="onnxruntime, openvino, tflite or tensorrt. Default: all that can run the package and are installed. "
        "Repeatable.",
        metavar="NAME",
    ),
]
ThreadsOption = Annotated[
    list[int] | None,
    typer.Option("--threads", help="That one inference may use. Default: 1. Repeatable.", metavar="N"),
]
BatchOption = Annotated[
    list[int] | None, typer.Option("--batch", help="Images for each call. Default: 1. Repeatable.", metavar="N")
]
ImagesOption = Annotated[
    Path | None,
    typer.Option("--images", help="Image, or folder of images. Default: pictures of 1280 x 720.", metavar="PATH"),
]
SecondsOption = Annotated[float, typer.Option("--seconds", help="Of measuring, for each.", metavar="N")]
CoresOption = Annotated[
    int | None, typer.Option("--cores", help="Of a smaller device: no more than these are used.", metavar="N")
]
MemoryOption = Annotated[
    str | None,
    typer.Option("--memory", help="Of a smaller device: no more may be allocated, as in 512MB or 1GB.", metavar="SIZE"),
]


def bench(
    context: typer.Context,
    packages: PackagesArgument,
    backend: BackendOption = None,
    threads: ThreadsOption = None,
    batch: BatchOption = None,
    images: ImagesOption = None,
    seconds: SecondsOption = 5.0,
    cores: CoresOption = None,
    memory: MemoryOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Measure packages: latency, throughput, memory, and where the time goes; estimate them for small devices.

    The exit status is 1 where a package did not fit into --memory.
    """
    from curate.edge.bench.measure import Limits
    from curate.edge.bench.run import Request, run_bench

    require_numbers(context, positive=["seconds"])
    _require_cores(cores)
    request = Request(
        packages=packages,
        backends=backend or (),
        threads=threads or (1,),
        batches=batch or (1,),
        images=images,
        seconds=seconds,
        limits=Limits(cores, None if memory is None else parse_size(memory)),
        seed=seed,
    )
    with late_progress("measuring") as report:
        result = run_bench(request, progress=report)
    if json:
        print_json_lines(_rows(result))
    else:
        from curate.report.bench import print_bench

        print_bench(result)
    if not all(each.fits for each in result.measured):
        raise typer.Exit(NO_FIT)


def _require_cores(cores: int | None) -> None:
    """Refuse a device that has more cores than there are here: what is measured would be this machine.

    Raises:
        UsageError: There are not so many.
    """
    from curate.errors import UsageError

    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores is not None and cores > there:
        what = f"there are {there} cores here, so {cores} cannot be measured"
        raise UsageError(what, where="--cores", remedy=f"1 to {there}, or run this on the device")


def parse_size(text: str) -> int:
    """Bytes in '512MB', '1.5 GB', '300000'; a kB is 1024 bytes.

    Raises:
        UsageError: It is no size.
    """
    from curate.errors import UsageError

    found = re.fullmatch(r"(\d{1,15}(?:\.\d+)?)\s*([kmg]i?)?b?", text.strip(), re.IGNORECASE)
    size = 0 if found is None else int(float(found[1]) * 1024 ** " kmg".index((found[2] or " ")[0].lower()))
    if size < 1:
        raise UsageError(f"'{text}' is no size", where="--memory", remedy="as in 512MB or 1GB")
    return size


def _rows(report: Any) -> list[dict[str, Any]]:
    """One object for each thing measured, and one for each estimate."""
    rows = [{"name": label, **each.to_json()} for label, each in zip(report.labels, report.measured, strict=True)]
    for folder, estimates in report.estimates.items():
        rows += [{"package": folder, **each.to_json()} for each in estimates]
    return [*rows, *({"note": line} for line in report.notes)]
