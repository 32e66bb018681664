"""The App in a real browser: what it shows, and what is done there by clicking and dragging, which comes back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from curate.checks.store import stored_findings
from curate.connectors.fiftyone.database import URI_VARIABLE
from curate.connectors.fiftyone.environment import connected
from curate.connectors.fiftyone.labels import mark
from curate.connectors.sync.content import rows_of
from curate.dataset import open_dataset
from tests.connectors.fiftyone_app.app_sets import NAME, ODD, SIZE, annotation_id, make
from tests.servers.browser import running_browser

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # FiftyOne's, and of what it imports

COMMAND = [sys.executable, "-c", "from curate.cli import main; main()", "app", "-d", NAME, "--port", "0", "--json"]


@dataclass(frozen=True)
class App:
    """The running command, and the page that a browser shows of it."""

    process: subprocess.Popen[str]
    page: Page

    def said(self) -> dict[str, Any]:
        """The next line that the command prints."""
        assert self.process.stdout is not None
        line: dict[str, Any] = json.loads(self.process.stdout.readline())
        return line


@pytest.fixture
def app(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    """The small dataset in the App; fails at a request to another host, a dialog, or anything on stderr."""
    monkeypatch.setenv(URI_VARIABLE, uri)
    make(tmp_path)
    faults: list[str] = []
    with (
        subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
        running_browser() as browser,
    ):
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            page = browser.new_page(viewport={"width": 2400, "height": 1000})
            page.set_default_timeout(60_000)
            page.on("dialog", lambda dialog: faults.append(dialog.message))
            page.on(
                "response", lambda response: faults.append(response.url) if "127.0.0.1" not in response.url else None
            )
            page.goto(url)
            page.locator("[data-cy=looker]").first.wait_for()
            page.get_by_role("button", name="Dismiss").click()
            yield App(process, page)
        finally:
            process.terminate()
            process.wait(60)
            assert process.stderr is not None
            faults.append(process.stderr.read())
    with connected() as fiftyone:
        fiftyone.delete_datasets("*")
    assert faults == [""]


def test_the_app_in_a_browser(app: App) -> None:
    page = app.page
    page.get_by_text("4 samples").wait_for()
    _lasso_on_the_map(page)
    page.reload()
    page.get_by_text("4 samples").wait_for()
    _names_are_shown_as_text(page)
    _choose_a_view(page, "dark, worst first")
    page.get_by_text("1 sample", exact=True).wait_for()
    _tag_the_first(page, "reject:dark")
    assert app.said()["changes"] == {"findings rejected": 1}
    assert {each.kind for each in stored_findings(open_dataset(NAME), status="rejected")} == {"dark"}
    _choose_a_view(page, "missing, one by one")
    page.get_by_text("1 patch", exact=True).wait_for()
    _tag_the_first(page, "confirm", label=True)
    assert app.said()["changes"] == {"findings confirmed": 1}
    assert {each.kind for each in stored_findings(open_dataset(NAME), status="confirmed")} == {"missing"}
    assert len(stored_findings(open_dataset(NAME), status="open")) == 4


def test_a_decision_under_patches_in_a_browser(app: App) -> None:
    """The tab that FiftyOne offers first."""
    page = app.page
    _choose_a_view(page, "missing, one by one")
    page.get_by_text("1 patch", exact=True).wait_for()
    _tag_the_first(page, "reject", listed="finding:missing")
    assert app.said()["changes"] == {"findings rejected": 1}
    assert {each.kind for each in stored_findings(open_dataset(NAME), status="rejected")} == {"missing"}


def test_the_stored_vectors_are_searched_in_a_browser(app: App) -> None:
    page = app.page
    _select_the_first(page)
    page.locator("[data-cy=action-sort-by-similarity]").click()
    page.get_by_text("Show similar samples").click()
    panel = page.locator("[data-cy=panel-content-similarity_search_panel]")
    panel.get_by_text("Completed").wait_for()
    panel.get_by_text("4 results").wait_for()


def test_labels_are_edited_in_a_browser(app: App) -> None:
    """A changed class, then a moved box, by the App's own editor, without anything to set up first."""
    page = app.page
    page.locator("[data-cy=looker]").first.click()
    page.locator("[data-cy=annotate]").click()
    box = page.locator(f"[data-cy=annotate-label-{mark(annotation_id(1))}]")
    box.click()
    page.locator("[data-cy=root_label_container]").click()
    page.get_by_text("nut", exact=True).last.click()
    assert app.said()["changes"] == {"annotations changed": 1, "findings fixed": 1}
    _drag_on_the_image(page, (25, 40), (135, 45))
    changes: dict[str, int] = {}
    while not changes:
        changes = app.said()["changes"]
    assert changes == {"annotations changed": 1}
    (row,) = rows_of(open_dataset(NAME).table("annotations", where=f"annotation_id = '{annotation_id(1)}'"))
    assert row["label"] == "nut"
    np.testing.assert_allclose(row["bbox"], [120, 25, 30, 40], atol=1)


