"""What --help shows of a command: its line, an example to copy, and the options that most people need."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import shutil
import textwrap
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from study.cli.words import Word
from trainables.fields import hints

WIDEST = 100
"""Columns: longer lines are hard to read, also on a wide screen."""


@dataclass(frozen=True)
class About:
    """A command, as --help tells of it.

    line: what it does, in one line without a full stop. examples: what for, and the command to copy. first:
    the fields of its options that --help shows; --help-all shows all. text: further paragraphs. docs: where more is.
    """

    line: str
    examples: tuple[tuple[str, str], ...] = ()
    first: tuple[str, ...] = ()
    text: str = ""
    docs: str = ""


@dataclass(frozen=True)
class Option:
    """An option as people type and read it.

    word: what they call its value, "" for a flag. group: whose it is. expected: the value, as messages call it.
    """

    name: str
    flag: str
    word: str
    text: str
    group: str
    expected: str = ""


def columns() -> int:
    """The columns that help and tables may use: the terminal's (or COLUMNS), else 80."""
    return max(20, min(shutil.get_terminal_size((80, 24)).columns, WIDEST))


def show_help(about: About, options: type, *, prog: str, everything: bool = False, width: int | None = None) -> str:
    """The text of --help, or of --help-all; no line is wider than `width` (default: the terminal's)."""
    width = width or columns()
    found = list(options_of(options))
    first = [option for name in about.first for option in found if option.name == name]
    lines = [*_wrapped(f"{prog}: {about.line}", width), ""]
    for what, command in about.examples:
        lines += [*_wrapped(f"{what}:", width), *_command(command, width)]
    for paragraph in about.text.strip().split("\n\n") if about.text else ():
        lines += ["", *_wrapped(paragraph, width)]
    groups: dict[str, list[Option]] = {}
    if not everything and len(first) < len(found):
        groups["What most people need"] = first
    else:
        for option in found:
            groups.setdefault(option.group, []).append(option)
    for title, members in groups.items():
        lines += ["", *_wrapped(f"{title}:", width)]
        for option in members:
            lines += _entry(option, width)
    lines.append("")
    if not everything and len(first) < len(found):
        lines += _wrapped(f"All {len(found)} options: {prog} --help-all", width)
    if about.docs:
        lines += _wrapped(f"More: {about.docs}", width)
    return "\n".join(lines).rstrip()


def options_of(options: type, group: str = "Options") -> Iterator[Option]:
    """Every option of a command's dataclass, its nested dataclasses last."""
    texts: dict[str, str] = {}
    for base in reversed(options.__mro__[:-1]):
        texts |= field_texts(base)
    inner = []
    for field in dataclasses.fields(options):
        hint = hints(options)[field.name]
        kind = _bare(hint)
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            inner.append(kind)
            continue
        word = _word(hint)
        flag = f"--{field.name.replace('_', '-')}"
        positional = "Positional" in repr(hint)
        if positional:
            flag, word = word or field.name.upper(), ""
        elif kind is bool:
            flag, word = ("--" + f"no-{flag[2:]}", "") if field.default is True else (flag, "")
        expected = {int: "a whole number", float: "a number"}.get(kind, word)
        yield Option(field.name, flag, word, texts.get(field.name, "") + _default(field, texts), group, expected)
    for kind in inner:
        title = (inspect.getdoc(kind) or kind.__name__).splitlines()[0].rstrip(".")
        yield from options_of(kind, title)


def field_texts(kind: type) -> dict[str, str]:
    """The text below each field of a dataclass, on one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    texts = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            texts[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split())
    return texts


def _default(field: dataclasses.Field[Any], texts: dict[str, str]) -> str:
    """ " Default: 4.", of a number or word, where the text does not say it."""
    told = "efault" in texts.get(field.name, "") or isinstance(field.default, bool)
    return f" Default: {field.default}." if not told and isinstance(field.default, int | float | str) else ""


def _bare(hint: Any) -> Any:
    """The type without Annotated, None and tuple."""
    if typing.get_origin(hint) is Annotated:
        return _bare(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return _bare(next(part for part in typing.get_args(hint) if part is not type(None)))
    return _bare(typing.get_args(hint)[0]) if typing.get_origin(hint) is tuple else hint


def _word(hint: Any) -> str:
    """What people call a value: its Word, its choices, NUMBER, or NAME; with " ..." where several may be given."""
    kind, several, own = hint, "", ""
    while typing.get_origin(kind) in (Annotated, typing.Union, types.UnionType, tuple):
        extras = getattr(kind, "__metadata__", ())
        own = next((extra.word for extra in extras if isinstance(extra, Word)), own)
        several = " ..." if typing.get_origin(kind) is tuple else several
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    if typing.get_origin(kind) is Literal:
        return "|".join(typing.get_args(kind)) + several
    words = {int: "NUMBER", float: "NUMBER", Path: "FOLDER", str: "NAME"}
    return (own or words.get(kind, "VALUE")) + several


def _entry(option: Option, width: int) -> list[str]:
    """An option and its text, next to it where there is room."""
    head = f"{option.flag} {option.word}".rstrip()
    left = min(28, width // 3)
    heads = textwrap.wrap(head, width, subsequent_indent="      ", initial_indent="  ", break_on_hyphens=False)
    body = textwrap.wrap(option.text, width, initial_indent=" " * left, subsequent_indent=" " * left,
                         break_on_hyphens=False)  # fmt: skip
    if body and len(heads) == 1 and len(heads[0]) + 2 <= left:
        body[0] = heads[0].ljust(left) + body[0][left:]
        return body
    return [*heads, *body]


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


def _command(command: str, width: int) -> list[str]:
    """A command that can be copied: a line that is too long goes on in the next."""
    lines = textwrap.wrap(command, width - 4, break_long_words=False, break_on_hyphens=False)
    return [f"  {'' if i == 0 else '  '}{line}{' ' + chr(92) if i < len(lines) - 1 else ''}"[:width]
            for i, line in enumerate(lines)]  # fmt: skip


def overview(abouts: Sequence[tuple[str, About]], *, width: int | None = None) -> str:
    """The commands in the order of their use, with a line each."""
    width = width or columns()
    lines = [*_wrapped("The study's commands, in the order of their use:", width), ""]
    for name, about in abouts:
        lines += _entry(Option(name, name, "", about.line, ""), width)
    last = "Each says more: python -m study.align --help. All at once, on synthetic people: python -m study.tour"
    lines += ["", *_wrapped(last, width)]
    return "\n".join(lines)
