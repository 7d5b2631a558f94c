"""A model's network in torch: for the export to ONNX and for explanations. Predicting needs none of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from study.artifacts.model import ModelRecord, sha256
from trainables.backbones import AgeNet
from trainables.checkpoints import MODEL
from trainables.config import TrialConfig
from trainables.fitting import build_net


def weights_file(index: int) -> str:
    """The file of a seed's tensors: the first seed's makes the folder a checkpoint, too."""
    return MODEL if index == 0 else f"model-{index + 1}.safetensors"


class MeanNet(nn.Module):
    """Faces to the mean distribution over ages of several trainings; with mirror also over each face's mirror image."""

    def __init__(self, nets: Sequence[AgeNet], *, mirror: bool) -> None:
        super().__init__()
        self.nets, self.mirror = nn.ModuleList(nets), mirror

    def forward(self, faces: UInt8[Tensor, "faces px px 3"]) -> Float[Tensor, "faces ages"]:
        return self.from_pixels(faces.permute(0, 3, 1, 2).float())

    def from_pixels(self, pixels: Float[Tensor, "faces 3 px px"]) -> Float[Tensor, "faces ages"]:
        """forward() of floating-point pixels (0 to 255), channels first."""
        # The views one below the other, and each network once: half the time to export it
        views = torch.cat([pixels, pixels.flip(3)]) if self.mirror else pixels
        found = torch.stack([net(views).softmax(dim=1) for net in self.nets])
        return found.reshape(len(self.nets) * (1 + self.mirror), -1, found.shape[2]).mean(dim=0)


def mean_net(config: TrialConfig, states: Sequence[Mapping[str, Tensor]]) -> MeanNet:
    """The network of these tensors, one set a seed, ready to predict."""
    nets = [build_net(config.replace(weights="random"), state) for state in states]
    return MeanNet(nets, mirror=config.views == "face+mirror").eval()


def read_net(folder: Path) -> MeanNet:
    """The network in a model folder. Raises ValueError where its weights are not those that its record describes."""
    record = ModelRecord.read(folder)
    return mean_net(TrialConfig.from_json(record.trial), read_states(folder, record))


def read_states(folder: Path, record: ModelRecord) -> list[dict[str, Tensor]]:
    """The tensors of each seed. Raises ValueError where a file is not the one that the record describes."""
    states = []
    for index in range(len(record.seeds)):
        name = weights_file(index)
        data = (folder / name).read_bytes()
        if sha256(data) != record.files.get(name):
            raise ValueError(
                f"{folder / name} was damaged or replaced: copy the folder again, or run study.refit again"
            )
        states.append(safetensors.torch.load(data))
    return states
