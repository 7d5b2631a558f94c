"""AgeModel: photos in, ages with intervals out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from study.artifacts.model import FILE, ONNX, ModelRecord, sha256
from study.landmarks.photos import PhotoError, Reason
from study.model.engine import Engine
from study.model.faces import FaceFinder, SeenFace, open_photo
from study.model.rows import COLUMNS, FaceAge, no_face
from study.statistics.intervals import central, decode, interval, spread

if TYPE_CHECKING:
    import pandas as pd

AT_ONCE = 16
"""Photos that are decoded at once."""


class AgeModel:
    """A model folder in memory: its record, its network, and the landmarker that its training faces were made with."""

    def __init__(self, files: Mapping[str, bytes], *, where: str, threads: int = 1) -> None:
        """files: the bytes of model.json and model.onnx. where: their folder, for messages.

        Raises ValueError where they do not belong together, or the landmarker is another one here.
        """
        self.where = where
        self.record = ModelRecord.parse(files[FILE], where=f"{where}/{FILE}")
        if sha256(files[ONNX]) != self.record.files.get(ONNX):
            raise ValueError(
                f"{where}/{ONNX} is not the file that {FILE} describes: one of them was damaged or replaced; copy the "
                "folder again, or run study.refit again"
            )
        self.engine = Engine(files[ONNX], threads=threads)
        self.finder = FaceFinder(self.record.alignment, px=self.record.px, threads=threads)

    @classmethod
    def read(cls, folder: Path, *, threads: int = 1) -> AgeModel:
        """The model in a folder of study.refit."""
        return cls(model_files(folder), where=str(folder), threads=threads)

    def predict(self, photos: Sequence[Any], *, names: Sequence[str] | None = None) -> pd.DataFrame:
        """A row for each face of the photos (study.model.rows.FaceAge), and one for each photo without a face.

        A photo is a path, a file's bytes, an RGB array (0 to 255) or a Pillow image. names: for the column photo;
        default: the path, or the photo's number from 0.
        """
        import pandas as pd  # only here: the command needs no pandas for one photo

        rows = self.predict_rows(photos, names=names)
        return pd.DataFrame([row.as_dict() for row in rows], columns=list(COLUMNS))

    def predict_rows(self, photos: Sequence[Any], *, names: Sequence[str] | None = None) -> list[FaceAge]:
        """predict() as a list."""
        if isinstance(photos, str | Path | bytes):
            raise TypeError("photos is one photo: expected a list of photos, such as [photo]")
        given = names or [str(p) if isinstance(p, str | Path) else str(i) for i, p in enumerate(photos)]
        rows: list[FaceAge] = []
        for start in range(0, len(photos), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            rows += self._rows(given[part], [self.look(photo) for photo in photos[part]])
        return rows

    def look(self, photo: Any) -> list[SeenFace] | PhotoError:
        """The faces of a photo as the network sees them, or why there are none."""
        try:
            return self.finder.find(open_photo(photo))
        except PhotoError as error:
            return error
        except (cv2_error(), RuntimeError) as error:  # of the landmarker, on this photo
            return PhotoError(Reason.FAILED, " ".join(f"{type(error).__name__}: {error}".split())[:300])

    def _rows(self, names: Sequence[str], looked: Sequence[list[SeenFace] | PhotoError]) -> list[FaceAge]:
        """The rows of some photos, whose faces go through the network together."""
        faces = [face.pixels for found in looked if not isinstance(found, PhotoError) for face in found]
        answers = iter(self.judge(np.stack(faces)) if faces else ())
        rows = []
        for name, found in zip(names, looked, strict=True):
            if isinstance(found, PhotoError):
                rows.append(no_face(name, found))
                continue
            for number, face in enumerate(found, start=1):
                left, top, right, bottom = face.box
                row = FaceAge(name, number, left=left, top=top, right=right, bottom=bottom, found_by=face.found_by)
                rows.append(replace(row, **next(answers)))
        return rows

    def judge(self, faces: UInt8[np.ndarray, "faces px px 3"]) -> Iterable[dict[str, Any]]:
        """Age and intervals of aligned faces, rounded to a hundredth of a year."""
        distribution = self.engine(faces)
        age = decode(distribution, self.record.decoder)
        columns = {"age": age}
        for name, level in (("80", 0.8), ("95", 0.95)):
            columns[f"low_{name}"], columns[f"high_{name}"] = self.bounds(distribution, level=level)
        return [{name: round(float(values[i]), 2) for name, values in columns.items()} for i in range(len(age))]

    def bounds(
        self, distribution: Float[np.ndarray, "faces ages"], *, level: float
    ) -> tuple[Float[np.ndarray, " faces"], Float[np.ndarray, " faces"]]:
        """The interval of a level: calibrated where an error was measured, else the distribution's own."""
        measured = self.record.measured
        if measured is None:
            return central(distribution, level=level)
        (factor,) = (scale.factor for scale in measured.scales if scale.level == level)
        age = decode(distribution, self.record.decoder)
        return interval(age, spread(distribution), factor, ages=self.record.ages)


def model_files(folder: Path) -> dict[str, bytes]:
    """The two files of a folder that predicting needs. Raises FileNotFoundError where one is missing."""
    ModelRecord.read(folder)
    if not (folder / ONNX).is_file():
        raise FileNotFoundError(f"no {ONNX} in {folder}: copy the whole folder, or run study.refit again")
    return {name: (folder / name).read_bytes() for name in (FILE, ONNX)}


def cv2_error() -> type[Exception]:
    """OpenCV's error, which its package has no typed name for."""
    import cv2

    return cv2.error
