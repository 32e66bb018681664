"""Services behind a proxy that fails, and what each of them holds as seen without curate."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.servers import cvat, label_studio, roboflow
from tests.servers.cvat_model import Json, Model
from tests.servers.fault_proxy import Fault, Proxy

NAME = "faulty"
"""What the names of the tests' datasets begin with."""

PASSING: tuple[Fault, ...] = ("cut", "lost", "truncated", "429", "500", "504", "slow")
"""What one request may meet while the next one is served. What a stand-in makes of half a request would prove nothing."""

SUSPECT = 3.25
"""Left side of the boxes that a finding is about."""

_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, order=True)
class Held:
    """An image as one side holds it.

    Attributes:
        image_id: curate's id of it.
        annotations: Label and box of each, sorted.
        findings: Ids of those that the annotators are told of, sorted.
    """

    image_id: str
    annotations: Sequence[tuple[str, tuple[float, ...]]]
    findings: Sequence[str]


class World(Protocol):
    """A service behind a proxy.

    Attributes:
        proxy: Makes requests fail.
        address: The server, for a project that is still to be made.
        token: Name and value of the environment variable that lets curate in.
        faults: What a request may meet here.
    """

    proxy: Proxy
    address: str
    token: tuple[str, str]
    faults: Sequence[Fault]

    def clear(self) -> None:
        """Take everything off the server."""
        ...

    def held(self) -> list[Held]:
        """Every image on the server, sorted; one that is there twice is listed twice."""
        ...

    def project(self) -> str:
        """The address of the one project that is there."""
        ...

    def work(self, label: str) -> None:
        """As a person there: give the box that is suspected, on every image, a label, and hand it in."""
        ...


@dataclass
class RoboflowWorld:
    """The stand-in for Roboflow."""

    proxy: Proxy
    service: roboflow.Service
    address: str = field(default="roboflow://acme", init=False)
    token: tuple[str, str] = field(default=("ROBOFLOW_API_KEY", roboflow.KEY), init=False)
    faults: Sequence[Fault] = field(default=PASSING, init=False)

    def clear(self) -> None:
        self.service.projects.clear()

    def held(self) -> list[Held]:
        found = []
        for project in self.service.projects.values():
            assert all(batch["numJobs"] == 1 for batch in project.batches.values())
            for image in project.images.values():
                told = json.loads(image.metadata.get("curate_findings", "{}"))
                assert len(set(image.tags)) == len(image.tags)
                assert bool(told) == ("curate-mislabeled" in image.tags)
                boxes = [(box["label"], _from_centre(box)) for box in image.boxes or ()]
                found.append(Held(_own_id(image.metadata["curate"]), sorted(boxes), sorted(told)))
        return sorted(found)

    def project(self) -> str:
        (slug,) = self.service.projects
        return f"{self.address}/{slug}"

    def work(self, label: str) -> None:
        for project in self.service.projects.values():
            for image in project.images.values():
                for box in image.boxes or ():
                    if _from_centre(box)[0] == SUSPECT:
                        box["label"] = label
                image.accepted = True


@dataclass
class CvatWorld:
    """The stand-in for CVAT."""

    proxy: Proxy
    server: cvat.Cvat
    address: str
    token: tuple[str, str] = field(default=("CVAT_TOKEN", cvat.TOKEN), init=False)
    faults: Sequence[Fault] = field(default=PASSING, init=False)

    def clear(self) -> None:
        self.server.model = Model(self.server.url)

    def held(self) -> list[Held]:
        model, found = self.server.model, []
        for number, task in model.tasks.items():
            assert not task["name"].startswith("unfinished")
            for frame, (meta, _) in enumerate(model.frames[number]):
                shapes = [shape for shape in self._shapes(number) if shape["frame"] == frame]
                boxes = sorted((model.labels[shape["label_id"]]["name"], _from_corners(shape)) for shape in shapes)
                found.append(Held(_own_id(meta["name"]), boxes, sorted(self._told(number, frame))))
        return sorted(found)

    def project(self) -> str:
        (number,) = self.server.model.projects
        return f"{self.address}/projects/{number}"

    def work(self, label: str) -> None:
        model = self.server.model
        for number in model.tasks:
            labels = {each["name"]: each["id"] for each in model.labels_of(None, number)}
            for shape in self._shapes(number):
                if _from_corners(shape)[0] == SUSPECT:
                    shape["label_id"] = labels[label]
            for job in model.jobs_of(number):
                job["state"] = "completed"
                model.touch(number, job["id"])

    def _shapes(self, task: int) -> list[Json]:
        jobs = self.server.model.jobs_of(task)
        return [shape for job in jobs for shape in self.server.model.annotations[job["id"]]["shapes"]]

    def _told(self, task: int, frame: int) -> list[str]:
        model = self.server.model
        jobs = {job["id"] for job in model.jobs_of(task)}
        issues = {key for key, each in model.issues.items() if each["job"] in jobs and each["frame"] == frame}
        return [_own_id(each["message"]) for each in model.comments.values() if each["issue"] in issues]


