"""curate run: a package on a folder, a video, a camera or a stream."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from curate.commands.given import refuse, require_numbers
from curate.commands.options import JsonOption, SeedOption, WhereOption
from curate.commands.output import late_progress, note, print_json

if TYPE_CHECKING:
    from curate.edge.harvest.keeper import Criteria, Harvester
    from curate.edge.harvest.ring import Bounds
    from curate.edge.runtime.answers import Model
    from curate.edge.runtime.frames import Source
    from curate.edge.runtime.judging import Judged, Tuned
    from curate.edge.runtime.run import Settings
    from curate.edge.runtime.session import Wanted
    from curate.runner import Runner

INTERRUPTED = 130
_MEGABYTE = 1_000_000

PackageArgument = Annotated[
    Path, typer.Argument(help="Folder that 'curate package' made.", metavar="PACKAGE", show_default=False)
]
SourceOption = Annotated[
    str | None,
    typer.Option(
        "--source",
        "-s",
        help="A folder of images, an image, a video, camera:0, or an address such as rtsp://HOST/PATH or http://HOST/PATH.",
        metavar="SOURCE",
    ),
]
FpsOption = Annotated[float | None, typer.Option("--fps", help="Look at so many frames of each second.", metavar="N")]
EveryOption = Annotated[int, typer.Option("--every", help="Look at every so many-th frame.", min=1, metavar="N")]
FramesOption = Annotated[
    int | None, typer.Option("--frames", help="End after so many frames that are looked at.", min=1, metavar="N")
]
SecondsOption = Annotated[float | None, typer.Option("--seconds", help="End after so long.", metavar="N")]
BatchOption = Annotated[int, typer.Option("--batch", help="Frames for each call of the model.", min=1, metavar="N")]
ThreadsOption = Annotated[int, typer.Option("--threads", help="That one inference may use.", min=1, metavar="N")]
BackendOption = Annotated[
    str | None,
    typer.Option("--backend", help="onnxruntime, openvino, tflite or tensorrt. Default: the target's.", metavar="NAME"),
]
TrackOption = Annotated[
    bool | None, typer.Option("--track/--no-track", help="Follow things from frame to frame. Lines and zones need it.")
]
TrackScoreOption = Annotated[
    float,
    typer.Option("--track-score", help="Confidence from which a thing begins a track.", min=0, max=1, metavar="P"),
]
LineOption = Annotated[
    list[str] | None,
    typer.Option(
        "--line",
        help="Count what crosses: NAME=x1,y1,x2,y2 in pixels, or with % of the sides. Repeatable.",
        metavar="LINE",
    ),
]
ZoneOption = Annotated[
    list[str] | None,
    typer.Option("--zone", help="Count what is inside: NAME=x1,y1,x2,y2,x3,y3,... Repeatable.", metavar="ZONE"),
]
AnchorOption = Annotated[
    Literal["bottom", "centre"], typer.Option("--anchor", help="Point of a box that says where a thing is.")
]
AskOption = Annotated[
    str | None,
    typer.Option(
        "--ask", help="Confidences at which a person is to be asked. Default: the package's own.", metavar="LOW:HIGH"
    ),
]
ScaleOption = Annotated[
    float | None, typer.Option("--scale", help="Millimetres of a pixel's side: tells areas in mm2.", metavar="MM")
]
MinAreaOption = Annotated[
    str | None,
    typer.Option(
        "--min-area", help="Leave out regions that are smaller: 40px, or 0.1mm2 with --scale.", metavar="AREA"
    ),
]
HeavyOption = Annotated[
    Path | None,
    typer.Option(
        "--heavy", help="A second package, asked where the first one is unsure: a cascade.", metavar="PACKAGE"
    ),
]
ThresholdOption = Annotated[
    float,
    typer.Option("--threshold", help="Uncertainty above which the heavy package is asked.", min=0, max=1, metavar="U"),
]
AgainstOption = Annotated[
    Path | None,
    typer.Option("--against", help="A second package that looks at every frame too, to compare.", metavar="PACKAGE"),
]
ShareOption = Annotated[
    float | None,
    typer.Option(
        "--share", help="With --against: the second package answers only this part of frames, and alone.", metavar="P"
    ),
]
LabelsOption = Annotated[
    str | None,
    typer.Option(
        "--labels",
        help="Run on no source, but on this labelled dataset: find the threshold of a cascade, or which of two packages "
        "is better.",
        metavar="DATASET",
    ),
]
SplitsOption = Annotated[
    str | None,
    typer.Option(
        "--splits", help="Of --labels, between commas. Default: val and test where there are any.", metavar="SPLITS"
    ),
]
MaxLossOption = Annotated[
    float,
    typer.Option("--max-loss", help="Of the metric, that a cascade may lose against its heavy package.", metavar="X"),
]
AlphaOption = Annotated[
    float, typer.Option("--alpha", help="Probability of calling one better where none is.", metavar="P")
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Add a JSON line for each frame to this file.", metavar="FILE")
]
OutputLimitOption = Annotated[
    float | None,
    typer.Option("--output-limit", help="Begin the file anew at so many megabytes; one old one is kept.", metavar="MB"),
]
OnlyFoundOption = Annotated[
    bool, typer.Option("--only-found", help="No lines for frames without things, crossings and questions.")
]
OverlayOption = Annotated[
    Path | None, typer.Option("--overlay", help="Draw what is found into a video, .mp4 or .avi.", metavar="FILE")
]
HarvestOption = Annotated[
    Path | None,
    typer.Option(
        "--harvest", help="Keep hard frames in this folder, for 'curate import harvest://'.", metavar="FOLDER"
    ),
]
HarvestUnsureOption = Annotated[
    str,
    typer.Option(
        "--harvest-unsure",
        help="Frames from this uncertainty on are hard; or, with %, those harder than all but so many of the images that "
        "the package was measured on. 1 keeps none for this.",
        metavar="U|P%",
    ),
]
HarvestDriftOption = Annotated[
    float,
    typer.Option(
        "--harvest-drift", help="Frames are hard that drift as far as this part of training images do not.", metavar="D"
    ),
]
HarvestDisagreementOption = Annotated[
    float,
    typer.Option(
        "--harvest-disagreement",
        help="With --against: 1 less the agreement from which on frames are hard.",
        metavar="D",
    ),
]
HarvestRateOption = Annotated[
    float, typer.Option("--harvest-rate", help="Hard frames of a camera or stream kept in a minute.", metavar="N")
]
HarvestSizeOption = Annotated[
    float, typer.Option("--harvest-size", help="Megabytes that the hard frames may take.", metavar="MB")
]
HarvestFramesOption = Annotated[
    int, typer.Option("--harvest-frames", help="Hard frames that there may be in the folder.", min=1, metavar="N")
]
MetricsOption = Annotated[
    str | None,
    typer.Option(
        "--metrics", help="Serve metrics for Prometheus here; a port alone is on 127.0.0.1.", metavar="[HOST:]PORT"
    ),
]
PatienceOption = Annotated[
    float | None,
    typer.Option(
        "--patience", help="Give up a live source that is silent for so many seconds. Default: never.", metavar="N"
    ),
]
StallOption = Annotated[
    float, typer.Option("--stall", help="End if a stage is at one frame for so many seconds.", metavar="N")
]


_WITH_LABELS = ("splits", "where", "max_loss", "alpha")
_WITH_SOURCE = (
    "fps", "every", "frames", "seconds", "batch", "track", "track_score", "line", "zone", "anchor", "ask", "scale", "min_area",
    "threshold",
    "share", "output", "output_limit", "only_found", "overlay", "harvest", "metrics", "patience", "stall",
)  # fmt: skip
_WITH_HARVEST = (
    "harvest_unsure", "harvest_drift", "harvest_disagreement", "harvest_rate", "harvest_size", "harvest_frames",
)  # fmt: skip
_POSITIVE = ("seconds", "output_limit", "patience", "stall")


def run(
    context: typer.Context, package: PackageArgument, source: SourceOption = None,
    fps: FpsOption = None, every: EveryOption = 1, frames: FramesOption = None, seconds: SecondsOption = None,
    batch: BatchOption = 1, threads: ThreadsOption = 1, backend: BackendOption = None,
    track: TrackOption = None, track_score: TrackScoreOption = 0.6,
    line: LineOption = None, zone: ZoneOption = None, anchor: AnchorOption = "bottom",
    ask: AskOption = None, scale: ScaleOption = None, min_area: MinAreaOption = None,
    heavy: HeavyOption = None, threshold: ThresholdOption = 0.5, against: AgainstOption = None,
    share: ShareOption = None, labels: LabelsOption = None, splits: SplitsOption = None, where: WhereOption = None,
    max_loss: MaxLossOption = 0.005, alpha: AlphaOption = 0.05,
    output: OutputOption = None, output_limit: OutputLimitOption = None, only_found: OnlyFoundOption = False,
    overlay: OverlayOption = None,
    harvest: HarvestOption = None, harvest_unsure: HarvestUnsureOption = "5%", harvest_drift: HarvestDriftOption = 0.99,
    harvest_disagreement: HarvestDisagreementOption = 0.5, harvest_rate: HarvestRateOption = 30.0,
    harvest_size: HarvestSizeOption = 1000.0, harvest_frames: HarvestFramesOption = 2000,
    metrics: MetricsOption = None, patience: PatienceOption = None, stall: StallOption = 60.0,
    seed: SeedOption = 0, json: JsonOption = False,
) -> None:  # fmt: skip
    """Run a package on frames as they come: find, follow, count, ask, and tell in JSON lines.

    Frames of files are all looked at. Of a camera or stream, those that come too fast are dropped, the oldest first, and
    counted. Ctrl-C or SIGTERM ends a run in order: frames on their way are finished, and every line is whole.
    """
    from curate.edge.harvest.keeper import Criteria, read_unsure
    from curate.edge.harvest.ring import Bounds
    from curate.edge.runtime.run import Settings
    from curate.edge.runtime.sources import Sampling, open_source

    _require_sense(context, source=source, labels=labels, heavy=heavy, against=against, share=share, harvest=harvest)
    runners = _runners((package, heavy, against), threads, backend)
    if source is None:
        assert labels is not None
        _measure(labels, runners, max_loss if heavy is not None else None, alpha, splits, where, seed, json)
        return
    unsure, hardest = read_unsure(harvest_unsure)
    wanted = Harvest(
        harvest, Bounds(harvest_frames, round(harvest_size * _MEGABYTE)),
        Criteria(unsure, harvest_drift, harvest_disagreement, hardest, harvest_rate),
    )  # fmt: skip
    settings = Settings(
        wanted=_wanted(track, track_score, line, zone, anchor, ask, scale, min_area), batch=batch, most=frames, seconds=seconds,
        output=output, output_limit=None if output_limit is None else round(output_limit * _MEGABYTE),
        only_found=only_found, overlay=overlay, overlay_rate=fps, metrics=metrics, stall=stall,
    )  # fmt: skip
    model = _model(runners, threshold if heavy is not None else None, share, seed)
    frames_of = open_source(source, Sampling(fps, every), patience=patience)
    _require_times(context, frames_of, overlay)
    _run(model, frames_of, settings, wanted, json)


@dataclass(frozen=True)
class Harvest:
    """Where hard frames go, how many, and which; nowhere without a folder."""

    folder: Path | None
    bounds: Bounds
    criteria: Criteria


def _require_sense(
    context: typer.Context,
    *,
    source: str | None,
    labels: str | None,
    heavy: Path | None,
    against: Path | None,
    share: float | None,
    harvest: Path | None,
) -> None:
    """Options that contradict one another, or mean nothing without another."""
    from curate.errors import UsageError

    require_numbers(context, positive=_POSITIVE, not_negative=("max_loss",))

    if (source is None) == (labels is None):
        raise UsageError("a run has either a source or labels", where="--source", remedy="--source camera:0")
    if heavy is not None and against is not None:
        raise UsageError("two packages are a cascade or are compared", where="--against", remedy="leave out --heavy")
    if labels is None:
        elsewhere = "leave it out, or name --labels in place of --source"
        refuse(context, _WITH_LABELS, "this is of a run on labels", elsewhere)
        if share is None:
            refuse(context, ["seed"], "nothing is drawn in a run on a source", "leave it out, or add --share")
        if heavy is None:
            refuse(context, ["threshold"], "a threshold is of a cascade", "add --heavy")
        if harvest is None:
            refuse(context, _WITH_HARVEST, "no frames are kept", "add --harvest FOLDER")
        if against is None:
            refuse(context, ["harvest_disagreement"], "there is nobody to disagree with", "add --against")
            refuse(context, ["share"], "there is nobody to share frames with", "add --against")
        if share is not None:
            refuse(context, ["harvest_disagreement"], "each frame has one answer", "leave out --share")
        return
    remedy = "leave it out, or name --source in place of --labels"
    refuse(context, (*_WITH_SOURCE, *_WITH_HARVEST), "this is of a run on a source", remedy)
    if heavy is None:
        refuse(context, ["max_loss", "seed"], "this is of a cascade", "leave it out, or add --heavy")
    if against is None:
        refuse(context, ["alpha"], "this is of two packages that are compared", "leave it out, or add --against")


def _require_times(context: typer.Context, source: Source, overlay: Path | None) -> None:
    """Images of a folder have no times, and nobody waits for files."""
    from curate.edge.runtime.sources import FolderSource

    if isinstance(source, FolderSource) and overlay is None:
        remedy = "--every 5 looks at every fifth; with --overlay, --fps is the speed of the video"
        refuse(context, ["fps"], "images of a folder have no times", remedy)
    if not source.is_live:
        refuse(context, ["patience"], "only a camera or stream can be silent", "leave it out")


def _runners(folders: Sequence[Path | None], threads: int, backend: str | None) -> list[Runner]:
    from curate.edge.runtime.answers import open_runner, tell_apart

    runners = [open_runner(str(folder), threads=threads, backend=backend) for folder in folders if folder is not None]
    tell_apart(runners)
    return runners


def _run(model: Model, source: Source, settings: Settings, harvest: Harvest, json: bool) -> None:
    """Run, and tell what it came to."""
    from curate.edge.runtime.run import run as run_model

    with ExitStack() as stack:
        keeper = None
        if harvest.folder is not None:
            keeper = stack.enter_context(_harvester(harvest.folder, harvest, model.runners, source.is_live))
        summary = run_model(model, source, settings, emit=_emit if json else None, keeper=keeper, note=note)
    if json:
        print_json(summary.to_json())
    else:
        _print(summary.to_table())
    if keeper is not None and keeper.tally().kept:
        note(f"bring hard frames into a dataset with: curate import harvest://{harvest.folder} -d DATASET")
    if summary.ended == "signal" and not source.is_live:
        raise typer.Exit(INTERRUPTED)


def _model(runners: Sequence[Runner], threshold: float | None, share: float | None, seed: int) -> Model:
    """One package, a cascade where there is a threshold, two that share the frames, or a pair."""
    from curate.edge.runtime.answers import Cascade, Pair, Single, Split

    if len(runners) == 1:
        return Single(runners[0])
    first, second = runners
    if share is not None:
        return Split(first, second, share, seed=seed)
    return Pair(first, second) if threshold is None else Cascade(first, second, threshold)


def _wanted(
    track: bool | None,
    track_score: float,
    line: list[str] | None,
    zone: list[str] | None,
    anchor: Literal["bottom", "centre"],
    ask: str | None,
    scale: float | None,
    min_area: str | None,
) -> Wanted:
    from curate.edge.runtime.counters import Shape
    from curate.edge.runtime.session import Wanted
    from curate.edge.runtime.things import Band, parse_area
    from curate.edge.runtime.tracker import TrackerSettings

    follows = bool(line or zone) if track is None else track
    return Wanted(
        tracker=TrackerSettings.beginning_at(track_score) if follows else None,
        lines=[Shape.parse(each, "--line") for each in line or ()],
        zones=[Shape.parse(each, "--zone") for each in zone or ()],
        anchor=anchor,
        band=None if ask is None else Band.parse(ask),
        millimetres=scale,
        smallest=None if min_area is None else parse_area(min_area, scale),
    )


def _harvester(folder: Path, harvest: Harvest, runners: Sequence[Runner], live: bool) -> Harvester:
    """Keeps the hard frames; closes the ring when it is closed."""
    from curate.edge.harvest.keeper import USUAL_UNSURE, Harvester
    from curate.edge.harvest.ring import Ring
    from curate.edge.runtime.session import reference_of

    packages = {runner.package.id: runner.package for runner in runners}
    found = {runner.package.id: reference_of(runner) for runner in runners}
    references = {key: reference for key, reference in found.items() if reference is not None}
    lacking = [key for key in packages if key not in references or references[key].uncertainties is None]
    if harvest.criteria.unsure is None and lacking:
        note(
            f"{', '.join(lacking)} does not say how unsure it usually is: frames are hard from an uncertainty of "
            f"{USUAL_UNSURE:g} on (make the package again, or set --harvest-unsure)"
        )
    ring = Ring(folder, bounds=harvest.bounds)
    return Harvester(ring, packages, harvest.criteria, references=references, live=live, note=note)


def _measure(
    labels: str,
    runners: list[Runner],
    max_loss: float | None,
    alpha: float,
    splits: str | None,
    where: str | None,
    seed: int,
    json: bool,
) -> None:
    """Two packages on labelled images: as a cascade, where it may lose something, or one against the other."""
    from curate.errors import UsageError

    if len(runners) != 2:
        raise UsageError("labels are for two packages", where="--labels", remedy="add --heavy or --against")

    from curate.dataset import open_dataset
    from curate.edge.runtime.judging import judge, tune

    dataset = open_dataset(labels)
    chosen = None if splits is None else [each.strip() for each in splits.split(",") if each.strip()]
    first, second = runners
    with late_progress("measuring") as report:
        found: Tuned | Judged
        if max_loss is not None:
            found = tune(
                dataset, first, second, max_loss=max_loss, splits=chosen, where=where, seed=seed, progress=report
            )
        else:
            found = judge(dataset, first, second, alpha=alpha, splits=chosen, where=where, progress=report)
    for each in found.notes:
        note(each)
    if json:
        print_json(found.to_json())
    else:
        from curate.report.judged import print_judged

        print_judged(found, first.package.id, second.package.id)


def _emit(line: dict[str, Any]) -> None:
    """One line now: whoever reads on the other side of a pipe waits for it."""
    import sys

    print_json(line)
    sys.stdout.flush()


def _print(told: dict[str, Any]) -> None:
    """A summary as a table of two columns."""
    from curate.report.terminal import print_table

    rows: list[dict[str, object]] = [
        {"what": key.replace("_", " "), "value": _text(value)}
        for key, value in told.items()
        if key != "kind" and value is not None and value != {}
    ]
    print_table(rows)


def _text(value: object) -> str:
    """What a number, a list, or names with values are in a table; values of values in brackets."""
    if isinstance(value, dict):
        parts = ((name, f"({_text(each)})" if isinstance(each, dict) else _text(each)) for name, each in value.items())
        return ", ".join(f"{name} {text}" for name, text in parts if text != "()")
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
