"""What the connectors' tests share."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _logs() -> Iterator[None]:
    """CVAT's SDK makes urllib3's log silent for the whole process; the next test hears it again."""
    logger = logging.getLogger("urllib3")
    level = logger.level
    yield
    logger.setLevel(level)
