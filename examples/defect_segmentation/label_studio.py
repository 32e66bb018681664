"""The person who mends masks in Label Studio: in an export's file, or through the server's API."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from curate.connectors.addresses import parse_address
from curate.connectors.http import Http
from curate.connectors.label_studio.api import Api
from curate.connectors.label_studio.login import Login
from curate.formats.label_studio.images import OWN
from examples.common import Example


def tasks(folder: Path) -> dict[str, dict[str, Any]]:
    """The tasks of an export, by the image's path in it."""
    each = json.loads((folder / "tasks.json").read_bytes())
    return {task["data"]["image"].partition("?d=")[2]: task for task in each}


def same_masks(drawn: Path, truth: Path) -> dict[str, bool]:
    """Of each image, whether its regions are as they should be."""
    right = tasks(truth)
    return {name: _values(task) == _values(right[name]) for name, task in tasks(drawn).items()}


def mend_export(drawn: Path, truth: Path, names: Collection[str]) -> None:
    """Draw the regions of some images anew."""
    right = tasks(truth)
    mended = [right[name] if name in names else task for name, task in tasks(drawn).items()]
    (drawn / "tasks.json").write_text(json.dumps(mended))


def mend_on_server(example: Example, server: str, truth: Path) -> None:
    """Push what is suspected to a project of its own, draw it anew there, and pull.

    Args:
        example: The run, with the dataset `line`.
        server: `labelstudio://HOST`, without a project; its token is in LABEL_STUDIO_API_KEY.
        truth: The export whose masks are right.

    Raises:
        SystemExit: The address names a project, which may have tasks of other people.
    """
    if parse_address(server).path:
        raise SystemExit(f"{server} names a project: name the server alone, and a new project is made there")
    (pushed,) = example.curate("push", server, "-d", "line", "--findings", "score >= 0.1")
    address = parse_address(pushed["remote"])
    login = Login(address.url, os.environ["LABEL_STUDIO_API_KEY"])
    http = Http(address.url, headers=login.headers, renew=login.renew)
    api, right = Api(http, int(address.path.removeprefix("projects/"))), tasks(truth)
    for page, _ in api.pages(work=True):
        for task in page:
            result = regions_for(task, right)
            if result is None:
                continue
            if task["annotations"]:
                api.change_annotation(task["annotations"][0]["id"], result)
            else:
                api.create_annotation(task["id"], result)
    example.curate("pull", "-d", "line")


def regions_for(task: Mapping[str, Any], right: Mapping[str, dict[str, Any]]) -> list[Any] | None:
    """The regions that a task on a server should have; None for a task that curate has not made of one of our pictures.

    Args:
        task: As the server gives it; curate has written into its `meta` which picture it shows.
        right: The tasks of the truth, by the image's path.
    """
    own = (task.get("meta") or {}).get(OWN) or {}
    names = {image.get("location") for image in (own.get("images") or {}).values()} & right.keys()
    return [each for name in names for one in right[name]["annotations"] for each in one["result"]] if names else None


def _values(task: dict[str, Any]) -> list[Any]:
    return [region["value"] for each in task["annotations"] for region in each["result"]]
