"""Detectors that find what they are told to: Grounding DINO (Liu et al., ECCV 2024), OWL-ViT and OWLv2 (Minderer et al., 2022).

Their own post-processing gives each box its one best text, or for Grounding DINO a text put together from the words that it
fits. Here each box gets a score for each prompt: for Grounding DINO the best of the prompt's words, as it scores boxes itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from curate.errors import UsageError
from curate.models.predictors.base import Objects, Options
from curate.models.predictors.hf.detection import keep_objects, to_numpy
from curate.models.predictors.hf.names import ClassNames
from curate.models.predictors.hf.network import Network, Prepared, quiet
from curate.models.predictors.hf.predictor import Read
from curate.models.predictors.hf.snapshots import Snapshot

_BY_WORDS: Final = frozenset({"grounding-dino", "mm-grounding-dino"})
_BY_TEXTS: Final = frozenset({"owlvit", "owlv2"})
_SEPARATORS: Final = frozenset(".?")  # by which Grounding DINO tells one thing from the next


def require_prompts(snapshot: Snapshot, prompts: Sequence[str]) -> tuple[str, ...]:
    """The prompts as they are used, before a model is loaded in vain.

    Raises:
        UsageError: There are none, or empty ones, or one twice.
    """
    texts = tuple(prompt.strip() for prompt in prompts)
    problem = (
        "the model finds what it is told to, and no prompts were given"
        if not texts
        else "a prompt is empty"
        if not all(texts)
        else "a prompt is there twice"
        if len({text.lower() for text in texts}) < len(texts)
        else None
    )
    if problem is not None:
        raise UsageError(problem, where=snapshot.source, remedy="name what to look for: --prompts 'person, forklift'")
    return texts


def add_prompts(network: Network, prompts: Sequence[str]) -> Network:
    """A network that is told what to look for.

    Raises:
        UsageError: The model cannot take these prompts, or is of a kind that is not read here.
    """
    kind = network.config.model_type
    if kind in _BY_WORDS:
        for prompt in prompts:
            if _SEPARATORS & set(prompt):
                raise UsageError(
                    f"the prompt '{prompt}' has a full stop or a question mark, which separate prompts for this model",
                    where=network.snapshot.source,
                    remedy="leave them out",
                )
        return _told(network, [_sentence(prompts)], most=network.config.max_text_len, return_token_type_ids=True)
    if kind in _BY_TEXTS:
        most = network.config.text_config.max_position_embeddings
        return _told(network, list(prompts), most=most, padding="max_length", max_length=most)
    raise UsageError(
        f"models of type '{kind}' are not supported",
        where=network.snapshot.source,
        remedy="use Grounding DINO, OWL-ViT or OWLv2",
    )


def read_prompted(network: Network, prompts: Sequence[str], options: Options) -> Read:
    """Say what the outputs of a network with prompts mean.

    Raises:
        UsageError: A prompt is made of signs that the model does not read.
    """
    import torch
    from torchvision.ops import batched_nms

    post_process = network.post_process("post_process_object_detection")
    members = _words_of_prompts(network, prompts) if network.config.model_type in _BY_WORDS else None
    names = ClassNames(tuple(prompts), np.arange(len(prompts)))

    def read(outputs: Any, prepared: Prepared) -> Objects:
        result = post_process(outputs, threshold=-1.0, target_sizes=[prepared.size])[0]  # all, in the queries' order
        probabilities = outputs.logits[0].sigmoid()
        if members is not None:
            probabilities = torch.stack([probabilities[:, words].amax(-1) for words in members], dim=1)
        scores, labels = probabilities.max(-1)
        sure = torch.nonzero(scores > options.min_score)[:, 0]
        # These models answer several times for one thing.
        kept = sure[batched_nms(result["boxes"][sure], scores[sure], labels[sure], options.nms_iou)]
        return keep_objects(
            prepared.size,
            to_numpy(result["boxes"][kept]),
            to_numpy(labels[kept]),
            to_numpy(scores[kept]),
            to_numpy(probabilities[kept]),
            names,
            options,
        )

    return read


def _told(network: Network, texts: list[str], *, most: int, **how: Any) -> Network:
    """The network with texts of at most so many word pieces as further inputs."""
    with quiet(network.snapshot):
        tokenizer = network.processor.tokenizer
        lengths = [len(tokenizer(text)["input_ids"]) for text in texts]
        if max(lengths) > most:
            worst = "the prompts are" if len(texts) == 1 else f"the prompt '{texts[int(np.argmax(lengths))]}' is"
            raise UsageError(
                f"{worst} too long: {max(lengths)} word pieces, and the model takes {most}",
                where=network.snapshot.source,
                remedy="give shorter ones"
                if len(texts) > 1
                else "give fewer at a time, each set to a layer of its own",
            )
        inputs = tokenizer(texts, return_tensors="pt", **how)
    return replace(network, beside={name: value for name, value in inputs.items() if name in _taken(network)})


def _taken(network: Network) -> set[str]:
    """What the model's `forward` takes."""
    import inspect

    return set(inspect.signature(network.model.forward).parameters)


def _sentence(prompts: Sequence[str]) -> str:
    """Prompts as Grounding DINO reads them: 'person. forklift.'"""
    return ". ".join(prompt.lower() for prompt in prompts) + "."


def _words_of_prompts(network: Network, prompts: Sequence[str]) -> list[Any]:
    """The numbers of the word pieces that each prompt became in the sentence; int64 tensors.

    Raises:
        UsageError: A prompt became none.
    """
    import torch

    sentence = _sentence(prompts)
    places = network.processor.tokenizer(sentence, return_offsets_mapping=True)["offset_mapping"]
    words = []
    start = 0
    for prompt in prompts:
        end = start + len(prompt.lower())
        inside = [place for place, (left, right) in enumerate(places) if start <= left < right <= end]
        if not inside:
            raise UsageError(
                f"the model's tokenizer makes nothing of the prompt '{prompt}'",
                where=network.snapshot.source,
                remedy="leave it out, or put it in other words",
            )
        words.append(torch.tensor(inside, device=network.device))
        start = end + len(". ")
    return words
