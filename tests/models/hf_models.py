"""Tiny models of transformers with random weights, saved as `save_pretrained` does; and pictures whose content is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
import transformers

from curate.imaging import Pixels
from curate.models.predictors.base import Options
from curate.models.predictors.hf.load import load
from curate.models.predictors.hf.predictor import HfPredictor

SIZES: Final = ((50, 90), (90, 50), (50, 90), (64, 64))
"""(height, width): two alike, so that they go through a model together, and none of the size that a model sees."""

BOXES: Final = ((10, 5, 30, 20), (5, 40, 22, 40), (60, 20, 25, 25), (0, 0, 64, 32))
"""[x, y, width, height] on each of them."""

CLASSES: Final = ("bolt", "nut")
_LETTERS: Final = ["<pad>", "<s>", "</s>", *(chr(97 + i) + end for i in range(26) for end in ("", "</w>"))]
_WORDS: Final = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", "bolt", "nut", "red", "green"]


def save(name: str, folder: Path, *, classes: tuple[str, ...] = CLASSES, **changes: Any) -> Path:
    """Save a model and its processor.

    Args:
        name: One of `_MODELS`.
        folder: Where to; made if it is not there.
        classes: Names by number.
        changes: Of the configuration, after the model is made.
    """
    torch.manual_seed(0)
    labels = {"id2label": dict(enumerate(classes)), "label2id": {each: i for i, each in enumerate(classes)}}
    model, processor = _MODELS[name](labels)
    with torch.no_grad():
        for key, parameter in model.named_parameters():  # as they are initialised, all classes are alike everywhere
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
            elif "class" in key:
                parameter.zero_()
    for key, value in changes.items():
        setattr(model.config, key, value)
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def open_model(folder: Path, task: str | None = None, **options: Any) -> HfPredictor:
    """Load it as a predictor."""
    predictor = load(str(folder) + ("" if task is None else f"?task={task}"), Options(**options))
    assert isinstance(predictor, HfPredictor)
    return predictor


def noise(seed: int = 0) -> list[Pixels]:
    """Pictures of `SIZES` that look like nothing."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]


def rectangle(size: tuple[int, int], box: tuple[int, int, int, int]) -> Pixels:
    """A white rectangle ([x, y, width, height]) on black."""
    pixels = np.zeros((*size, 3), np.uint8)
    x, y, width, height = box
    pixels[y : y + height, x : x + width] = 255
    return pixels


def rectangles(boxes: Sequence[tuple[int, int, int, int]]) -> list[Pixels]:
    """One on a picture of each of `SIZES`."""
    return [rectangle(size, box) for size, box in zip(SIZES, boxes, strict=True)]


def iou(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


def with_oracle(predictor: HfPredictor, oracle: Callable[..., Any]) -> HfPredictor:
    """The predictor with a function in place of its network, so that what it should find is known."""

    def model(**inputs: Any) -> Any:
        fields = vars(oracle(SimpleNamespace(**inputs)))
        return dataclasses.make_dataclass("Outputs", list(fields))(**fields)

    return dataclasses.replace(predictor, network=dataclasses.replace(predictor.network, model=model))


def white(pixel_values: torch.Tensor) -> torch.Tensor:
    """Which pixels of normalised images are white; padding is not. Bool of shape (n, height, width)."""
    return pixel_values[:, 0] > 0.5


def white_boxes(pixel_values: torch.Tensor) -> torch.Tensor:
    """The box around what is white, as middle and size in parts of the image's sides. Shape (n, 4)."""
    boxes = []
    for there in white(pixel_values):
        (height, width), (rows, columns) = there.shape, torch.nonzero(there).T
        left, right, top, bottom = columns.min(), columns.max() + 1, rows.min(), rows.max() + 1
        middle = [(left + right) / 2 / width, (top + bottom) / 2 / height]
        boxes.append(torch.tensor([*middle, (right - left) / width, (bottom - top) / height]))
    return torch.stack(boxes)


def _swin(out: tuple[str, ...]) -> Any:
    return transformers.SwinConfig(
        image_size=64, embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=4, out_features=list(out)
    )


def _resnet(out: tuple[str, ...]) -> Any:
    return transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8] * 4, depths=[1] * 4, layer_type="basic", out_features=list(out)
    )


_SMALL: Final = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
_LAYERS: Final = {
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
}
_STAGES: Final = ("stage1", "stage2", "stage3", "stage4")
_EDGES: Final = {"shortest_edge": 64, "longest_edge": 100}
_SQUARE: Final = {"height": 64, "width": 64}


