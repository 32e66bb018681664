"""The dataset in FiftyOne's database that shows one of curate's, and what it says of itself.

Which commit it shows, which field is for what, and which tables its map and its similarity index were made of is kept in its
`info`. Each sample says which commit it was made from and when: one that was modified at another time was changed in the App.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from importlib import import_module
from typing import Any, Final

from curate.connectors.fiftyone.labels import MARK, Document
from curate.connectors.fiftyone.layout import OWN, Layout
from curate.connectors.fiftyone.samples import stamp
from curate.dataset import Dataset
from curate.errors import UsageError

_STATE: Final = "curate"
_FORMAT: Final = 1
_MANY: Final = 5_000
"""Ids in one question to the database."""


@dataclass(frozen=True)
class State:
    """What a FiftyOne dataset shows.

    Attributes:
        path: Folder of curate's dataset.
        commit: The commit; 0 as long as it is not complete.
        time: When that commit was made: another dataset of the same name has another.
        layout: Which field is for what.
        runs: Table and its version by the brain run that was made of it.
        views: Versions of the tables that the views' copies of findings were made of.
    """

    path: str
    commit: int = 0
    time: str = ""
    layout: Layout = field(default_factory=Layout)
    runs: dict[str, list[Any]] = field(default_factory=dict)
    views: tuple[int | None, ...] = ()


@dataclass(frozen=True)
class Target:
    """A FiftyOne dataset, and its samples in the database.

    Attributes:
        fiftyone: The package.
        dataset: FiftyOne's dataset.
        samples: The collection of its samples.
        make_id: Makes the database's id from 24 hexadecimal digits.
    """

    fiftyone: Any
    dataset: Any
    samples: Any
    make_id: Callable[[str], Any]

    def state(self) -> State | None:
        """What it shows; None if it is not curate's."""
        said = self.dataset.info.get(_STATE)
        if not isinstance(said, dict) or said.get("format") != _FORMAT:
            return None
        layout, views = Layout.from_json(said["fields"]), tuple(said.get("views", ()))
        return State(said["path"], said["commit"], said["time"], layout, dict(said["runs"]), views)

    def write_state(self, state: State) -> None:
        """Say what it shows."""
        said = {"format": _FORMAT, "path": state.path, "commit": state.commit, "time": state.time}
        said |= {"fields": state.layout.to_json(), "runs": state.runs, "views": list(state.views)}
        self.dataset.info = {**self.dataset.info, _STATE: said}
        self.dataset.save()

    def insert(self, documents: Sequence[Document], *, own: bool = True) -> None:
        """Add samples.

        Args:
            documents: From `curate.connectors.fiftyone.samples`.
            own: Whether they show a dataset of curate's, and are to be known for unchanged.
        """
        now = stamp()
        for document in documents:
            document |= {"_dataset_id": self.dataset._doc.id, "created_at": now, "last_modified_at": now}
            if own:
                document[OWN] = {**document[OWN], "synced_at": now}
        if documents:
            self.samples.insert_many(documents, ordered=False)

    def update(self, documents: Iterable[Document], seen: dict[Any, datetime]) -> int:
        """Bring samples up to date that nobody has changed since they were last looked at.

        Args:
            documents: As they should be.
            seen: When each was modified, as far as its changes have been taken over, by id.

        Returns:
            How many there were to update.
        """
        pymongo = import_module("pymongo")
        now = stamp()
        requests = []
        for document in documents:
            document |= {"last_modified_at": now, OWN: {**document[OWN], "synced_at": now}}
            id_ = document.pop("_id")
            document.pop("_rand")
            requests.append(pymongo.UpdateOne({"_id": id_, "last_modified_at": seen[id_]}, {"$set": document}))
        if requests:
            self.samples.bulk_write(requests, ordered=False)
        return len(requests)

    def acknowledge(self, documents: Iterable[Document], seen: dict[Any, datetime]) -> None:
        """Note of samples that they are as they should be, without a change that a page which shows them would stumble over.

        Args:
            documents: As they should be, and are.
            seen: When each was modified, by id.
        """
        pymongo = import_module("pymongo")
        requests = []
        for document in documents:
            when = seen[document["_id"]]
            own = {**document[OWN], "synced_at": when}
            requests.append(pymongo.UpdateOne({"_id": document["_id"], "last_modified_at": when}, {"$set": {OWN: own}}))
        if requests:
            self.samples.bulk_write(requests, ordered=False)

    def count(self) -> int:
        """How many samples there are, by the database's books: quick, whatever their number."""
        return int(self.samples.estimated_document_count())

    def missing(self, shown: Dataset) -> dict[str, str]:
        """Images of the commit that is shown whose samples somebody has deleted: locations by id."""
        first, last = (self.make_id(MARK + digit * 16) for digit in "0f")
        if self.samples.count_documents({"_id": {"$gte": first, "$lte": last}}) == shown.count("images"):
            return {}
        there = {str(each["_id"]) for each in self.samples.find({}, {"_id": 1})}
        rows = shown.table("images", columns=["image_id", "location"])
        pairs = zip(rows["image_id"].to_pylist(), rows["location"].to_pylist(), strict=True)
        return {image_id: location for image_id, location in pairs if MARK + image_id not in there}

    def delete(self, image_ids: Iterable[str]) -> None:
        """Take the samples of images away."""
        ids = [self.make_id(MARK + each) for each in image_ids]
        for start in range(0, len(ids), _MANY):
            self.samples.delete_many({"_id": {"$in": ids[start : start + _MANY]}})

    def modified(self, image_ids: Sequence[str]) -> dict[Any, tuple[datetime, bool]]:
        """When each of some images' samples was last modified, and whether that was in the App, by id."""
        ids = [self.make_id(MARK + each) for each in image_ids]
        wanted = {"last_modified_at": 1, f"{OWN}.synced_at": 1}
        found: dict[Any, tuple[datetime, bool]] = {}
        for start in range(0, len(ids), _MANY):
            for document in self.samples.find({"_id": {"$in": ids[start : start + _MANY]}}, wanted):
                when = document["last_modified_at"]
                found[document["_id"]] = (when, when != (document.get(OWN) or {}).get("synced_at"))
        return found

    def changed(self, since: datetime | None = None) -> list[Document]:
        """Samples that were changed in the App and not looked at yet.

        Args:
            since: Only those modified after this time, which is quick; None for all.
        """
        differ: dict[str, Any] = {"$expr": {"$ne": ["$last_modified_at", f"${OWN}.synced_at"]}}
        recent = {} if since is None else {"last_modified_at": {"$gt": since}}
        return list(self.samples.find({**recent, **differ}))


