"""Learners by task."""

from __future__ import annotations

from typing import Final

from curate.models.training.base import CreateLearner
from curate.registry import Registry

LEARNERS: Final[Registry[CreateLearner]] = Registry(
    "learner",
    {
        "classify": "curate.models.training.classify.create:create",
        "detect": "curate.models.training.detect:create",
        "segment": "curate.models.training.segment:create",
    },
)
"""What makes the learner of a task."""
