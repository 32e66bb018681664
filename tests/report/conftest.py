"""A browser that pages are opened in, and what must not happen in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.browser import Open, running_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for one file of tests: Playwright runs once at a time in a process. Skipped where it is not there."""
    with running_browser() as running:
        yield running


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens a report from disk, as a person does; fails if it logs an error, opens a dialog unasked, or asks for an address."""
    faults: list[str] = []
    contexts = []

    def opened(path: Path, *, before: str | None = None, **options: Any) -> Page:
        context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 900}, "accept_downloads": True, **options}
        )
        context.set_default_timeout(20_000)
        contexts.append(context)

        def refuse(route: Any) -> None:
            faults.append(f"asked for {route.request.url[:200]}")
            route.abort()

        context.route(lambda url: not url.startswith(("file:", "data:", "blob:")), refuse)
        page = context.new_page()
        page.on(
            "console", lambda message: faults.append(f"console: {message.text}") if message.type == "error" else None
        )
        page.on("pageerror", lambda error: faults.append(f"error: {error}"))
        page.on("request", lambda request: _not_own(request.url, path, faults))
        if before:
            page.add_init_script(before)
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not faults


def _not_own(url: str, path: Path, faults: list[str]) -> None:
    """Nothing but the page itself, and what is in it, may be asked for."""
    if not url.startswith(("data:", "blob:")) and url.partition("#")[0] != path.as_uri():
        faults.append(f"asked for {url[:200]}")