def find_target(fiftyone: Any, dataset: Dataset) -> Target | None:
    """The FiftyOne dataset that shows a dataset, if there is one.

    Raises:
        UsageError: There is one of that name that is not curate's, or shows another dataset.
    """
    if not fiftyone.dataset_exists(dataset.name):
        return None
    target = open_target(fiftyone, fiftyone.load_dataset(dataset.name))
    state = target.state()
    if state is None or state.path != str(dataset.path):
        whose = "is not curate's" if state is None else f"shows the one in {state.path}"
        raise UsageError(
            f"FiftyOne has a dataset named '{dataset.name}' already, which {whose}",
            remedy="rename or delete that one, or unset FIFTYONE_DATABASE_URI for a database of curate's own",
        )
    return target


def new_target(fiftyone: Any, dataset: Dataset, layout: Layout) -> Target:
    """A new FiftyOne dataset, without samples, that is to show a dataset."""
    made = fiftyone.Dataset(dataset.name, persistent=True)
    made.media_type = "image"
    target = open_target(fiftyone, made)
    target.write_state(State(str(dataset.path), layout=layout))
    return target


def open_target(fiftyone: Any, made: Any) -> Target:
    """The samples of a FiftyOne dataset."""
    odm, bson = import_module("fiftyone.core.odm"), import_module("bson")
    return Target(fiftyone, made, odm.get_db_conn()[made._sample_collection_name], bson.ObjectId)


def shows(state: State, dataset: Dataset) -> State:
    """The state of a FiftyOne dataset that shows a commit."""
    return replace(state, commit=dataset.commit.number, time=dataset.commit.time)
