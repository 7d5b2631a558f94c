"""A library that is imported when it is first used, so that options and records are there without torch's seconds."""

from __future__ import annotations

import importlib
from typing import Any


class Later:
    """Stands for a module: `torch = Later("torch")`. Type checkers get the module itself, under TYPE_CHECKING."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # what Python asks of any object
            raise AttributeError(attribute)
        value = getattr(importlib.import_module(self._name), attribute)
        setattr(self, attribute, value)  # found at once from now on
        return value
