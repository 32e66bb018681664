"""The Label Studio server that the tests start: it answers, it lets us in both ways, and it ends with the tests."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.servers import label_studio as servers
from tests.servers.label_studio import LabelStudio, NotInstalled, installed, running

pytestmark = pytest.mark.slow

LABEL_CONFIG = """
<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image"><Label value="bolt"/><Label value="nut"/></RectangleLabels>
</View>
"""

# Starts a server, says its address, and waits to be killed.
STARTER = """
import sys, time
from pathlib import Path
from tests.servers.label_studio import running
with running(Path(sys.argv[1])) as server:
    print(server.url, flush=True)
    time.sleep(600)
"""


def answers(url: str) -> bool:
    """Whether a server answers at an address."""
    try:
        urllib.request.urlopen(url + "/health", timeout=30).close()
    except OSError:
        return False
    return True


def status(server: LabelStudio, authorization: str) -> int:
    """Status code of asking who we are."""
    try:
        server.request("GET", "/api/current-user/whoami", authorization=authorization)
    except urllib.error.HTTPError as refused:
        refused.close()
        return refused.code
    return 200


def test_it_is_healthy_and_of_the_pinned_version(label_studio: LabelStudio) -> None:
    assert label_studio.request("GET", "/health", authorization="") == {"status": "UP"}
    assert label_studio.request("GET", "/api/version")["release"] == servers.VERSION


def test_the_legacy_token_is_let_in_and_no_other(label_studio: LabelStudio) -> None:
    assert status(label_studio, f"Token {label_studio.token}") == 200
    assert status(label_studio, f"Token {'0' * 40}") == 401
    assert status(label_studio, "") == 401


def test_a_personal_token_is_let_in_by_way_of_an_access_token(label_studio: LabelStudio) -> None:
    personal = label_studio.personal_token()
    assert label_studio.personal_token() == personal
    assert status(label_studio, f"Bearer {personal}") == 401
    access = label_studio.request("POST", "/api/token/refresh", {"refresh": personal}, authorization="")["access"]
    assert status(label_studio, f"Bearer {access}") == 200


def test_no_token_is_shown(label_studio: LabelStudio) -> None:
    assert label_studio.token not in repr(label_studio)


def test_a_task_comes_back_with_the_work_of_two_annotators(label_studio: LabelStudio) -> None:
    project = label_studio.request("POST", "/api/projects/", {"title": "parts", "label_config": LABEL_CONFIG})["id"]
    sent = {"data": {"image": "https://images.example/1.jpg"}, "meta": {"curate": {"finding": "f1"}}}
    imported = label_studio.request("POST", f"/api/projects/{project}/import?return_task_ids=true", [sent])
    task = imported["task_ids"][0]

    value = {"x": 10.0, "y": 20.0, "width": 30.0, "height": 40.0, "rotation": 0, "rectanglelabels": ["bolt"]}
    size = {"original_width": 640, "original_height": 480}
    box = {"id": "b1", "from_name": "label", "to_name": "image", "type": "rectanglelabels", "value": value, **size}
    second = f"Token {label_studio.annotator('other@example.com')}"
    for authorization in (None, second):
        label_studio.request("POST", f"/api/tasks/{task}/annotations/", {"result": [box]}, authorization=authorization)

    back = label_studio.request("GET", f"/api/tasks/{task}/")
    assert (back["data"], back["meta"]) == (sent["data"], sent["meta"])
    assert [annotation["result"] for annotation in back["annotations"]] == [[box], [box]]
    emails = {annotation["completed_by"]["email"] for annotation in back["annotations"]}
    assert emails == {servers.USER, "other@example.com"}


def test_another_server_shares_nothing_and_ends_with_its_context(label_studio: LabelStudio, tmp_path: Path) -> None:
    label_studio.request("POST", "/api/projects/", {"title": "only here"})
    with running(tmp_path / "another") as another:
        assert another.url != label_studio.url
        assert another.request("GET", "/api/projects/")["count"] == 0
    assert not answers(another.url)
    assert answers(label_studio.url)


def test_it_ends_with_a_test_run_that_is_killed(label_studio: LabelStudio, tmp_path: Path) -> None:
    root = Path(servers.__file__).parents[2]
    command = [sys.executable, "-c", STARTER, str(tmp_path / "orphan")]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        url = starter.stdout.readline().strip()
        assert answers(url)
        starter.kill()
    until = time.monotonic() + 30
    while answers(url) and time.monotonic() < until:
        time.sleep(0.1)
    assert not answers(url)


def test_where_it_cannot_be_installed_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_TEST_SERVERS", str(tmp_path / "servers"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(NotInstalled, match=f"label-studio {servers.VERSION} cannot be installed: .*No matching"):
        installed()
    assert [path.name for path in (tmp_path / "servers").rglob("*") if path.is_file()] in ([], ["lock"])
