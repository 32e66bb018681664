"""OneFormer (Jain et al., CVPR 2023): told in words whether things or classes of pixels are wanted."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from curate.models.predictors.base import Task
from curate.models.predictors.hf.network import Network, load_network, quiet
from curate.models.predictors.hf.snapshots import Snapshot

_WORDS: Final = {"instances": "the task is instance", "segment": "the task is semantic"}


def load_oneformer(snapshot: Snapshot, auto: str, task: Task) -> Network:
    """Load a OneFormer and tell it its task.

    Raises:
        InputError: As for `load_network`.
    """
    # That file is on the hub, in a repository of its own, and only training needs it.
    network = load_network(snapshot, auto, settings={"class_info_file": None})
    with quiet(snapshot) as transformers:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            snapshot.folder, local_files_only=True, trust_remote_code=False
        )
        tokens = tokenizer(
            [_WORDS[task]],
            padding="max_length",
            max_length=network.config.task_seq_len,
            truncation=True,
            return_tensors="pt",
        )
    return replace(network, beside={"task_inputs": tokens["input_ids"] * tokens["attention_mask"]})
