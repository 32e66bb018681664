"""What a labelling service is to the rest of curate.

A service knows **items** (one image each: a Label Studio task, a frame of a CVAT task, a Roboflow image) with annotations on
them. A connector turns them into curate's rows and back, and nothing else: which side changed, what conflicts and what is
already there is decided in `curate.connectors.sync`, alike for all services.

A connector is a class that keeps to `Connector`, and one line in `curate.connectors.registry`; a third party adds its own by
an entry point in the group ``curate.connectors``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from curate.checks.findings import Finding
from curate.connectors.addresses import Address
from curate.formats.base import ClassInfo
from curate.formats.losses import LossReport
from curate.names import GROUND_TRUTH

Row: TypeAlias = dict[str, Any]
"""One annotation with the columns of `curate.dataset.schema.ANNOTATIONS`, as `pyarrow.Table.to_pylist` gives it, but with
``attributes`` as a dictionary. Pixels, after EXIF orientation."""

Progress: TypeAlias = Callable[[int, int], None]
"""Called with how many are done, and how many there are."""


@dataclass(frozen=True)
class RemoteAnnotation:
    """One labelled thing on the server.

    Attributes:
        remote_id: What it is known by on its item for good ('shape:17'; '4:x7Ab' for a region of Label Studio's).
        row: What it says. The columns annotation_id, image_id, source and source_id are filled in by `sync`.
        layer: `GROUND_TRUTH` for what holds; 'annotators/NAME' for one of several annotators' own version;
            'predictions/MODEL' for what a model says there.
        annotation_id: curate's own id, where the server still carries it; None for what was drawn there.
    """

    remote_id: str
    row: Row
    layer: str = GROUND_TRUTH
    annotation_id: str | None = None


@dataclass(frozen=True)
class Item:
    """One image on the server, with everything that is said of it.

    Attributes:
        remote_id: The item's id.
        location: Name of the image there, with forward slashes.
        version: Changes whenever anything of the item does; as far as the service tells.
        annotations: All of them, of all layers; None in a listing that did not ask for them.
        image_id: curate's own id, where the server carries it (curate pushed it).
        size: Width and height after EXIF orientation, where the service tells.
        content_hash: Of the file's bytes, where the server carries it (`curate.connectors.sync.images.content_hash`).
        work: Changes whenever a person hands in work on the item, changed or not; empty as long as nobody did.
        resolved: Ids of the findings shown on it that a person has settled.
        unlabelled: Whether it lost all its work there (skipped, or the only annotation deleted): nothing was handed in, and
            what is here stays.
        split: As the service says.
        tags: The same.
        group: Video, burst or source it belongs to.
        frame: Its place in the group.
        metadata: What has no column, JSON-ready: task, job, assignee, stage, state.
    """

    remote_id: str
    location: str
    version: str
    annotations: Sequence[RemoteAnnotation] | None = None
    image_id: str | None = None
    size: tuple[int, int] | None = None
    content_hash: str | None = None
    work: str = ""
    resolved: frozenset[str] = frozenset()
    unlabelled: bool = False
    split: str | None = None
    tags: Sequence[str] | None = None
    group: str | None = None
    frame: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Project:
    """What a server says of a project.

    Attributes:
        address: Where it is; of a project that was just made, with its id.
        title: For people.
        classes: Its labels.
        details: Whatever else is worth showing in `status`, JSON-ready: counts of items by state, annotators.
    """

    address: Address
    title: str
    classes: Sequence[ClassInfo] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ProjectSpec:
    """A project to make, or to make fit.

    Attributes:
        marker: Text that curate finds the project again by, after a lost reply: unique to dataset and purpose.
        title: For people.
        classes: Its labels, with colors and keypoints.
        types: Kinds of annotation that must fit in ('box', 'polygon', 'mask' ...; `schema.AnnotationType`).
        labels: Classes by the kind of annotation that they are used with in what is sent.
        attributes: Values seen of each attribute, by class and name; one that is there often, three times.
    """

    marker: str
    title: str
    classes: Sequence[ClassInfo]
    types: frozenset[str]
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    attributes: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Note:
    """A finding, for an annotator to see where they work.

    Attributes:
        finding: The finding.
        text: It in one sentence, with what to do.
        remote_annotation_id: The annotation that it is about, as the server knows it; None for the image, or for one that
            is not there.
    """

    finding: Finding
    text: str
    remote_annotation_id: str | None = None


@dataclass(frozen=True)
class NewItem:
    """An image to be put on the server.

    Attributes:
        image_id: curate's own id: the server must carry it, so that it is found again.
        location: Name for it.
        path: Its file.
        size: Width and height after EXIF orientation.
        content_hash: Of the file's bytes.
        rows: Its annotations, which become editable ones; their annotation_id must be carried where it can be.
        predictions: A model's, which become predictions where the service has them.
        notes: Findings on it.
        priority: Its score, in [0, 1]: the highest is worked on first.
        split: The image's; None for none.
        tags: The same.
        group: Video, burst or source it belongs to.
        frame: Its place in the group.
        metadata: The image's, JSON-ready.
    """

    image_id: str
    location: str
    path: Path
    size: tuple[int, int]
    content_hash: str
    rows: Sequence[Row] = ()
    predictions: Sequence[Row] = ()
    notes: Sequence[Note] = ()
    priority: float = 0.0
    split: str | None = None
    tags: Sequence[str] | None = None
    group: str | None = None
    frame: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """What to change of an item that is on the server, in place.

    Attributes:
        item: As it is there now, with its annotations.
        image_id: Its image.
        size: Width and height of that.
        created: Rows that are new.
        updated: Rows by the remote id of the annotation that they replace.
        deleted: Remote ids of annotations to take away.
        notes: Findings to show.
        priority: Its score, in [0, 1]; None to leave it.
    """

    item: Item
    image_id: str
    size: tuple[int, int] | None
    created: Sequence[Row] = ()
    updated: Mapping[str, Row] = field(default_factory=dict)
    deleted: Sequence[str] = ()
    notes: Sequence[Note] = ()
    priority: float | None = None


class Connector(Protocol):
    """A project on a server. Every method may be called again after it failed, and doubles nothing.

    Every method raises `UnavailableError` (the server cannot be reached, even after retries; the token is refused) or
    `InputError` (the server refuses what it is told).
    """

    address: Address
    """The project's address; without a path until `ensure_project` has made one."""

    def project(self) -> Project:
        """What the server says of the project. Reads only."""
        ...

    def ensure_project(self, spec: ProjectSpec, losses: LossReport) -> Project:
        """Make the project, or find it by its marker, or add what it lacks (labels) where the address names one."""
        ...

    def items(
        self, *, unless: Mapping[str, str], losses: LossReport, progress: Progress | None = None
    ) -> Iterator[Item]:
        """Every item, in a lasting order.

        Args:
            unless: Versions that are known, by remote id: an item that still has its version may come without annotations
                (None), so that only what changed is moved.
            losses: What cannot be read.
            progress: Told (done, total).
        """
        ...

    def download(self, item: Item) -> bytes:
        """The image's bytes, as they were uploaded where the service keeps them so."""
        ...

    def create(self, items: Sequence[NewItem], *, losses: LossReport, progress: Progress | None = None) -> None:
        """Put images on the server, in batches. Callers have made sure that none of them is there.

        What was made is told by the next `items`. A batch whose reply was lost is looked for, not sent again blindly.
        """
        ...

    def change(
        self, changes: Sequence[Change], *, losses: LossReport, progress: Progress | None = None
    ) -> Collection[str]:
        """Change items in place.

        Returns:
            Ids of the images that were left alone, since their items had changed meanwhile or are being worked on.
        """
        ...

    def link_of(self, item: Item) -> str:
        """Address of the item in a browser."""
        ...


@dataclass(frozen=True)
class ConnectorSpec:
    """A service's entry in the registry.

    Attributes:
        name: The scheme of its addresses.
        token: Environment variable of its token.
        connect: Makes the connector for an address; asks the server nothing yet. Raises `UsageError` where the address is
            not one of this service's, `MissingExtra` where its package is missing, `UnavailableError` without a token.
        example: An address, for help texts.
        login: What to say to a person who looks for their token.
    """

    name: str
    token: str
    connect: Callable[[Address], Connector]
    example: str
    login: str
