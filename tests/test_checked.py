"""The checks of every call by which the other tests notice a wrong type, shape or dtype."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.checked import _Finder
from trainables.config import TrialConfig
from trainables.metrics import mae

SOURCE = '''
"""A docstring."""

from __future__ import annotations

import colorsys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

if TYPE_CHECKING:
    from nowhere import Nothing


@dataclass(frozen=True)
class Record:
    years: int

    @property
    def text(self) -> str:
        return self.years  # a mistake

    @staticmethod
    def half(years: int) -> float:
        return years / 2


def double(years: int, *more: str, unknown: Nothing = None) -> int:
    return years * 2


def says(years: int) -> str:
    return years  # a mistake


def add(one: Float32[np.ndarray, "faces px"], other: Float32[np.ndarray, "faces px"]) -> Float32[np.ndarray, "faces"]:
    return (one + other).sum(axis=1)


def within(years: int) -> int:
    def plus(more: int) -> int:
        return years + more

    return plus("a")  # a mistake


@contextmanager
def held(years: int):
    yield years
'''


@pytest.fixture
def module(tmp_path, monkeypatch) -> Iterator:
    (tmp_path / "a_checked_module.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [_Finder(["a_checked_module"]), *sys.meta_path])
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    yield importlib.import_module("a_checked_module")
    sys.modules.pop("a_checked_module")


WRONG = {
    "an argument": lambda it: it.double("2"),
    "one of more arguments": lambda it: it.double(2, 3),
    "an argument of a generator": lambda it: it.held("2").__enter__(),
    "an argument of a static method": lambda it: it.Record.half("2"),
    "a result": lambda it: it.says(2),
    "a property's result": lambda it: it.Record(2).text,
    "a dataclass's field": lambda it: it.Record("2"),
    "a changed field": lambda it: dataclasses.replace(it.Record(2), years="3"),
    "an argument of a function within another": lambda it: it.within(2),
    "a dtype": lambda it: it.add(np.zeros((2, 3)), np.zeros((2, 3))),
    "a number of axes": lambda it: it.add(np.zeros(2, np.float32), np.zeros(2, np.float32)),
    "axes of two arguments that differ": lambda it: it.add(np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32)),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_noticed(module, call):
    with pytest.raises(TypeError):
        call(module)


def test_what_is_right_passes(module):
    assert module.double(2, "more", unknown=3) == 4, "a type that is there for type checkers alone is not checked"
    assert module.add(np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)).tolist() == [6, 6]
    assert module.Record.half(module.Record(3).years) == 1.5
    with module.held(2) as years:
        assert years == 2


def test_only_the_modules_named_are_compiled_for_it(module, tmp_path):
    """And apart from what Python itself compiles: a command must not find code with the tests' checks."""
    (compiled,) = (tmp_path / "__pycache__").iterdir()
    assert compiled.name.endswith(".checked1.pyc")
    assert not list(Path(sys.modules["colorsys"].__file__).parent.glob("__pycache__/colorsys*checked*"))


def test_the_studys_own_modules_are_checked():
    with pytest.raises(TypeError):
        TrialConfig(backbone=18)
    with pytest.raises(TypeError):
        mae(np.zeros(3), "no ages", np.zeros(3))
