"""Weights from the Hugging Face hub, without waiting for one that cannot be reached.

Left alone, the hub's client retries an unreachable hub for 46 s. Here the hub is looked for once, for a second, and only when
the weights are not on this disk.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from curate.errors import UnavailableError

T = TypeVar("T")

_CONNECT_SECONDS: Final = 1.0

# As the user set it: `hub` changes the variable.
_USER_OFFLINE: Final = os.environ.get("HF_HUB_OFFLINE", "0").strip().upper() in {"1", "ON", "YES", "TRUE"}


def from_hub(create: Callable[[], T], weights: str, *, local: str) -> T:
    """Make something of weights that the hub has, from the hub's cache on this disk if they are there.

    Args:
        create: Makes it. Whatever uses the hub's client must be imported in here.
        weights: What the weights are called.
        local: The spec of weights in a local file, for the remedy.

    Raises:
        UnavailableError: The weights are not on this disk and cannot be fetched.
    """
    if any(hub_cache().glob("models--*/snapshots/*/*")):
        with hub(online=False):
            try:
                return create()
            except (RuntimeError, OSError):
                pass  # other weights are in the cache, not these
    require_hub(
        weights,
        remedy="use --encoder builtin; or load them once where there is a network and copy the cache folder "
        f"{hub_cache()}; or write {local}",
    )
    with hub(online=True):
        try:
            return create()
        except (RuntimeError, OSError) as error:
            raise UnavailableError(
                f"the weights '{weights}' could not be fetched: {first_line(error)}",
                remedy="try again, or use --encoder builtin",
            ) from error


def require_hub(weights: str, *, remedy: str) -> None:
    """Look whether weights that are not on this disk can be fetched. Takes a second at most.

    Raises:
        UnavailableError: The user forbids it (HF_HUB_OFFLINE), or the hub does not answer.
    """
    if _USER_OFFLINE or not _reachable():
        raise UnavailableError(
            f"the weights '{weights}' are not on this disk and "
            + ("HF_HUB_OFFLINE forbids fetching them" if _USER_OFFLINE else f"{_hub_host()[0]} cannot be reached"),
            remedy=remedy,
        )


@contextmanager
def hub(*, online: bool) -> Iterator[None]:
    """Allow or forbid the hub's client to use the network, whether or not it is imported yet; logs are off.

    The client reads HF_HUB_OFFLINE once, at import, into a constant that every request looks at.
    """
    os.environ["HF_HUB_OFFLINE"] = "0" if online else "1"
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        constants.HF_HUB_OFFLINE = not online  # type: ignore[attr-defined]
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(disabled)


def hub_cache() -> Path:
    """Where the hub's client keeps what it fetched; its own rules."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    home = os.environ.get("HF_HOME") or default
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def first_line(error: BaseException) -> str:
    """What an error of another package says, in one line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _reachable() -> bool:
    """Whether the hub (or the proxy to it) takes a connection. In a thread, for name look-ups know no time limit."""
    answered = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection(_hub_host(), timeout=_CONNECT_SECONDS).close()
        except OSError:
            return
        answered.set()

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(_CONNECT_SECONDS)
    return answered.is_set()


def _hub_host() -> tuple[str, int]:
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    url = urllib.parse.urlsplit(endpoint)
    proxy = urllib.request.getproxies().get(url.scheme)
    if proxy is not None and not urllib.request.proxy_bypass(url.hostname or ""):
        url = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
