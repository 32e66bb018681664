"""`curate login`, with a keyring of the tests' own: what is kept, what is forgotten, and that no token is ever printed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from click.testing import Result
from keyring.backend import KeyringBackend
from keyring.backends import fail, null
from keyring.errors import KeyringLocked
from typer.testing import CliRunner

from curate.cli import app
from curate.connectors.addresses import parse_address
from curate.connectors.tokens import token_for
from curate.errors import UnavailableError, UsageError
from tests.servers.keyrings import MemoryKeyring, in_use

SERVER = "labelstudio://host.invalid:8080"
ACCOUNT = ("curate", SERVER)
TOKEN = "0123456789abcdef-the-token"
VARIABLE = "LABEL_STUDIO_API_KEY"


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[tuple[str, str], str]]:
    """What the keyring holds."""
    monkeypatch.delenv(VARIABLE, raising=False)
    backend = MemoryKeyring()
    with in_use(backend):
        yield backend.kept


def login(*arguments: str, given: str | bytes = "", status: int = 0) -> Result:
    """Run the command; whatever happens, it shows no token."""
    result = CliRunner().invoke(app, ["login", *arguments, "--debug"], input=given)
    assert result.exit_code == status, result.output
    secret = given.decode("latin-1") if isinstance(given, bytes) else given
    assert not secret.strip() or secret.strip() not in result.output
    assert TOKEN not in result.output
    return result


def test_a_token_is_kept_for_the_server_and_found_by_its_projects(kept: dict[tuple[str, str], str]) -> None:
    result = login(f"{SERVER}/projects/7", given=f"  {TOKEN} \n")
    assert kept == {ACCOUNT: TOKEN}
    assert f"the token for {SERVER} is in the system's keyring" in result.stderr
    assert result.stdout == ""
    assert token_for(parse_address(f"{SERVER}/projects/9"), VARIABLE) == TOKEN
    with pytest.raises(UnavailableError, match="no token"):
        token_for(parse_address("labelstudio://other.invalid"), VARIABLE)


def test_a_newer_token_takes_its_place(kept: dict[tuple[str, str], str]) -> None:
    login(SERVER, given="an-older-token\n")
    login(SERVER, given=TOKEN)
    assert kept == {ACCOUNT: TOKEN}


def test_the_environment_goes_before_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    login(SERVER, given=TOKEN)
    monkeypatch.setenv(VARIABLE, "another-token")
    assert token_for(parse_address(SERVER), VARIABLE) == "another-token"


def test_a_token_is_forgotten(kept: dict[tuple[str, str], str]) -> None:
    login(SERVER, given=TOKEN)
    assert "is forgotten" in login(SERVER, "--forget").stderr
    assert kept == {}
    assert "there was no token" in login(SERVER, "--forget").stderr


def test_json_says_which_server_and_not_what(kept: dict[tuple[str, str], str]) -> None:
    said = [login(SERVER, "--json", given=TOKEN), login(SERVER, "--json", "--forget")]
    assert [json.loads(each.stdout) for each in said] == [
        {"server": SERVER, "stored": True},
        {"server": SERVER, "stored": False},
    ]


@pytest.mark.parametrize("given", ["", "\n", "   \n"])
def test_nothing_given_is_an_error(given: str, kept: dict[tuple[str, str], str]) -> None:
    result = login(SERVER, given=given, status=2)
    assert "no token was given" in result.stderr
    assert f"set {VARIABLE}" in result.stderr
    assert kept == {}


@pytest.mark.parametrize("given", ["secret token", "sécret-token", b"secret-\xff-token", "secret-\x07token"])
def test_what_can_be_no_token_is_refused(given: str | bytes, kept: dict[tuple[str, str], str]) -> None:
    result = login(SERVER, given=given, status=2)
    assert "characters in it that no token has" in result.stderr
    assert "secret" not in result.output
    assert kept == {}


@pytest.mark.parametrize("given", ["secret\ntoken", "sécret-token", "secret\ttoken"])
def test_nor_is_it_taken_from_the_environment(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, given)
    with pytest.raises(UsageError, match="characters in it") as caught:
        token_for(parse_address(SERVER), VARIABLE)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("arguments", [[SERVER, TOKEN], [TOKEN], [TOKEN, SERVER]])
def test_a_token_on_the_command_line_is_refused_without_showing_it(arguments: list[str]) -> None:
    result = login(*arguments, status=2)
    assert "the token is asked for, or read from stdin" in result.stderr


def test_an_unknown_service_is_named_beside_those_that_are_known() -> None:
    assert "labelstudio" in login("labelstudo://host", given=TOKEN, status=2).stderr


class Locked(MemoryKeyring):
    """A keyring whose user has not unlocked it."""

    def get_password(self, service: str, username: str) -> str | None:
        raise KeyringLocked(f"{TOKEN} cannot be kept")

    def set_password(self, service: str, username: str, password: str) -> None:
        raise KeyringLocked(f"{password} cannot be kept")


class Broken(MemoryKeyring):
    """A backend that is at fault itself."""

    def set_password(self, service: str, username: str, password: str) -> None:
        raise ValueError(f"{password} cannot be kept")


@pytest.mark.parametrize("backend", [fail.Keyring(), null.Keyring(), Locked(), Broken()])
def test_without_a_keyring_that_works_the_remedy_is_the_environment(backend: KeyringBackend) -> None:
    with in_use(backend):
        result = login(SERVER, given=TOKEN, status=3)
        assert "the system's keyring cannot be used" in result.stderr
        assert "set the token in the environment instead" in result.stderr
        with pytest.raises(UnavailableError, match="no token for this server"):
            token_for(parse_address(SERVER), VARIABLE)


@pytest.mark.parametrize("backend", [fail.Keyring(), Locked()])
def test_nothing_is_said_to_be_forgotten_that_is_not(backend: KeyringBackend) -> None:
    with in_use(backend):
        assert "cannot be used" in login(SERVER, "--forget", status=3).stderr


def test_without_the_package_the_remedy_is_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert "pip install 'curate-vision[login]'" in login(SERVER, given=TOKEN, status=3).stderr
    with pytest.raises(UnavailableError, match="no token for this server"):
        token_for(parse_address(SERVER), VARIABLE)


ON_A_TERMINAL = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs lack
import keyring
from tests.servers.keyrings import MemoryKeyring
keyring.set_keyring(MemoryKeyring())
from curate.cli import main
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize("status", [0, 130])
def test_on_a_terminal_it_is_asked_for_and_not_shown(status: int) -> None:
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", ON_A_TERMINAL, "login", SERVER]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        shown = b""
        while b"Token for" not in shown:
            shown += os.read(ours, 1000)
        if status == 0:
            os.write(ours, f"{TOKEN}\n".encode())
        else:
            process.send_signal(signal.SIGINT)
        while said := _read(ours):
            shown += said
        assert process.wait(60) == status, shown
    os.close(ours)
    assert TOKEN.encode() not in shown
    assert (b"is in the system's keyring" if status == 0 else b"interrupted") in shown


def _read(terminal: int) -> bytes:
    """What is shown next; nothing, once the program at the other side has ended."""
    try:
        return os.read(terminal, 1000)
    except OSError:
        return b""
