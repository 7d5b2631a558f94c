"""model.onnx in ONNX Runtime: faces in, distributions over ages out. Needs neither torch nor the training's code."""

from __future__ import annotations

import math

import numpy as np
import onnxruntime
from jaxtyping import Float32, UInt8

BATCH = 64
"""Faces at once: more are no faster on a processor, and take more memory."""

INPUT, OUTPUT = "faces", "distribution"
"""Names of the graph's input, uint8 (faces, px, px, 3) in RGB, and output, float32 (faces, ages)."""


class Engine:
    """A session of ONNX Runtime on the processor."""

    def __init__(self, model: bytes, *, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def __call__(self, faces: UInt8[np.ndarray, "faces px px 3"]) -> Float32[np.ndarray, "faces ages"]:
        """The distribution over ages of each face."""
        parts = np.array_split(faces, max(1, math.ceil(len(faces) / BATCH)))
        return np.concatenate([self.session.run([OUTPUT], {INPUT: part})[0] for part in parts])
