"""Addresses of projects, and tokens for their servers."""

from __future__ import annotations

import pytest

from curate.connectors.addresses import Address, is_address, parse_address
from curate.connectors.tokens import token_for
from curate.errors import UnavailableError, UsageError


@pytest.mark.parametrize(
    ("text", "address", "url"),
    [
        ("cvat://app.cvat.ai/projects/3", Address("cvat", "app.cvat.ai", "projects/3"), "https://app.cvat.ai"),
        (
            "labelstudio://127.0.0.1:8080/projects/7/",
            Address("labelstudio", "127.0.0.1:8080", "projects/7", secure=False),
            "http://127.0.0.1:8080",
        ),
        ("cvat+http://Cvat.Local", Address("cvat", "cvat.local", "", secure=False), "http://cvat.local"),
        ("cvat+https://localhost/tasks/1", Address("cvat", "localhost", "tasks/1"), "https://localhost"),
        ("labelstudio://[::1]:80", Address("labelstudio", "[::1]:80", "", secure=False), "http://[::1]:80"),
        ("roboflow://My-Team/parts/4", Address("roboflow", "My-Team", "parts/4"), "https://My-Team"),
    ],
)
def test_an_address_is_taken_apart(text: str, address: Address, url: str) -> None:
    assert is_address(text)
    assert parse_address(text) == address
    assert parse_address(text).url == url
    if not text.startswith("cvat+https"):
        assert parse_address(str(address)) == address


@pytest.mark.parametrize("text", ["a/b.zip", "C:\\set", "./x", "cvat:x"])
def test_a_path_is_none(text: str) -> None:
    assert not is_address(text)
    with pytest.raises(UsageError, match="not an address"):
        parse_address(text)


@pytest.mark.parametrize("text", ["cvat://user:secret-word@host/projects/3", "roboflow://a/b?api_key=secret-word"])
def test_an_address_with_a_secret_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert "secret-word" not in str(caught.value)


def test_a_token_comes_from_the_environment_or_there_is_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    address = parse_address("cvat://host.invalid/projects/1")
    monkeypatch.setenv("CVAT_TOKEN", " abc-123456 ")
    assert token_for(address, "CVAT_TOKEN") == "abc-123456"
    monkeypatch.delenv("CVAT_TOKEN")
    with pytest.raises(UnavailableError, match="no token") as caught:
        token_for(address, "CVAT_TOKEN")
    assert "curate login cvat://host.invalid" in str(caught.value.remedy)
