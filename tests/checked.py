"""Types, shapes and dtypes of every annotated function of the study, checked at each call in the tests' own process.

What jaxtyping's own import hook does, for a part of its price. A function without an array among its annotations is
checked by beartype alone: what jaxtyping adds to a call, the names of axes, costs more than most functions do. And only
our modules are compiled for it: jaxtyping's hook also compiles each library again that they import.
"""

from __future__ import annotations

import ast
import dataclasses
import sys
import typing
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import decode_source
from types import FunctionType
from typing import Any

from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, TypeCheckError, jaxtyped

_OWN = ".checked1.pyc"
"""The end of our compiled files' names. Their number changes with _Decorate."""

_CONF = BeartypeConf(violation_type=TypeCheckError)  # a TypeError, whichever of the two notices it


def check_calls(packages: Sequence[str]) -> None:
    """From now on, check all calls of what is imported from these packages."""
    sys.meta_path.insert(0, _Finder(packages))


def checked(thing: Any) -> Any:
    """A function whose arguments and result are checked; a dataclass whose fields are checked when one is made."""
    if dataclasses.is_dataclass(thing):
        thing.__init__ = checked(thing.__init__)
    if not isinstance(thing, FunctionType):
        return thing
    hints = _hints(thing)
    # a function within another one may travel to Ray's workers by value, which jaxtyping's wrapper can
    if "<locals>" in thing.__qualname__ or any(map(_has_array, hints.values())):
        return jaxtyped(thing, typechecker=beartype)
    thing.__annotations__ = hints
    return beartype(thing, conf=_CONF)


def _hints(function: FunctionType) -> dict[str, Any]:
    """A function's annotations. Any for what exists for type checkers alone."""
    found = {}
    for name, hint in function.__annotations__.items():
        try:
            found[name] = _evaluated(hint, function.__globals__)
        except Exception:
            found[name] = Any
    return found


def _evaluated(hint: Any, names: dict[str, Any]) -> Any:
    def only(value: Any) -> None: ...

    only.__annotations__ = {"value": hint}
    return typing.get_type_hints(only, names, include_extras=True)["value"]


def _has_array(hint: Any) -> bool:
    """Whether an array with axes is a part of an annotation."""
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    parts = hint if isinstance(hint, list | tuple) else typing.get_args(hint)  # a list: of a Callable's arguments
    return any(map(_has_array, parts))


class _Decorate(ast.NodeTransformer):
    """@checked on each function, as the first of its decorators that acts, and on each class, as the last."""

    def visit_Module(self, node: ast.Module) -> ast.AST:
        self.generic_visit(node)
        first = (index for index, part in enumerate(node.body) if not _stands_before_imports(part))
        node.body[(at := next(first, len(node.body))) : at] = ast.parse(
            f"from {__name__} import checked as __checked__"
        ).body
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.decorator_list.append(ast.copy_location(ast.Name("__checked__", ast.Load()), node))
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.decorator_list.insert(0, ast.copy_location(ast.Name("__checked__", ast.Load()), node))
        return self.generic_visit(node)


def _stands_before_imports(part: ast.stmt) -> bool:
    """Whether it is a docstring or `from __future__ import`."""
    if isinstance(part, ast.ImportFrom):
        return part.module == "__future__"
    return isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)


class _Loader(SourceFileLoader):
    """Compiles a module with @checked everywhere, and keeps that apart from what the commands compile."""

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> Any:
        tree = _Decorate().visit(ast.parse(decode_source(data), path))
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True, optimize=_optimize)

    def get_data(self, path: str) -> bytes:
        return super().get_data(_own(path))

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        super().set_data(_own(path), data, _mode=_mode)


def _own(path: str) -> str:
    return path.removesuffix(".pyc") + _OWN if path.endswith(".pyc") else path


class _Finder(MetaPathFinder):
    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = frozenset(packages)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.partition(".")[0] not in self.packages:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec
