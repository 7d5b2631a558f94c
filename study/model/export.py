"""model.onnx: the network with its normalisation, its views, its seeds and the softmax, checked against torch."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from study.model.engine import INPUT, OUTPUT, Engine
from study.model.network import MeanNet

TOLERANCE = 1e-4
"""Largest allowed difference of an age (years)."""

CHECKED = 200
"""Faces that the two are compared on, at most."""


def export_onnx(net: MeanNet, file: Path, *, px: int) -> None:
    """Write the network: uint8 RGB faces (faces, px, px, 3), any number of them, to distributions (faces, ages)."""
    example = torch.zeros(2, px, px, 3, dtype=torch.uint8)
    silence = io.StringIO()
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(silence), torch.inference_mode():
            warnings.simplefilter("ignore")  # of the exporter's own code
            program = torch.onnx.export(
                net,
                (example,),
                dynamo=True,
                dynamic_shapes={INPUT: {0: torch.export.Dim("batch", min=1, max=65536)}},
                input_names=[INPUT],
                output_names=[OUTPUT],
                verbose=False,
            )
        if program is None:
            raise ValueError("torch exported nothing")
        program.save(str(file), external_data=False)
    finally:
        logging.getLogger("torch.onnx").setLevel(level)


def largest_difference(net: MeanNet, model: bytes, faces: UInt8[np.ndarray, "faces px px 3"]) -> float:
    """The largest difference (years) between the expected ages of model.onnx and of torch.

    Raises ValueError where it is more than TOLERANCE and more than what single precision explains: model.onnx is then
    further from torch's double precision than twice what torch's own single precision is. Such a model must not be
    used. (Double precision takes many times as long, so it is only asked then.)
    """
    found = _expected_ages(Engine(model), faces)
    single = _expected_ages(_Torch(net, torch.float32), faces)
    worst = _largest(found - single)
    if not worst <= TOLERANCE:
        exact = _expected_ages(_Torch(copy.deepcopy(net).double(), torch.float64), faces)
        worst = _largest(found - exact)
        if not worst <= max(TOLERANCE, 2 * _largest(single - exact)):
            raise ValueError(
                f"model.onnx differs from the trained network by {worst:.2g} years, more than {TOLERANCE:g}: this "
                "network cannot be exported with these versions of torch and onnxruntime"
            )
    return worst


class _Torch:
    """The network in torch, as an Engine answers."""

    def __init__(self, net: MeanNet, dtype: torch.dtype) -> None:
        self.net, self.dtype = net, dtype

    @torch.inference_mode()
    def __call__(self, faces: UInt8[np.ndarray, "faces px px 3"]) -> Float[np.ndarray, "faces ages"]:
        pixels = torch.from_numpy(np.ascontiguousarray(faces)).permute(0, 3, 1, 2)
        return self.net.from_pixels(pixels.to(self.dtype)).numpy()


def _expected_ages(net: Engine | _Torch, faces: UInt8[np.ndarray, "faces px px 3"]) -> Float[np.ndarray, " faces"]:
    """Expected ages, some faces at a time."""
    found = np.concatenate([net(part) for part in np.array_split(faces, max(1, len(faces) // 32))])
    return found @ np.arange(found.shape[1])


def _largest(differences: Float[np.ndarray, " faces"]) -> float:
    return float(np.abs(differences).max())
