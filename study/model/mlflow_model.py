"""The model that MLflow loads and serves, as code rather than pickle. MLflow copies this file, study.model's code and
the model folder, so that neither torch nor the training's code is needed where it runs.

Input: a column `photo` with base64 of a photo's file. Output: the rows of study.model.rows.FaceAge, in which `photo` is
the number of the input's row. It reads no path: a server must not open files that a client names.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from study.landmarks.photos import PhotoError, Reason
from study.model.ages import AgeModel
from study.model.rows import COLUMNS, FaceAge, no_face


class FacialAge(PythonModel):
    """Photos in base64 to ages."""

    def load_context(self, context: Any) -> None:
        """Load the model folder that lies next to this code."""
        self.model = AgeModel.read(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """A row for each face."""
        rows: list[FaceAge] = []
        for number, text in enumerate(model_input["photo"]):
            try:
                photo = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError, TypeError):
                rows.append(no_face(str(number), PhotoError(Reason.NOT_A_PHOTO, "not base64 of a photo's file")))
                continue
            rows += self.model.predict_rows([photo], names=[str(number)])
        table = pd.DataFrame([row.as_dict() for row in rows], columns=list(COLUMNS))
        # a served NaN is no JSON; null is
        return table.astype(object).where(table.notna(), None) if table.isna().any(axis=None) else table


set_model(FacialAge())
