"""Learning to detect: networks, which cells learn which box, losses, the export; `learner.create` is what the trainer calls."""

from curate.models.training.detect.learner import create

__all__ = ["create"]
