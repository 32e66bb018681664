"""Predictors of transformers by spec.

    hf:PekingU/rtdetr_r18vd                       by id on the Hugging Face hub
    hf:PekingU/rtdetr_r18vd@4f3b1c0               at a revision: a branch, tag or commit
    hf:/data/my-detr                              a folder that save_pretrained wrote
    hf:IDEA-Research/grounding-dino-tiny          finds what --prompts name
    hf:facebook/sam2.1-hiera-tiny                 masks of what is in boxes
    hf:/data/mask2former?task=segment             a class for each pixel, of a model that can find things as well

What a model does follows from its configuration; ``?task=`` says it where several things are possible. Weights are safetensors
only, and no code of a model's own is run. A name ends in the commit of the hub, or in a digest of the folder's files.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from curate.errors import InputError
from curate.models.predictors.base import BoxSegmenter, Options, Predictor, Task
from curate.models.predictors.hf.box_masks import HfBoxSegmenter
from curate.models.predictors.hf.classification import read_classes
from curate.models.predictors.hf.depth import read_depth
from curate.models.predictors.hf.detection import read_objects
from curate.models.predictors.hf.masks import read_class_map, read_instances
from curate.models.predictors.hf.names import ClassNames, class_names
from curate.models.predictors.hf.network import Network, load_network, quiet, require_packages
from curate.models.predictors.hf.oneformer import load_oneformer
from curate.models.predictors.hf.predictor import HfPredictor, Read
from curate.models.predictors.hf.prompted import add_prompts, read_prompted, require_prompts
from curate.models.predictors.hf.roles import Part, choose_part
from curate.models.predictors.hf.snapshots import CONFIG, Snapshot, find_snapshot

_TASK: Final = "?task="


def load(argument: str, options: Options) -> Predictor | BoxSegmenter:
    """Load a model of transformers.

    Args:
        argument: As in the module's docstring, without 'hf:'.
        options: Thresholds; prompts for a model that finds what it is told to.

    Raises:
        UsageError: No such task or kind of model, or prompts that are missing or more than it takes.
        InputError: The folder lacks files, or they are not those of a model that finds things on images.
        UnavailableError: The model is not on this disk and cannot be fetched; `MissingExtra` for a package.
    """
    spec, found, asked = argument.partition(_TASK)
    require_packages()
    snapshot = find_snapshot(spec)
    with quiet(snapshot):
        part = choose_part(snapshot, asked if found else None)
    name = f"hf:{snapshot.source}@{snapshot.version}{found}{asked}"
    if part.role == "prompted":
        prompts = require_prompts(snapshot, options.prompts)
        network = add_prompts(load_network(snapshot, part.auto, processor="AutoProcessor"), prompts)
        read = read_prompted(network, prompts, options)
        return HfPredictor(name, "detect", prompts, network, read)
    if part.task is None:
        return HfBoxSegmenter(name, load_network(snapshot, part.auto, processor="AutoProcessor"))
    network = _load_closed(snapshot, part, part.task)
    names = _names(network, part.task)
    return HfPredictor(name, part.task, names.names, network, _read(network, part, part.task, names, options))


def _load_closed(snapshot: Snapshot, part: Part, task: Task) -> Network:
    """A network whose classes are fixed."""
    if snapshot.read(CONFIG).get("model_type") == "oneformer":
        return load_oneformer(snapshot, part.auto, task)
    return load_network(snapshot, part.auto)


def _names(network: Network, task: Task) -> ClassNames:
    if task == "depth":
        return ClassNames((), np.zeros(0, np.int64))
    config = network.config
    if task == "classify" and (config.num_labels == 1 or config.problem_type == "regression"):
        raise InputError(
            "the model gives a number, not a class",
            where=network.snapshot.folder / CONFIG,
            remedy="choose a classifier of two classes or more",
        )
    return class_names(network.snapshot, config.id2label, leave_out_nothing=task == "segment")


def _read(network: Network, part: Part, task: Task, names: ClassNames, options: Options) -> Read:
    if task == "detect":
        return read_objects(network, names, options)
    if task == "instances":
        return read_instances(network, names, options)
    if task == "segment":
        return read_class_map(network, names, universal=part.role == "universal")
    return read_depth(network) if task == "depth" else read_classes(network, names)
