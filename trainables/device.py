"""How a device computes: precision and determinism, set in one place."""

from __future__ import annotations

import torch

from trainables.config import TrialConfig


def set_up(config: TrialConfig, device: torch.device) -> None:
    """Make the device compute as the config says: called by whatever computes, before it does.

    On a processor nothing is set, and a config's result is the same to the last bit for the same faces, versions, kind
    of processor and number of threads. On a GPU cuDNN takes deterministic algorithms, chosen without timing them, and
    precision "float32" is float32 in every product (else TF32 may stand in for what autocast leaves in float32): there
    a result is the same again on the same kind of GPU with the same versions, as far as PyTorch has deterministic
    kernels. It has none for the backward pass of adaptive pooling (AlexNet, VGG), of indexing (Swin's position tables)
    and of fused attention (ViT, Swin), which add in no fixed order.
    Random numbers come from the config's seed and the step, never from what ran before.
    """
    if device.type == "cuda":
        exact = config.precision == "float32"
        torch.set_float32_matmul_precision("highest" if exact else "high")
        torch.backends.cudnn.allow_tf32 = not exact
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


def autocast(config: TrialConfig, device: torch.device) -> torch.autocast:
    """Mixed precision as resolve_precision says."""
    mixed = resolve_precision(config, device.type) == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=mixed)


def resolve_precision(config: TrialConfig, device: str) -> str:
    """What config.precision means on a kind of device: "auto" is bfloat16 on a GPU ("cuda"), float32 on a processor."""
    if config.precision == "auto":
        return "bfloat16" if device == "cuda" else "float32"
    return config.precision
