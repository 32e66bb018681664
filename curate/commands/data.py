"""import and export: between files and datasets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.commands.app import command_line
from curate.commands.options import DatasetOption, JsonOption, StrictOption, WhereOption
from curate.commands.output import late_progress, note, print_json
from curate.commands.pull import pull_one
from curate.formats.registry import FORMATS
from curate.names import GROUND_TRUTH

if TYPE_CHECKING:
    from curate.formats.importing import ImportResult

_FORMATS = ", ".join(FORMATS.builtins)
_FIFTYONE = "fiftyone://"
_HARVEST = "harvest://"
_ARCHIVES = ".zip, .tar, .tar.gz, .tar.bz2 or .tar.xz"

SourceArgument = Annotated[
    str,
    typer.Argument(
        help="File, folder, or archive (zip, tar) of one; or a project on a server: cvat://HOST/projects/3, "
        "labelstudio://HOST/projects/7, roboflow://WORKSPACE/PROJECT/VERSION; or a FiftyOne dataset: fiftyone://NAME; or "
        "the hard frames that 'curate run' kept: harvest://FOLDER.",
        metavar="SOURCE",
        show_default=False,
    ),
]
ImportFormatOption = Annotated[
    str, typer.Option("--format", "-f", help=f"auto, to look; or one of: {_FORMATS}.", metavar="FORMAT")
]
ImportLayerOption = Annotated[
    str, typer.Option("--layer", help="Layer of the annotations: ground_truth or predictions/NAME.", metavar="LAYER")
]
ImagesOption = Annotated[
    Path | None,
    typer.Option("--images", help="Folder of the images, where the format does not tell.", metavar="DIR"),
]
SplitOption = Annotated[str | None, typer.Option("--split", help="Split of all images.", metavar="NAME")]
ClassesOption = Annotated[
    Path | None,
    typer.Option("--classes", help="File of class names, one a line, where the format has none.", metavar="FILE"),
]
FpsOption = Annotated[
    float | None,
    typer.Option("--fps", help="Frames taken of each second of a video. Default: every frame.", metavar="N"),
]
ImportVariantOption = Annotated[
    str | None,
    typer.Option("--variant", help="YOLO: detect, segment, obb, pose or classify, where that is open.", metavar="NAME"),
]


def import_(
    source: SourceArgument,
    dataset: DatasetOption,
    format: ImportFormatOption = "auto",
    layer: ImportLayerOption = GROUND_TRUTH,
    images: ImagesOption = None,
    split: SplitOption = None,
    classes: ClassesOption = None,
    fps: FpsOption = None,
    variant: ImportVariantOption = None,
    strict: StrictOption = False,
    json: JsonOption = False,
) -> None:
    """Import a file, folder, archive or project into a dataset (made if new). Importing again updates; nothing is doubled."""
    from curate.connectors.addresses import is_address
    from curate.errors import UsageError

    if source.startswith(_FIFTYONE):
        _import_fiftyone(dataset, source, layer=layer, split=split, strict=strict, json=json)
        return
    if source.startswith(_HARVEST):
        given = {
            "--format": format != "auto",
            "--layer": layer != GROUND_TRUTH,
            "--images": images,
            "--classes": classes,
        }
        _refuse_for_harvest({**given, "--fps": fps, "--variant": variant})
        _import_harvest(dataset, source, split=split, strict=strict, json=json)
        return
    if is_address(source):
        pull_one(dataset, source, prefer=None, create=True, strict=strict, json=json)
        return
    from curate.formats.base import ReadOptions
    from curate.formats.importing import import_source

    if fps is not None and not 0 < fps < float("inf"):
        raise UsageError(f"{fps:g} frames a second cannot be taken", where="--fps", remedy="a number above 0")
    if classes is not None and not classes.is_file():
        raise UsageError("there is no such file", where=classes, remedy="check --classes")
    options = ReadOptions(layer=layer, images=images, split=split, classes=classes, fps=fps, variant=variant)
    with late_progress("unpacking, kB") as report:
        result = import_source(
            dataset,
            Path(source),
            format=format,
            options=options,
            strict=strict,
            command=command_line(),
            unpacking=lambda done, total: report(done // 1000, total // 1000),
        )
    if json:
        print_json(import_json(dataset, result))
        return
    print_import(dataset, Path(source), result)


def _import_fiftyone(dataset: str, source: str, *, layer: str, split: str | None, strict: bool, json: bool) -> None:
    from curate.connectors.fiftyone.transfer import import_fiftyone
    from curate.formats.base import ReadOptions

    options = ReadOptions(layer=layer, split=split)
    result = import_fiftyone(dataset, source, options=options, strict=strict, command=command_line())
    if json:
        print_json(import_json(dataset, result))
    else:
        print_import(dataset, Path(source), result)


def _import_harvest(dataset: str, source: str, *, split: str | None, strict: bool, json: bool) -> None:
    from curate.edge.harvest.importing import import_harvest
    from curate.formats.base import ReadOptions

    options = ReadOptions(split=split)
    with late_progress("comparing with the dataset") as report:
        result = import_harvest(
            dataset, source, options=options, strict=strict, command=command_line(), progress=report
        )
    if json:
        print_json(import_json(dataset, result))
    else:
        print_import(dataset, Path(source), result)


def _refuse_for_harvest(options: dict[str, object]) -> None:
    """Options that a harvest answers itself."""
    from curate.errors import UsageError

    given = [name for name, value in options.items() if value]
    if given:
        raise UsageError(
            "a harvest says this itself",
            where=", ".join(given),
            remedy="leave it out; predictions go to predictions/PACKAGE",
        )


def import_json(dataset: str, result: ImportResult) -> dict[str, Any]:
    """What an import read, what it lost, and what it changed, JSON-ready."""
    return {
        "dataset": dataset,
        "format": result.format,
        "reason": result.detection.reason if result.detection else None,
        "changes": result.counts,
        "commit": result.commit,
        "kept_from_other_files": result.kept,
        "unread": [asdict(each) for each in result.unread],
        **result.losses.to_json(),
    }


def print_import(dataset: str, source: Path, result: ImportResult) -> None:
    """What an import read, what it lost, and what it changed, for a person."""
    from curate.report.terminal import print_losses
    from curate.wording import counted

    why = f" ({result.detection.reason})" if result.detection else ""
    note(f"read as {result.format}{why}")
    folder = source.expanduser().absolute()
    print_losses(result.losses, folder=folder if folder.is_dir() else folder.parent, unread=result.unread)
    if result.kept:
        kept = ", ".join(f"{count:,} from {file}" for file, count in result.kept.items())
        note(f"the same images keep annotations from other files: {kept}")
    changes = ", ".join(counted(count, what) for what, count in result.counts.items())
    note(f"{dataset}: commit {result.commit}: {changes}" if changes else f"{dataset}: nothing new; no commit was made")


TargetArgument = Annotated[
    str,
    typer.Argument(
        help=f"Folder to make; or archive, named {_ARCHIVES}; or a FiftyOne dataset to make: fiftyone://NAME.",
        metavar="TARGET",
        show_default=False,
    ),
]
ExportFormatOption = Annotated[
    str | None,
    typer.Option(
        "--format", "-f", help="See 'curate formats'; needed for files.", metavar="FORMAT", show_default=False
    ),
]
ExportLayerOption = Annotated[
    str,
    typer.Option(
        "--layer",
        help="Layer of the annotations: ground_truth, predictions/NAME, or all where the format can hold them.",
        metavar="LAYER",
    ),
]
CopyOption = Annotated[bool, typer.Option("--copy", help="Copy the images into the target.")]
LinkOption = Annotated[
    bool,
    typer.Option(
        "--link",
        help="Link the images into the target. They are the same files then: changing one there in place changes the "
        "original.",
    ),
]
ExportVariantOption = Annotated[
    str | None,
    typer.Option(
        "--variant",
        help="YOLO: detect, segment, obb, pose or classify. COCO: results. CVAT: video.",
        metavar="NAME",
    ),
]


def export(
    target: TargetArgument,
    dataset: DatasetOption,
    format: ExportFormatOption = None,
    layer: ExportLayerOption = GROUND_TRUTH,
    where: WhereOption = None,
    copy: CopyOption = False,
    link: LinkOption = False,
    variant: ExportVariantOption = None,
    strict: StrictOption = False,
    json: JsonOption = False,
) -> None:
    """Export a dataset, or the images a condition chooses. The target must not exist, and appears whole or not at all."""
    from curate.errors import UsageError
    from curate.formats.base import WriteOptions
    from curate.formats.exporting import export_dataset
    from curate.report.terminal import print_losses

    if copy and link:
        raise UsageError("--copy and --link exclude each other", remedy="choose one")
    if target.startswith(_FIFTYONE):
        _refuse_for_fiftyone({"--format": format, "--copy": copy, "--link": link, "--variant": variant})
        from curate.connectors.fiftyone.transfer import export_fiftyone

        with late_progress("samples") as report:
            losses = export_fiftyone(dataset, target, layer=layer, where=where, strict=strict, progress=report)
    elif format is None:
        raise UsageError("which format?", where="--format", remedy="'curate formats' lists them")
    else:
        options = WriteOptions(images="copy" if copy else "link" if link else "none", variant=variant)
        losses = export_dataset(
            dataset, Path(target), format=format, layer=layer, where=where, options=options, strict=strict
        )
    if json:
        print_json({"dataset": dataset, "target": target, "format": format or "fiftyone", **losses.to_json()})
        return
    print_losses(losses)
    note(f"wrote {target}")


def _refuse_for_fiftyone(options: dict[str, object]) -> None:
    """Options that are for files only."""
    from curate.errors import UsageError

    given = [name for name, value in options.items() if value]
    if given:
        raise UsageError("this is for files", where=", ".join(given), remedy="leave it out for a FiftyOne dataset")
