"""The key is in every request's address, and shows nowhere: not in errors, logs, addresses, or at other hosts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from curate.connectors.addresses import parse_address
from curate.connectors.roboflow.connector import Roboflow
from curate.connectors.roboflow.downloads import Downloads
from curate.errors import CurateError, InputError, UnavailableError
from curate.formats.losses import LossReport
from tests.connectors.roboflow.conftest import Connect, box_row, jpeg, listing, new_item
from tests.servers.roboflow import KEY, Failure, Service

WRONG = "rf-wrong-key-0987654321"


def everything(error: BaseException) -> str:
    """What the error and its causes say, and their attributes."""
    causes: list[BaseException] = [error]
    while (before := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(before)
    return "".join(f"{each!r}{each}{vars(each)}" for each in causes)


@pytest.mark.parametrize("failure", ["429", "500", "cut", "lost"])
@pytest.mark.parametrize("what", ["items", "create", "project", "version"])
def test_no_error_shows_the_key(
    service: Service, connect: Connect, tmp_path: Path, what: str, failure: Failure, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    service.add_project("parts")
    service.put("parts", "a.jpg", jpeg(7))
    service.fail("", *[failure] * 100)
    item = new_item(tmp_path, 1, [box_row("a", "bolt", [1, 1, 9, 9])])
    connector = connect("roboflow://acme/parts/1" if what == "version" else "roboflow://acme/parts")
    calls: dict[str, Callable[[], object]] = {
        "create": lambda: connector.create([item], losses=LossReport()),
        "project": connector.project,
    }
    with pytest.raises(CurateError) as caught:
        calls.get(what, lambda: listing(connector))()
    assert KEY not in everything(caught.value)
    assert KEY not in caplog.text
    assert "urllib3" in caplog.text


def test_a_wrong_key_is_refused_without_being_shown(service: Service, connect: Connect) -> None:
    service.add_project("parts")
    with pytest.raises(CurateError, match="refuses the token") as caught:
        connect(token=WRONG).project()
    assert WRONG not in everything(caught.value)
    assert caught.value.exit_code == 3


def test_a_server_that_is_down_is_named_without_the_key(service: Service) -> None:
    connector = Roboflow(parse_address("roboflow://acme/parts"), base="http://127.0.0.1:9", token=KEY, pause=0.001)
    with pytest.raises(UnavailableError, match="cannot be reached") as caught:
        connector.project()
    assert KEY not in everything(caught.value)


def test_a_redirect_does_not_take_the_key_along(service: Service, connect: Connect) -> None:
    service.add_project("parts")
    service.redirects["/acme/parts"] = f"{service.files}/elsewhere"
    with pytest.raises(CurateError) as caught:
        connect().project()
    assert KEY not in everything(caught.value)
    assert KEY not in "".join(service.file_requests)


def test_a_file_may_be_elsewhere(service: Service, connect: Connect) -> None:
    service.add_project("parts")
    image = service.put("parts", "a.jpg", jpeg(1))
    service.redirects["/moved"] = f"{service.files}/images/{image.id}/original.jpg"
    assert Downloads(plain=True, pause=0.001).content(f"{service.base}/moved") == jpeg(1)


def test_the_connector_does_not_show_it(service: Service, connect: Connect) -> None:
    connector = connect()
    assert KEY not in repr(connector) + str(connector.address) + repr(connector.address)


@pytest.mark.parametrize(
    "url", ["http://files.example.com/a.jpg?signature=s3cr3t", "ftp://127.0.0.1/a", "file:///etc/hostname", "a.jpg"]
)
def test_files_are_fetched_over_tls_only(url: str) -> None:
    with pytest.raises(InputError, match="without TLS") as caught:
        Downloads(plain=True, pause=0.001).content(url)
    assert "s3cr3t" not in everything(caught.value)


def test_this_machine_is_asked_without_tls_only_where_the_service_runs_on_it(service: Service) -> None:
    with pytest.raises(InputError, match="without TLS"):
        Downloads(plain=False, pause=0.001).content(f"{service.files}/images/x/original.jpg")


def test_a_signed_address_is_shown_without_its_signature(service: Service) -> None:
    with pytest.raises(InputError, match="404") as caught:
        Downloads(plain=True, pause=0.001).content(f"{service.files}/images/x/original.jpg?signature=s3cr3t")
    assert "s3cr3t" not in everything(caught.value)
