"""The person who mends masks in Label Studio: in an export's file, or through the server's API."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Collection
from pathlib import Path
from typing import Any

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
    """Push what is suspected, draw it anew there, and pull.

    Args:
        server: `labelstudio://HOST`; its token is in LABEL_STUDIO_API_KEY.
    """
    example.curate("push", server, "-d", "line", "--findings", "score >= 0.1")
    right = {Path(name).name: task for name, task in tasks(truth).items()}
    for project in _ask(server, "GET", "/api/projects/")["results"]:
        for task in _ask(
            server, "GET", f"/api/projects/{project['id']}/export?exportType=JSON&download_all_tasks=true"
        ):
            (name,) = (name for name in right if name in task["data"]["image"])
            result = [each for one in right[name]["annotations"] for each in one["result"]]
            if task["annotations"]:
                _ask(server, "PATCH", f"/api/annotations/{task['annotations'][0]['id']}/", {"result": result})
            else:
                _ask(server, "POST", f"/api/tasks/{task['id']}/annotations/", {"result": result})
    example.curate("pull", "-d", "line")


def _values(task: dict[str, Any]) -> list[Any]:
    return [region["value"] for each in task["annotations"] for region in each["result"]]


def _ask(server: str, method: str, path: str, body: object = None) -> Any:
    address = "http://" + server.removeprefix("labelstudio://") + path
    headers = {"Authorization": f"Token {os.environ['LABEL_STUDIO_API_KEY']}", "Content-Type": "application/json"}
    sent = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(address, sent, headers, method=method)) as reply:
        return json.loads(reply.read())