def _detr(labels: Any) -> Any:
    config = transformers.DetrConfig(
        use_timm_backbone=False,
        backbone=None,
        backbone_config=_resnet(("stage4",)),
        d_model=16,
        num_queries=7,
        **_LAYERS,
        **labels,
    )
    return transformers.DetrForObjectDetection(config), transformers.DetrImageProcessor(size=_EDGES)


def _yolos(labels: Any) -> Any:
    config = transformers.YolosConfig(image_size=[64, 64], num_detection_tokens=7, **_SMALL, **labels)
    return transformers.YolosForObjectDetection(config), transformers.YolosImageProcessor(size=_EDGES)


def _rtdetr(labels: Any) -> Any:
    backbone = transformers.RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8] * 4, depths=[1] * 4, layer_type="basic", out_features=list(_STAGES[1:])
    )
    config = transformers.RTDetrConfig(
        backbone_config=backbone,
        encoder_in_channels=[8] * 3,
        encoder_hidden_dim=16,
        decoder_in_channels=[16] * 3,
        d_model=16,
        num_queries=9,
        num_denoising=0,
        **_LAYERS,
        **labels,
    )
    return transformers.RTDetrForObjectDetection(config), transformers.RTDetrImageProcessor(size=_SQUARE)


def _segformer(labels: Any) -> Any:
    config = transformers.SegformerConfig(
        depths=[1] * 4, hidden_sizes=[8] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=8, **labels
    )
    return transformers.SegformerForSemanticSegmentation(config), transformers.SegformerImageProcessor(size=_SQUARE)


def _mask2former(labels: Any, **padding: Any) -> Any:
    config = transformers.Mask2FormerConfig(
        backbone_config=_swin(_STAGES),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=16,
        num_queries=6,
        **labels,
    )
    return transformers.Mask2FormerForUniversalSegmentation(config), transformers.Mask2FormerImageProcessor(
        size={"shortest_edge": 60, "longest_edge": 128}, **padding
    )


def _detr_segments(labels: Any) -> Any:
    config = transformers.DetrConfig(
        use_timm_backbone=False,
        backbone=None,
        backbone_config=_resnet(_STAGES),
        num_queries=7,
        **_LAYERS | {"d_model": 64, "encoder_attention_heads": 8, "decoder_attention_heads": 8},
        **labels,
    )
    return transformers.DetrForSegmentation(config), transformers.DetrImageProcessor(size=_EDGES)


def _oneformer(labels: Any) -> Any:
    config = transformers.OneFormerConfig(
        backbone_config=_swin(_STAGES),
        text_encoder_width=16,
        text_encoder_context_length=8,
        text_encoder_num_layers=1,
        text_encoder_vocab_size=len(_LETTERS),
        text_encoder_proj_layers=1,
        text_encoder_n_ctx=2,
        conv_dim=32,
        mask_dim=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=16,
        num_queries=6,
        query_dec_layers=1,
        task_seq_len=40,
        max_seq_len=8,
        **labels,
    )
    images = transformers.OneFormerImageProcessor(size={"shortest_edge": 64, "longest_edge": 128})
    images.class_info_file = "ade20k_panoptic.json"  # which is on the hub only
    processor = transformers.OneFormerProcessor(images, _clip_tokenizer(), task_seq_length=40)
    return transformers.OneFormerForUniversalSegmentation(config), processor


def _eomt(labels: Any, *, in_parts: bool = False) -> Any:
    config = transformers.EomtConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_blocks=1,
        num_attention_heads=2,
        mlp_ratio=1,
        image_size=64,
        patch_size=16,
        num_queries=5,
        num_register_tokens=1,
        num_upscale_blocks=1,
        **labels,
    )
    size = {"shortest_edge": 64, "longest_edge": None if in_parts else 64}
    processor = transformers.EomtImageProcessor(size=size, do_split_image=in_parts, do_pad=not in_parts)
    return transformers.EomtForUniversalSegmentation(config), processor


def _vit(labels: Any) -> Any:
    config = transformers.ViTConfig(image_size=32, patch_size=16, **_SMALL, **labels)
    return transformers.ViTForImageClassification(config), transformers.ViTImageProcessor(
        size=_SQUARE | {"height": 32, "width": 32}
    )