@dataclass
class LabelStudioWorld:
    """A real Label Studio server. Its projects here are those whose titles begin as the tests' datasets do."""

    proxy: Proxy
    server: label_studio.LabelStudio
    address: str
    token: tuple[str, str] = field(default=("LABEL_STUDIO_API_KEY", label_studio.TOKEN), init=False)
    faults: Sequence[Fault] = field(default=(*PASSING, "halved"), init=False)

    def clear(self) -> None:
        for number in self._projects():
            self.server.request("DELETE", f"/api/projects/{number}/")

    def held(self) -> list[Held]:
        found = []
        for project in self._projects():
            tabs = self.server.request("GET", f"/api/dm/views?project={project}")
            assert [tab["data"]["title"] for tab in tabs].count("curate") == 1
            uploads = self.server.request("GET", f"/api/projects/{project}/file-uploads?all=true")
            tasks = self._tasks(project)
            assert len(uploads) == len(tasks)
            for task in tasks:
                own = task["meta"]["curate"]
                ((_, image),) = own["images"].items()
                annotations = task["annotations"]
                assert len(annotations) <= 1
                regions = [region for annotation in annotations for region in annotation["result"]]
                boxes = sorted((region["value"]["rectanglelabels"][0], _from_percent(region)) for region in regions)
                found.append(Held(image["image_id"], boxes, sorted(each["id"] for each in own.get("findings", ()))))
        return sorted(found)

    def project(self) -> str:
        (number,) = self._projects()
        return f"{self.address}/projects/{number}"

    def work(self, label: str) -> None:
        for project in self._projects():
            for task in self._tasks(project):
                for annotation in task["annotations"]:
                    for region in annotation["result"]:
                        if _from_percent(region)[0] == SUSPECT:
                            region["value"]["rectanglelabels"] = [label]
                    path = f"/api/annotations/{annotation['id']}/"
                    self.server.request("PATCH", path, {"result": annotation["result"]})

    def _projects(self) -> list[int]:
        listed = self.server.request("GET", "/api/projects/?page_size=1000")["results"]
        return [each["id"] for each in listed if each["title"].startswith(NAME)]

    def _tasks(self, project: int) -> list[Json]:
        path = f"/api/tasks?project={project}&fields=all&page_size=1000&resolve_uri=false"
        return list(self.server.request("GET", path)["tasks"])


def _own_id(text: str) -> str:
    """The one id of curate's that a text holds."""
    (found,) = _ID.findall(text)
    return str(found)


def _from_centre(box: dict[str, Any]) -> tuple[float, ...]:
    x, y, width, height = (float(box[key]) for key in ("x", "y", "width", "height"))
    return _rounded(x - width / 2, y - height / 2, width, height)


def _from_corners(shape: Json) -> tuple[float, ...]:
    left, top, right, bottom = shape["points"]
    return _rounded(left, top, right - left, bottom - top)


def _from_percent(region: Json) -> tuple[float, ...]:
    wide, high = region["original_width"] / 100, region["original_height"] / 100
    value = region["value"]
    return _rounded(value["x"] * wide, value["y"] * high, value["width"] * wide, value["height"] * high)


def _rounded(*sides: float) -> tuple[float, ...]:
    return tuple(round(side, 2) for side in sides)
