"""Packages on frames as they come: sources, stages with bounded queues, tracks, counts, and what is told of each frame."""