def _depth_anything(labels: Any, **how: Any) -> Any:
    backbone = transformers.Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        mlp_ratio=1,
        image_size=56,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        patch_size=14,
        neck_hidden_sizes=[8] * 4,
        fusion_hidden_size=8,
        head_hidden_size=8,
        **how,
    )
    return transformers.DepthAnythingForDepthEstimation(config), transformers.DPTImageProcessor(
        size={"height": 56, "width": 56}, keep_aspect_ratio=True, ensure_multiple_of=14
    )


def _sam2(labels: Any) -> Any:
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=8,
        num_attention_heads=1,
        image_size=[128, 128],
        blocks_per_stage=[1] * 4,
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1] * 4,
        window_size_per_stage=[4] * 4,
        global_attention_blocks=[],
        mlp_ratio=1.0,
        window_positional_embedding_background_size=[2, 2],
    )
    vision = transformers.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
        fpn_hidden_size=32,
    )
    config = transformers.Sam2Config(vision_config=vision.to_dict(), **_sam_decoder(128))
    images = transformers.Sam2ImageProcessor(size={"height": 128, "width": 128})
    return transformers.Sam2Model(config), transformers.Sam2Processor(images)


def _sam(labels: Any) -> Any:
    vision = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "mlp_dim": 16,
        "image_size": 64,
        "patch_size": 16,
        "output_channels": 32,
        "global_attn_indexes": [0],
        "window_size": 2,
        "num_pos_feats": 16,
    }
    images = transformers.SamImageProcessor(size={"longest_edge": 64}, pad_size=_SQUARE)
    config = transformers.SamConfig(vision_config=vision, **_sam_decoder(64))
    return transformers.SamModel(config), transformers.SamProcessor(images)


def _sam_decoder(size: int) -> dict[str, Any]:
    return {
        "prompt_encoder_config": {"hidden_size": 32, "image_size": size, "patch_size": 16, "mask_input_channels": 4},
        "mask_decoder_config": {
            "hidden_size": 32,
            "mlp_dim": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
    }


def _grounding_dino(labels: Any) -> Any:
    text = transformers.BertConfig(vocab_size=1100, max_position_embeddings=64, **_SMALL)
    config = transformers.GroundingDinoConfig(
        backbone_config=_swin(_STAGES[1:]),
        text_config=text,
        num_queries=8,
        max_text_len=24,
        **_LAYERS | {"d_model": 32, "decoder_layers": 2},
    )
    images = transformers.GroundingDinoImageProcessor(size={"shortest_edge": 128, "longest_edge": 200})
    tokenizer = transformers.BertTokenizer(vocab={word: i for i, word in enumerate(_WORDS)})
    return transformers.GroundingDinoForObjectDetection(config), transformers.GroundingDinoProcessor(images, tokenizer)


def _owl(kind: str) -> Callable[[Any], Any]:
    def build(labels: Any) -> Any:
        text = {"vocab_size": len(_LETTERS), "max_position_embeddings": 8, "pad_token_id": 0, **_SMALL}
        text |= {"bos_token_id": 1, "eos_token_id": 2}
        vision = {"image_size": 64, "patch_size": 16, **_SMALL}
        config = getattr(transformers, f"{kind}Config")(text_config=text, vision_config=vision, projection_dim=16)
        images = getattr(transformers, f"{kind}ImageProcessor")(size=_SQUARE)
        processor = getattr(transformers, f"{kind}Processor")(images, _clip_tokenizer())
        return getattr(transformers, f"{kind}ForObjectDetection")(config), processor

    return build


def _clip_tokenizer() -> Any:
    """One that knows letters only."""
    vocab = {piece: i for i, piece in enumerate(_LETTERS)}
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "</s>"}
    return transformers.CLIPTokenizer(vocab=vocab, merges=[], model_max_length=8, **special)


_MODELS: Final[dict[str, Callable[[Any], Any]]] = {
    "depth_anything": _depth_anything,
    "depth_anything_metric": lambda labels: _depth_anything(labels, depth_estimation_type="metric", max_depth=20),
    "detr": _detr,
    "detr_segments": _detr_segments,
    "eomt": _eomt,
    "eomt_in_parts": lambda labels: _eomt(labels, in_parts=True),
    "grounding_dino": _grounding_dino,
    "mask2former": _mask2former,
    "mask2former_padded": lambda labels: _mask2former(labels, pad_size={"height": 192, "width": 160}),
    "oneformer": _oneformer,
    "owlv2": _owl("Owlv2"),
    "owlvit": _owl("OwlViT"),
    "rtdetr": _rtdetr,
    "sam": _sam,
    "sam2": _sam2,
    "segformer": _segformer,
    "vit": _vit,
    "yolos": _yolos,
}
