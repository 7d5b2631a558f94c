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
from jaxtyping import UInt8

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
    """The largest difference (years) between the expected ages of model.onnx and of torch in double precision.

    Raises ValueError where it is more than TOLERANCE and more than twice what torch's own single precision differs by:
    such a model must not be used.
    """
    engine, exact = Engine(model), copy.deepcopy(net).double()
    worst, rounding = 0.0, 0.0
    for part in np.array_split(faces, max(1, len(faces) // 32)):
        with torch.inference_mode():
            pixels = torch.from_numpy(np.ascontiguousarray(part)).permute(0, 3, 1, 2)
            expected, single = exact.from_pixels(pixels.double()).numpy(), net.from_pixels(pixels.float()).numpy()
        years = np.arange(expected.shape[1])
        worst = max(worst, float(np.abs((engine(part) - expected) @ years).max()))
        rounding = max(rounding, float(np.abs((single - expected) @ years).max()))
    if not worst <= max(TOLERANCE, 2 * rounding):
        raise ValueError(
            f"model.onnx differs from the trained network by {worst:.2g} years, more than {TOLERANCE:g}: this network "
            "cannot be exported with these versions of torch and onnxruntime"
        )
    return worst
