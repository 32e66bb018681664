"""What proofs came to, kept in a table of the dataset."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from curate.augment.prove.effects import ELSEWHERE, TARGET, Effect
from curate.dataset import Dataset, Transaction
from curate.dataset.ids import hash_text, to_ids

PROOFS: Final = "proofs"

_SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # of what was asked of which state of the tables
        pa.field("commit", pa.int64(), nullable=False),  # whose images these were
        pa.field("target", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("proof", pa.string(), nullable=False),  # `Proof` as JSON
    ]
)


@dataclass(frozen=True)
class Proof:
    """Whether synthetic images help.

    Attributes:
        dataset: Name of it.
        commit: Whose images were learnt from.
        target: What the images were made for.
        task: What was learnt.
        metric: What was measured.
        steps: Of each training: the same with and without synthetic images.
        seeds: How many pairs of trainings.
        real: Images that both learnt from.
        synthetic: Images that one learnt from besides.
        held: How the images that are measured on were held out.
        effects: On the target, and elsewhere where there is anything.
        runs: Names of the runs, (without, with) of each seed.
        notes: What has to be known of it.
    """

    dataset: str
    commit: int
    target: str
    task: str
    metric: str
    steps: int
    seeds: int
    real: int
    synthetic: int
    held: str
    effects: tuple[Effect, ...]
    runs: tuple[tuple[str, str], ...]
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def gain(self) -> Effect:
        """The effect on the target."""
        return next(each for each in self.effects if each.part == TARGET)

    @property
    def cost(self) -> Effect | None:
        """The effect elsewhere."""
        return next((each for each in self.effects if each.part == ELSEWHERE), None)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            **{name: value for name, value in vars(self).items() if name not in ("effects", "notes", "runs")},
            "effects": [each.to_json() for each in self.effects],
            "runs": [list(pair) for pair in self.runs],
            "notes": list(self.notes),
        }

    def describe(self) -> str:
        """A sentence for a person."""
        gain, cost = self.gain, self.cost
        if not any((each.before or each.after) for each in self.effects) and gain.gain is not None:
            return (
                f"nothing was learnt: {self.metric} 0 on the real images of {self.target} without and with, so that no gain can "
                "be told; train longer (--set steps=N), or with more images"
            )
        text = f"{_SAYS[gain.verdict]} on the real images of {self.target}: {_numbers(gain, self.metric)}"
        return text if cost is None else f"{text}; elsewhere {_numbers(cost, self.metric)}, {_COSTS[cost.verdict]}"


def store_proof(transaction: Transaction, key: str, proof: Proof) -> None:
    """Keep a proof under its id (`proof_id`); one that is there is replaced."""
    row = {
        "id": key,
        "commit": proof.commit,
        "target": proof.target,
        "task": proof.task,
        "metric": proof.metric,
        "verdict": proof.gain.verdict,
        "proof": json.dumps(proof.to_json()),
    }
    transaction.upsert(PROOFS, pa.Table.from_pylist([row], schema=_SCHEMA), "id")
    transaction.count("proofs", 1)


def stored_proof(dataset: Dataset, key: str) -> Proof | None:
    """The proof under an id; None if there is none yet."""
    return next((_read(json.loads(row["proof"])) for row in _rows(dataset) if row["id"] == key), None)


def stored_proofs(dataset: Dataset) -> list[Proof]:
    """All proofs that are kept, oldest commit first."""
    rows = sorted(_rows(dataset), key=lambda row: (row["commit"], row["id"]))
    return [_read(json.loads(row["proof"])) for row in rows]


def proof_id(key: str) -> str:
    """Id of what was asked, from all that it depends on."""
    return str(to_ids(np.array([hash_text(key)], dtype=np.uint64))[0].as_py())


def _rows(dataset: Dataset) -> list[dict[str, Any]]:
    return dataset.table(PROOFS).to_pylist() if PROOFS in dataset.commit.tables else []


def _read(values: dict[str, Any]) -> Proof:
    effects = tuple(Effect(**{**each, "seeds": tuple(each["seeds"])}) for each in values.pop("effects"))
    runs = tuple((pair[0], pair[1]) for pair in values.pop("runs"))
    return Proof(**{**values, "notes": tuple(values["notes"])}, effects=effects, runs=runs)


def _numbers(effect: Effect, metric: str) -> str:
    if effect.gain is None or effect.before is None or effect.after is None:
        return f"no {metric} can be measured"
    between = "" if effect.low is None or effect.high is None else f", 95% {effect.low:+.3f} to {effect.high:+.3f}"
    return f"{metric} {effect.before:.3f} without, {effect.after:.3f} with ({effect.gain:+.3f}{between})"


_SAYS: Final = {
    "gain": "a gain",
    "loss": "a loss",
    "no gain": "no gain",
    "cannot tell": "too few images to tell a gain",
}
_COSTS: Final = {
    "gain": "a gain there too",
    "loss": "which is the cost",
    "no gain": "no cost that could be told from chance",
    "cannot tell": "too few images to tell a cost",
}
