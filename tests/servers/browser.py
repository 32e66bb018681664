"""A real browser for tests of pages: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Open = Callable[..., "Page"]
"""Opens a file in the browser."""

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS: Final = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def chromium() -> str | None:
    """The browser's path: $CURATE_TEST_BROWSER, or the first one on the path; None if there is none."""
    return os.environ.get("CURATE_TEST_BROWSER") or next(filter(None, map(shutil.which, _NAMES)), None)


@contextmanager
def running_browser() -> Iterator[Browser]:
    """The browser; the test is skipped where there is none (`make test` installs it where it may)."""
    path = chromium()
    if path is None:
        pytest.skip("there is no Chromium here: apt-get install chromium, or set CURATE_TEST_BROWSER to its path")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=_OPTIONS)
        try:
            yield browser
        finally:
            browser.close()
