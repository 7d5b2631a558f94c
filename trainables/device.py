"""Precision and determinism of a device, set in one place."""

from __future__ import annotations

import torch

from trainables.config import TrialConfig


def set_up(config: TrialConfig, device: torch.device) -> None:
    """Set the device's precision and determinism as the config says. Call it before anything is computed.

    CPU: nothing is set. The same config, faces, versions, kind of processor and number of threads give the same
    result, bit for bit.
    GPU: cuDNN uses deterministic algorithms and does not choose them by timing. With precision "float32" every product
    is float32; otherwise TF32 is allowed where autocast leaves float32. The same kind of GPU and the same versions then
    give the same result, as far as PyTorch has deterministic kernels. It has none for the backward pass of adaptive
    pooling (AlexNet, VGG), indexing (Swin's position tables) and fused attention (ViT, Swin), which add in no fixed
    order.
    Random numbers come from the config's seed and the step, so they do not depend on what ran before.
    """
    if device.type == "cuda":
        exact = config.precision == "float32"
        torch.set_float32_matmul_precision("highest" if exact else "high")
        torch.backends.cudnn.allow_tf32 = not exact
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


def autocast(config: TrialConfig, device: torch.device) -> torch.autocast:
    """An autocast context: bfloat16, or disabled (see resolve_precision)."""
    mixed = resolve_precision(config, device.type) == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=mixed)


def resolve_precision(config: TrialConfig, device: str) -> str:
    """The config's precision on a type of device: "auto" is bfloat16 on "cuda" and float32 on "cpu"."""
    if config.precision == "auto":
        return "bfloat16" if device == "cuda" else "float32"
    return config.precision
