"""Views in which labels are cut out, one by one: FiftyOne keeps a copy of each label for them, in a collection of the view's own.

A tag under 'Patches' is put on the copy alone. Where it decides on findings, it is moved to the label, as if it had been typed
under 'Labels'; from there it is taken over like any other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from curate.connectors.fiftyone.edits import DECISIONS, is_decision
from curate.connectors.fiftyone.labels import Document, unmark
from curate.connectors.fiftyone.layout import FINDINGS, IMAGE_FINDINGS, Layout
from curate.connectors.fiftyone.marks import label_tags
from curate.connectors.fiftyone.samples import stamp
from curate.connectors.fiftyone.target import Target
from curate.dataset import Dataset
from curate.formats.losses import LossReport

_COPIES: Final = "patches."
"""How the names of such collections begin."""

_DECIDES: Final = {"$regex": rf"^\s*({'|'.join(DECISIONS)})\s*(:|$)", "$options": "i"}


def move_decisions(target: Target, layout: Layout, since: datetime | None, losses: LossReport) -> None:
    """Move decisions from copies to the labels that they are about.

    Args:
        target: The FiftyOne dataset.
        layout: Fields of its layers.
        since: Only those made after this time, which is quick; None for all.
        losses: Gets what cannot be told whose it is.
    """
    recent = {} if since is None else {"last_modified_at": {"$gt": since}}
    for copies, is_ours in _collections(target):
        for copy in list(copies.find({**recent, "tags": _DECIDES})):
            _move(target, layout, copies, copy, losses, is_ours=is_ours)


def show_statuses(target: Target, dataset: Dataset) -> None:
    """Bring the copies of findings up to what became of them: the views of curate's show those that nobody has settled."""
    table = dataset.table("findings", columns=["id", "status"])
    statuses = dict(zip(table["id"].to_pylist(), table["status"].to_pylist(), strict=True))
    for copies, is_ours in _collections(target):
        if is_ours:
            changed: dict[str | None, list[Any]] = {}
            for copy in copies.find({f"{FINDINGS}._cls": "Detection"}, {f"{FINDINGS}.status": 1}):
                status = statuses.get(unmark(copy["_id"]) or "")
                if status != copy[FINDINGS].get("status"):
                    changed.setdefault(status, []).append(copy["_id"])
            for status, ids in changed.items():
                _show_status(copies, ids, status)


def drop_copies(target: Target, names: Iterable[str]) -> None:
    """Delete the copies of a view that is no more, unless another saved view shows them too. FiftyOne leaves them there."""
    for name in set(names) - _owners(target).keys():
        if target.fiftyone.dataset_exists(name):
            target.fiftyone.delete_dataset(name)


def copied_to(stages: Iterable[str]) -> dict[str, str]:
    """By the name of the copies that a view shows, the id of the dataset that they are of.

    Args:
        stages: The view's, as they are saved.
    """
    owners = {}
    for text in stages:
        state = dict(json.loads(text)["kwargs"]).get("_state")
        if isinstance(state, dict) and {"name", "dataset_id"} <= state.keys():
            owners[state["name"]] = state["dataset_id"]
    return owners


def _show_status(copies: Any, ids: list[Any], status: str | None) -> None:
    chosen = {"_id": {"$in": ids}}
    if status is None:  # a finding that is no more
        copies.delete_many(chosen)
        return
    now = {f"{FINDINGS}.status": status, f"{FINDINGS}.tags": label_tags(status), "last_modified_at": stamp()}
    copies.update_many(chosen, {"$set": now})


def _collections(target: Target) -> Iterator[tuple[Any, bool]]:
    """Collections that may have copies of a dataset's labels, and whether a saved view of the dataset says that they do.

    A view that nobody has saved is known to the page alone that shows it.
    """
    database = target.samples.database
    owners = _owners(target)
    mine = str(target.dataset._doc.id)
    wanted = {"sample_collection_name": {"$regex": f"^{_COPIES}"}}
    for found in database["datasets"].find(wanted, {"name": 1, "sample_collection_name": 1}):
        if owners.get(found["name"], mine) == mine:
            yield database[found["sample_collection_name"]], found["name"] in owners


def _owners(target: Target) -> dict[str, str]:
    """The datasets of all copies that saved views show: ids by name of the copies."""
    views = target.samples.database["views"].find({}, {"view_stages": 1})
    return copied_to(stage for view in views for stage in view["view_stages"])


def _move(target: Target, layout: Layout, copies: Any, copy: Document, losses: LossReport, *, is_ours: bool) -> None:
    """Move the decisions of one copy, if it is of this dataset."""
    sample = target.samples.find_one({"_id": copy["_sample_id"], "filepath": copy["filepath"]}, {"tags": 1})
    if sample is None:
        return
    # A copy has the image's own tags too, and one of these may be such a word.
    tags = [tag for tag in copy["tags"] if is_decision(tag) and tag not in (sample.get("tags") or ())]
    path = _path(layout, copy)
    if not tags or path is None:
        return
    now = stamp()
    if is_ours or not _is_shown_elsewhere(target, copy):
        target.samples.update_one(
            {"_id": copy["_sample_id"], f"{path}._id": copy["_id"]},
            {"$addToSet": {f"{path}.$.tags": {"$each": tags}}, "$set": {"last_modified_at": now}},
        )
    else:
        reason = "under 'Patches', on an image that several datasets of this database show; use the tab 'Labels'"
        losses.dropped("decisions", reason, copy["filepath"])
    label = path.partition(".")[0]
    done = {
        "$pullAll": {"tags": tags},
        "$addToSet": {f"{label}.tags": {"$each": tags}},
        "$set": {"last_modified_at": now},
    }
    copies.update_one({"_id": copy["_id"]}, done)


def _path(layout: Layout, copy: Mapping[str, Any]) -> str | None:
    """Where the sample has the label that a copy is of; None where that is no field of curate's."""
    families = {FINDINGS: "detections", IMAGE_FINDINGS: "classifications"}
    families |= {name: family for name, (_, family) in layout.fields.items()}
    for name, family in families.items():
        label = copy.get(name)
        if isinstance(label, dict) and label.get("_id") == copy["_id"]:
            return f"{name}.{family}"
    return None


def _is_shown_elsewhere(target: Target, copy: Document) -> bool:
    """Whether another dataset has the same sample: ids are made of locations, and are alike where the images are."""
    database = target.samples.database
    wanted = {"_id": copy["_sample_id"], "filepath": copy["filepath"]}
    names = database["datasets"].distinct("sample_collection_name", {"_id": {"$ne": target.dataset._doc.id}})
    others = (name for name in names if not name.startswith(_COPIES))
    return any(database[name].find_one(wanted, {"_id": 1}) is not None for name in others)
