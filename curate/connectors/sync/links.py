"""The table `links`: which image, annotation and finding is which on a server, and what both were when they last agreed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from curate.connectors.sync.merge import Link
from curate.dataset import Transaction
from curate.dataset.query import quote
from curate.dataset.schema import LINKS


@dataclass(frozen=True)
class ItemLink:
    """An image that both sides have.

    Attributes:
        image_id: Its id here.
        version: The item's when both last agreed; empty if it must be looked at again, changed or not.
        work: What people had handed in on it by then.
    """

    image_id: str
    version: str
    work: str


@dataclass(frozen=True)
class FindingLink:
    """A finding that was pushed.

    Attributes:
        finding_id: Its id.
        about: Digest of what it is about, as it was pushed (`curate.connectors.sync.verdicts`).
        work: What people had handed in on the item by then.
    """

    finding_id: str
    about: str
    work: str


@dataclass
class Links:
    """All links with one project.

    Attributes:
        remote: Its address.
        items: By the item's id there.
        annotations: By the item's id.
        findings: By the item's id.
    """

    remote: str
    items: dict[str, ItemLink] = field(default_factory=dict)
    annotations: dict[str, list[Link]] = field(default_factory=dict)
    findings: dict[str, list[FindingLink]] = field(default_factory=dict)

    def item_of(self) -> dict[str, str]:
        """Ids of items by those of their images."""
        return {link.image_id: item for item, link in self.items.items()}

    def forget(self, item: str) -> None:
        """Take away what is known of an item that is no longer there."""
        self.items.pop(item, None)
        self.annotations.pop(item, None)
        self.findings.pop(item, None)


def read_links(transaction: Transaction, remote: str) -> Links:
    """The links with a project."""
    links = Links(remote)
    for row in transaction.read("links", where=f"remote = {quote(remote)}").to_pylist():
        if row["kind"] == "image":
            links.items[row["remote_id"]] = ItemLink(row["local_id"], row["remote_digest"] or "", row["work"] or "")
        elif row["kind"] == "annotation":
            link = Link(row["local_id"], row["remote_id"], row["local_digest"], json.loads(row["remote_digest"]))
            links.annotations.setdefault(row["item"], []).append(link)
        elif row["kind"] == "finding":
            finding = FindingLink(row["local_id"], row["local_digest"], row["work"] or "")
            links.findings.setdefault(row["remote_id"], []).append(finding)
    return links


def write_links(transaction: Transaction, links: Links) -> None:
    """Replace the links with a project by these, if they differ."""
    condition = f"remote = {quote(links.remote)}"
    now = pa.Table.from_pylist(list(_rows(links)), schema=LINKS)
    keys = [(name, "ascending") for name in ("kind", "local_id", "remote_id")]
    before = transaction.read("links", where=condition)
    if now.sort_by(keys).equals(before.sort_by(keys)):
        return
    others = transaction.read("links", where=f"NOT ({condition})")
    transaction.overwrite("links", [others, now])


def _rows(links: Links) -> Iterator[dict[str, Any]]:
    for item, link in links.items.items():
        yield {
            "remote": links.remote,
            "kind": "image",
            "local_id": link.image_id,
            "remote_id": item,
            "remote_digest": link.version,
            "work": link.work,
        }
    for item, linked in links.annotations.items():
        for each in linked:
            yield {
                "remote": links.remote,
                "kind": "annotation",
                "local_id": each.local_id,
                "remote_id": each.remote_id,
                "item": item,
                "local_digest": each.local,
                "remote_digest": json.dumps(each.remote, sort_keys=True, ensure_ascii=False),
            }
    for item, findings in links.findings.items():
        for finding in findings:
            yield {
                "remote": links.remote,
                "kind": "finding",
                "local_id": finding.finding_id,
                "remote_id": item,
                "local_digest": finding.about,
                "work": finding.work,
            }
