"""Four small networks for small pictures, of one width and depth, that differ in one thing each.

    small_cnn        convolutions alone (as in VGG: Simonyan and Zisserman, ICLR 2015)
    small_resnet     the same with a way around every two (He et al., CVPR 2016)
    small_seresnet   the same with squeeze-and-excitation (Hu et al., CVPR 2018)
    small_vit        attention between patches of 8 pixels (Dosovitskiy et al., ICLR 2021)

They are made of timm's blocks for 32 pixels, and begin from scratch: there are no weights of them. `register` puts them among
timm's own, so that they are named, trained and exported like those.
"""

from __future__ import annotations

from typing import Any, Final

_WIDTHS: Final = (16, 32, 64)
_BLOCKS: Final = 2  # of each width, of two convolutions each

_SQUEEZED: Final = 0.25
_PATCH: Final = 8
_VIT: Final = {"embed_dim": 80, "depth": 4, "num_heads": 4, "mlp_ratio": 2.0}

_CONFIG: Final = {
    "input_size": (3, 32, 32), "num_classes": 1000, "interpolation": "bicubic", "crop_pct": 1.0,
    "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225),
}  # fmt: skip
_CONVOLUTIONAL: Final = {**_CONFIG, "first_conv": "stem.conv", "classifier": "head.fc", "pool_size": (4, 4)}

default_cfgs: Final[dict[str, dict[str, Any]]] = {
    "small_cnn": _CONVOLUTIONAL,
    "small_resnet": _CONVOLUTIONAL,
    "small_seresnet": _CONVOLUTIONAL,
    "small_vit": {**_CONFIG, "first_conv": "patch_embed.proj", "classifier": "head", "fixed_input_size": True},
}
"""What timm wants to know of each; it looks for this name."""


def register() -> None:
    """Put the networks among those of timm, once."""
    from timm.models import is_model, register_model

    for make in (small_cnn, small_resnet, small_seresnet, small_vit):
        if not is_model(make.__name__):
            register_model(make)


def small_cnn(pretrained: bool = False, **settings: Any) -> Any:
    """Thirteen 3x3 convolutions with batch norm and ReLU, and nothing around them; see timm.create_model."""
    from timm.models.byobnet import BasicBlock

    network = _convolutions("small_cnn", pretrained, zero_init_last=False, **settings)
    for block in network.modules():
        if isinstance(block, BasicBlock):
            block.shortcut = None
    return network


def small_resnet(pretrained: bool = False, **settings: Any) -> Any:
    """The same convolutions with a shortcut past every two; see timm.create_model."""
    return _convolutions("small_resnet", pretrained, **settings)


def small_seresnet(pretrained: bool = False, **settings: Any) -> Any:
    """The same with channels weighed by what all of the picture shows; see timm.create_model."""
    return _convolutions("small_seresnet", pretrained, attention="se", **settings)


def small_vit(pretrained: bool = False, **settings: Any) -> Any:
    """Four layers of attention between 16 patches; the mean over the patches is classified; see timm.create_model."""
    from timm.models import build_model_with_cfg
    from timm.models.vision_transformer import VisionTransformer

    shape = {"img_size": 32, "patch_size": _PATCH, "class_token": False, "global_pool": "avg", **_VIT}
    return build_model_with_cfg(VisionTransformer, "small_vit", pretrained, **{**shape, **settings})


def _convolutions(name: str, pretrained: bool, *, attention: str | None = None, **settings: Any) -> Any:
    from timm.models import build_model_with_cfg
    from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg

    shape = ByoModelCfg(
        blocks=tuple(
            ByoBlockCfg(type="basic", d=_BLOCKS, c=width, s=1 if number == 0 else 2)
            for number, width in enumerate(_WIDTHS)
        ),
        stem_chs=_WIDTHS[0],
        stem_pool=None,
        attn_layer=attention,
        attn_kwargs={"rd_ratio": _SQUEEZED} if attention else {},
    )
    return build_model_with_cfg(ByobNet, name, pretrained, model_cfg=shape, **settings)
