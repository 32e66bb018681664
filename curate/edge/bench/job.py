"""What is measured, and what comes of it: plain data that goes to a process of its own and back as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

STAGES: Final = ("decode", "prepare", "infer", "read")
"""What a batch goes through: files to pixels, pixels to the model's input, the model, its outputs to results."""


@dataclass(frozen=True)
class Subject:
    """One way to run one package.

    Attributes:
        package: Its folder.
        backend: What runs it: 'onnxruntime', 'openvino', 'tflite', 'tensorrt'.
        threads: That one inference may use.
        batch: Images for each call of the model.
    """

    package: str
    backend: str
    threads: int = 1
    batch: int = 1


@dataclass(frozen=True)
class Job:
    """What one process is to do.

    Attributes:
        subjects: Run alternately, each once a round.
        images: Files.
        seconds: For each subject; at least `least` rounds are made whatever they take.
        least: Rounds.
        cores: That the process may use; None for all.
        memory: Bytes that it may allocate; None for all there is.
        seed: Of the order within each round.
    """

    subjects: Sequence[Subject]
    images: Sequence[str]
    seconds: float
    least: int
    cores: int | None = None
    memory: int | None = None
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Job:
        """The inverse of `to_json`."""
        return cls(**{**said, "subjects": tuple(Subject(**each) for each in said["subjects"])})


@dataclass(frozen=True)
class Samples:
    """What was measured of one subject.

    Attributes:
        seconds: By stage, of each call; n calls.
        cpu: Seconds of all cores together, of each call.
    """

    seconds: Mapping[str, Sequence[float]]
    cpu: Sequence[float]


@dataclass(frozen=True)
class Outcome:
    """What a process has to say.

    Attributes:
        samples: Of each subject, in the job's order.
        before: Bytes of memory in use before the first package was opened: the interpreter and its libraries.
        peak: The most that were in use; None where the system does not tell.
        cores: How many cores the process could use.
    """

    samples: Sequence[Samples]
    before: int | None
    peak: int | None
    cores: int

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Outcome:
        """The inverse of `to_json`."""
        return cls(**{**said, "samples": tuple(Samples(**each) for each in said["samples"])})
