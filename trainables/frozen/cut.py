"""Splits a network into early stages, which stay as they were pretrained, and later ones, which train on their output.

The output of the stem and the first K stages depends only on the face and the pretrained weights. With those weights
fixed, it can be computed once and used by every training (trainables.frozen.features).
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trainables.backbones import AgeNet


class LaterNet(AgeNet):
    """An AgeNet without its first stages: from their output to logits. Parameters keep their names."""

    def forward(self, pixels: Float[Tensor, " batch *features"]) -> Float[Tensor, "batch ages"]:
        return self.network(pixels)


def stages_of(net: AgeNet) -> list[list[str]]:
    """Names of the network's modules per stage, in the order of its forward pass. The stem is part of the first stage.

    What a stage is depends on the family: a group of blocks at one resolution, a quarter of a ViT's blocks, or the
    layers up to a pooling in VGG and AlexNet. Raises ValueError for a family that cannot be split.
    """
    network = net.network
    kind = type(network).__name__
    if kind not in _FAMILIES:
        raise ValueError(f"{kind} cannot be frozen: expected frozen=0, or one of {', '.join(_FAMILIES)}")
    stem, stages = _FAMILIES[kind](network)
    return [stem + stages[0], *stages[1:]]


def later_stages(net: AgeNet, frozen: int) -> LaterNet:
    """A copy of the net that takes the output of early_stages. Raises ValueError where it has fewer stages."""
    later = copy.deepcopy(net)
    for name in _first(net, frozen):
        parent, _, child = name.rpartition(".")
        setattr(later.network.get_submodule(parent), child, nn.Identity())
    if hasattr(later.network, "_pos_embed"):  # a ViT adds position embeddings outside any module
        later.network._pos_embed = _identity  # type: ignore[assignment]
        later.network.norm_pre = nn.Identity()
    later.__class__ = LaterNet
    return later  # type: ignore[return-value]


def early_stages(net: AgeNet, frozen: int) -> Callable[[Tensor], Tensor]:
    """A function from pixels (batch 3 px px) to the output of the stem and the first `frozen` stages, in eval mode."""
    last = net.network.get_submodule(_first(net, frozen)[-1])
    net.eval()

    @torch.inference_mode()
    def features(pixels: Tensor) -> Tensor:
        found: list[Tensor] = []

        def stop(_: nn.Module, __: object, output: Tensor) -> None:
            found.append(output)
            raise _Reached

        handle = last.register_forward_hook(stop)
        try:
            net(pixels)
        except _Reached:
            pass
        finally:
            handle.remove()
        return found[0]

    return features


def _first(net: AgeNet, frozen: int) -> list[str]:
    stages = stages_of(net)
    if not 1 <= frozen <= len(stages):
        raise ValueError(f"{type(net.network).__name__} has {len(stages)} stages to freeze, got frozen={frozen}")
    return [name for stage in stages[:frozen] for name in stage]


class _Reached(Exception):
    """Stops the forward pass after the last frozen module."""


def _identity(x: Tensor) -> Tensor:
    return x


def _children(name: str, *stem: str) -> Callable[[nn.Module], tuple[list[str], list[list[str]]]]:
    """A family whose stages are the children of one module."""
    return lambda network: (list(stem), [[f"{name}.{i}"] for i in range(len(network.get_submodule(name)))])  # type: ignore[arg-type]


def _until_pooling(network: nn.Module) -> tuple[list[str], list[list[str]]]:
    stages: list[list[str]] = [[]]
    for name, layer in network.get_submodule("features").named_children():
        stages[-1].append(f"features.{name}")
        if isinstance(layer, nn.MaxPool2d):
            stages.append([])
    return [], [stage for stage in stages if stage]


def _resnet(_: nn.Module) -> tuple[list[str], list[list[str]]]:
    return ["conv1", "bn1", "act1", "maxpool"], [[f"layer{i}"] for i in range(1, 5)]


def _quarters(network: nn.Module) -> tuple[list[str], list[list[str]]]:
    blocks = [f"blocks.{i}" for i in range(len(network.get_submodule("blocks")))]  # type: ignore[arg-type]
    quarter = max(1, len(blocks) // 4)
    return ["patch_embed"], [blocks[i : i + quarter] for i in range(0, len(blocks), quarter)]


_FAMILIES: dict[str, Callable[[nn.Module], tuple[list[str], list[list[str]]]]] = {
    "EfficientNet": _children("blocks", "conv_stem", "bn1"),
    "ResNet": _resnet,
    "ConvNeXt": _children("stages", "stem"),
    "SwinTransformer": _children("layers", "patch_embed"),
    "VisionTransformer": _quarters,
    "VGG": _until_pooling,
    "AlexNet": _until_pooling,
}
