"""A version of a project: an export that never changes, downloaded once and read as the COCO dataset that it is.

Several copies of one image, turned and coloured, are each an item; their group is the image that they were made from. They
are images of their own: the ids that curate gave to the project's images are not theirs.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from curate.connectors.addresses import Address
from curate.connectors.base import Item, Progress, RemoteAnnotation, Row
from curate.connectors.http import TRIES
from curate.connectors.roboflow.api import Api
from curate.connectors.roboflow.downloads import Downloads
from curate.dataset.schema import ANNOTATIONS
from curate.errors import FormatError, InputError, UnavailableError, UsageError
from curate.formats import coco, imagefolder
from curate.formats.archives import unpack
from curate.formats.base import Format, ReadOptions
from curate.formats.losses import LossReport
from curate.formats.roboflow_names import group_by_source
from curate.formats.values import text

_LONGEST_WAIT: Final = 1800.0
_LONGEST_PAUSE: Final = 10.0
_ROWS: Final = 1000
_FORMATS: Final[Mapping[str, tuple[str, Format]]] = {
    "object-detection": ("coco", coco.FORMAT),
    "keypoint-detection": ("coco", coco.FORMAT),
    "instance-segmentation": ("coco-segmentation", coco.FORMAT),
    "semantic-segmentation": ("coco-segmentation", coco.FORMAT),
    "classification": ("folder", imagefolder.FORMAT),
    "single-label-classification": ("folder", imagefolder.FORMAT),
}


class Version:
    """A version, downloaded when it is first asked for; the files last as long as the object.

    Args:
        api: The workspace.
        downloads: Fetches the export.
        address: The version's, for errors.
        project: Its project.
        name: Its number.
        longest_wait: Seconds that the service may take to make the export.
    """

    def __init__(
        self,
        api: Api,
        downloads: Downloads,
        address: Address,
        project: str,
        name: str,
        *,
        longest_wait: float = _LONGEST_WAIT,
    ) -> None:
        self.name = name
        self.longest_wait = longest_wait
        self._api = api
        self._downloads = downloads
        self._address = address
        self._project = project

    def items(self, unless: Mapping[str, str], losses: LossReport, progress: Progress | None) -> Iterator[Item]:
        """Every image with its annotations, in the export's order."""
        images, annotations, found = self._read
        losses.include(found.losses)
        rows, starts = _by_image(annotations)
        done = 0
        for batch in images.to_batches(max_chunksize=_ROWS):
            for image in batch.to_pylist():
                done += 1
                is_known = unless.get(image["location"]) == self.name
                own = rows.slice(*starts.get(image["image_id"], (0, 0)))
                yield _item(image, None if is_known else _annotations(own), self.name)
                if progress is not None:
                    progress(done, images.num_rows)

    def content(self, item: Item) -> bytes:
        """The bytes of an item's file."""
        path = self._paths.get(item.location)
        if path is None:
            raise InputError("the export has no such image", where=f"{self._address}: {item.location}")
        return Path(path).read_bytes()

    @cached_property
    def _read(self) -> tuple[pa.Table, pa.Table, LossReport]:
        """Images and annotations of the export, and what is lost of it."""
        losses = LossReport()
        _, reader = self._format
        records = reader.read(unpack(self._archive, self._folder / "export", losses), ReadOptions(), losses)
        annotations = pa.concat_tables([ANNOTATIONS.empty_table(), *records.annotations])
        losses.rename_places(str(self._folder), str(self._address))
        return group_by_source(records.images), annotations, losses

    @cached_property
    def _paths(self) -> dict[str, str]:
        images, _, _ = self._read
        return dict(zip(images["location"].to_pylist(), images["path"].to_pylist(), strict=True))

    @cached_property
    def _folder(self) -> Path:
        folder = tempfile.mkdtemp(prefix="curate-roboflow-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)

    @cached_property
    def _format(self) -> tuple[str, Format]:
        """What to ask for, and what reads it."""
        said = self._api.project(self._project)
        kind = text(said.get("type"))
        if kind not in _FORMATS or said.get("multilabel"):
            raise UsageError(
                f"versions of {kind or 'unknown'} projects cannot be read",
                where=self._address,
                remedy="give the project's address, without the version",
            )
        return _FORMATS[kind]

    @cached_property
    def _archive(self) -> Path:
        """The export, whole: what is cut off is fetched again."""
        kind, _ = self._format
        link = self._link(kind)
        path = self._folder / "roboflow.zip"
        for attempt in range(1, TRIES + 1):
            self._downloads.save(link, path)
            try:
                unpack(path, self._folder / "export", LossReport())
            except FormatError as error:
                if attempt == TRIES:
                    raise UnavailableError(
                        f"the export is no whole archive: {error.what}",
                        where=self._address,
                        remedy="run the command again later",
                    ) from None
                time.sleep(self._api.pause * 2**attempt)
            else:
                break
        return path

    def _link(self, kind: str) -> str:
        """Address of the export, once the service has made the version and the export."""
        deadline = time.monotonic() + self.longest_wait
        pause = self._api.pause
        while True:
            version = self._api.version(self._project, self.name)
            link = None if version.get("generating") else self._api.export(self._project, self.name, kind)
            if link:
                return link
            if time.monotonic() + pause > deadline:
                raise UnavailableError(
                    f"the service has not made the export in {self.longest_wait:.0f} s",
                    where=self._address,
                    remedy="run the command again later: it goes on making it",
                )
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)


def _by_image(annotations: pa.Table) -> tuple[pa.Table, dict[str, tuple[int, int]]]:
    """Annotations ordered by image, and where each image's are: start and length."""
    ordered = annotations.take(pc.sort_indices(annotations["image_id"])).combine_chunks()
    counts = ordered.group_by("image_id", use_threads=False).aggregate([([], "count_all")])
    starts: dict[str, tuple[int, int]] = {}
    start = 0
    for image, count in zip(counts["image_id"].to_pylist(), counts["count_all"].to_pylist(), strict=True):
        starts[image] = (start, count)
        start += count
    return ordered, starts


def _annotations(rows: pa.Table) -> list[RemoteAnnotation]:
    return [
        RemoteAnnotation(str(row["source_id"] or row["annotation_id"]), _with_attributes(row))
        for row in rows.to_pylist()
    ]


def _with_attributes(row: Row) -> Row:
    return {**row, "attributes": json.loads(row["attributes"]) if row["attributes"] else {}}


def _item(image: Mapping[str, Any], annotations: list[RemoteAnnotation] | None, version: str) -> Item:
    size = (image["width"], image["height"]) if image["width"] and image["height"] else None
    return Item(
        remote_id=image["location"],
        location=image["location"],
        version=version,
        annotations=annotations,
        size=size,
        split=image["split"],
        tags=image["tags"],
        group=image["group"],
        frame=image["frame"],
        metadata=json.loads(image["metadata"]) if image["metadata"] else {},
    )