def _drag_on_the_image(page: Page, start: tuple[float, float], stop: tuple[float, float]) -> None:
    """From one pixel of the image that is open to another: it fills its canvas one way or the other."""
    canvas = page.locator("[data-cy=lighter-sample-renderer-canvas]").bounding_box()
    assert canvas is not None
    scale = min(canvas["width"] / SIZE[0], canvas["height"] / SIZE[1])
    left = canvas["x"] + (canvas["width"] - SIZE[0] * scale) / 2
    top = canvas["y"] + (canvas["height"] - SIZE[1] * scale) / 2
    page.mouse.move(left + start[0] * scale, top + start[1] * scale)
    page.wait_for_timeout(500)  # it looks at what lies under the pointer between two frames
    page.mouse.down()
    page.mouse.move(left + stop[0] * scale, top + stop[1] * scale, steps=10)
    page.wait_for_timeout(500)
    page.mouse.up()


def _names_are_shown_as_text(page: Page) -> None:
    """A tag that would be a script lies in the list of tags."""
    page.locator("[data-cy=action-tag-sample-labels]").click()
    page.get_by_text(ODD[:40]).first.wait_for()
    page.locator("[data-cy=action-tag-sample-labels]").click()
    scripts = page.evaluate("[...document.querySelectorAll('script')].map(each => each.textContent)")
    assert not [text for text in scripts if "alert(1)" in text]


def _lasso_on_the_map(page: Page) -> None:
    """Two of the four points lie to the right."""
    page.locator("[data-cy=new-panel-btn]").first.click()
    page.get_by_text("Embeddings", exact=True).first.click()
    page.get_by_text("map", exact=True).first.click()
    page.get_by_text("4 points").wait_for()
    page.get_by_text("Select", exact=True).first.click()
    page.wait_for_timeout(1_000)  # the map is drawn, not made of elements that could be waited for
    box = page.locator("[data-cy=panel-content-Embeddings]").first.bounding_box()
    assert box is not None

    def to(x: float, y: float, steps: int = 10) -> None:
        page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y, steps=steps)

    to(0.6, 0.3)
    page.mouse.down()
    for x, y in ((0.97, 0.3), (0.97, 0.9), (0.6, 0.9), (0.6, 0.31)):
        to(x, y)
    page.mouse.up()
    page.get_by_text("2 samples").wait_for()


def _choose_a_view(page: Page, wanted: str) -> None:
    chooser = page.locator("[data-cy=saved-views-selection]").first
    if not _comes(chooser, seconds=30):
        page.reload()  # seen once, on a machine with eight times the work that it can do: the App stopped drawing
    chooser.click()
    for name in (
        "mislabeled, worst first",
        "copies, group by group",
        "shifted, worst first",
        "slice: cold (tint <= -0.1)",
    ):
        page.get_by_text(name, exact=True).wait_for()
    page.get_by_text(wanted, exact=True).click()


def _comes(wanted: Locator, *, seconds: int) -> bool:
    from playwright.sync_api import TimeoutError as NotInTime

    try:
        wanted.wait_for(timeout=1000 * seconds)
    except NotInTime:
        return False
    return True


def _select_the_first(page: Page) -> None:
    page.locator("[data-cy=looker]").first.hover()
    page.locator("[data-cy^=looker-checkbox]").first.click()


def _tag_the_first(page: Page, tag: str, *, label: bool = False, listed: str = "finding:dark") -> None:
    _select_the_first(page)
    page.locator("[data-cy=action-tag-sample-labels]").click()
    if label:
        page.locator("[data-cy=tagger-switch-label]").click()
    else:
        page.get_by_text(listed, exact=True).first.wait_for()
    page.locator(f"[data-cy={'label' if label else 'sample'}-tag-input]").fill(tag)
    page.keyboard.press("Enter")
    page.get_by_text("Apply", exact=True).click()
