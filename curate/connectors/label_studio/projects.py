"""A project and its labelling configuration: read, made, found again, and made to fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from curate.connectors.base import ProjectSpec
from curate.connectors.http import ForbiddenError, Http, RefusedError
from curate.connectors.label_studio.api import Api, create_project, find_project
from curate.connectors.label_studio.config import extended, lacking, new_config, parse_config, wanted_controls
from curate.connectors.label_studio.results import ResultWriter
from curate.errors import FormatError
from curate.formats.base import ClassInfo
from curate.formats.label_studio.config import Config, Control
from curate.formats.losses import LossReport
from curate.formats.values import text

_LONGEST_TITLE: Final = 50
_SHORTEST_TITLE: Final = 3


@dataclass
class ProjectConfig:
    """A project's configuration, which grows where what is pushed needs it.

    Attributes:
        api: The project.
        xml: The configuration.
        classes: Colors and keypoints of the dataset's classes, where they are known.
    """

    api: Api
    xml: str
    classes: Sequence[ClassInfo] = ()
    config: Config = field(init=False)

    def __post_init__(self) -> None:
        self.config = parse_config(self.xml)

    def fit(self, wanted: Mapping[str, Control], losses: LossReport) -> bool:
        """Add controls and labels that the configuration lacks; whether it was changed."""
        missing = {name: self._complete(control) for name, control in lacking(self.config, wanted).items()}
        if not missing:
            return False
        try:
            xml = extended(self.xml, missing, self.classes)
            self.api.change_project({"label_config": xml})
        except (FormatError, RefusedError, ForbiddenError) as error:
            labels = sorted({label for control in missing.values() for label in control.labels} or missing)
            reason = f"the project's configuration cannot be changed ({error.what}); add them there by hand"
            losses.dropped("labels", reason, labels, len(labels))
            return False
        self.xml = xml
        self.config = parse_config(xml)
        return True

    def _complete(self, control: Control) -> Control:
        """A control with all keypoints of the classes that it has some of, in their order."""
        if control.type != "keypointlabels":
            return control
        labels = set(control.labels)
        points = [point for info in self.classes if labels & {*info.keypoints} for point in info.keypoints]
        return replace(control, labels=tuple(dict.fromkeys([*points, *control.labels])))

    def writer(self, losses: LossReport) -> ResultWriter:
        """Writes rows as results with this configuration."""
        names = {**self.config.keypoints_of, **{info.name: info.keypoints for info in self.classes if info.keypoints}}
        return ResultWriter(self.config, names, losses)

    def supported(self, results: Sequence[dict[str, Any]], writer: ResultWriter, place: str) -> list[dict[str, Any]]:
        """Results without those of controls that the project lacks: its editor would drop them when it saves."""
        controls = self.config.controls
        kept = [result for result in results if result.get("type") == "relation" or result.get("from_name") in controls]
        dropped = len(results) - len(kept)
        writer.losses.dropped("annotations", "the project's configuration has no control for them", place, dropped)
        return kept


def made_or_found(http: Http, spec: ProjectSpec) -> int:
    """The number of the project with a marker, which is made if there is none."""
    found = find_project(http, spec.marker)
    if found is not None:
        return found
    title = spec.title.strip()[:_LONGEST_TITLE]
    values = {
        "title": title if len(title) >= _SHORTEST_TITLE else f"curate {title}".strip(),
        "description": f"Made by curate, which finds it again by this: {spec.marker}",
        "label_config": new_config(spec),
    }
    return create_project(http, spec.marker, values)


def fit_to(project: ProjectConfig, spec: ProjectSpec, losses: LossReport) -> None:
    """Add what a dataset's annotations need to a project's configuration."""
    project.classes = spec.classes
    project.fit(wanted_controls(spec, project.config), losses)


def read_config(api: Api) -> tuple[dict[str, Any], ProjectConfig]:
    """A project as the server gives it, and its configuration."""
    content = api.read_project()
    return content, ProjectConfig(api, text(content.get("label_config")) or "<View></View>")
