"""Every option and command that a message names exists."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import pytest

from tests.trainables.test_fields import COMMANDS, module_of, options_of

ROOT = Path(__file__).parents[2]
FOREIGN = {
    "--help",  # every command's
    "--help-all",
    "--no-track",  # how tyro writes --track as off
    "--host",  # mlflow ui, ray
    "--port",  # mlflow ui
    "--backend-store-uri",  # mlflow ui
    "--default-artifact-root",  # mlflow ui
    "--allowed-hosts",  # mlflow server
    "--experiment-id",  # mlflow experiments restore
    "--experiment-ids",  # mlflow gc
    "--user",  # docker run
}
"""Options of tyro and of other tools that texts may name."""

OURS = {f"--{name.replace('_', '-')}" for command in COMMANDS for _, name in options_of(command)}
FILES = sorted(file for folder in ("study", "trainables", "search_spaces") for file in (ROOT / folder).rglob("*.py"))


def texts(file: Path) -> list[tuple[int, str]]:
    """Every string of a file, f-strings' plain parts too."""
    nodes = ast.walk(ast.parse(file.read_text()))
    return [
        (node.lineno, node.value) for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_option_that_a_text_names_exists(file):
    for line, text in texts(file):
        for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*\b", text):
            assert option in OURS | FOREIGN, f"{file.name}:{line} names {option}, which no command has"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_command_that_a_text_names_exists_and_has_the_options_named_with_it(file):
    for line, text in texts(file):
        for command, rest in re.findall(r"python -m study\.(\w+)(?![\w.])((?: --?[\w-]+| [\w./]+)*)", text):
            assert command in COMMANDS, f"{file.name}:{line} names study.{command}"
            own = {f"--{name.replace('_', '-')}" for _, name in options_of(command)} | {"--help", "--help-all"}
            assert set(re.findall(r"--[a-z][a-z0-9-]*", rest)) <= own, f"{file.name}:{line}: {text}"


def test_the_options_that_are_looked_for_are_those_that_the_commands_have():
    assert {"--learning-rate", "--px", "--best", "--follow-links", "--pretrain-faces"} <= OURS
    for command, name in COMMANDS.items():
        assert dataclasses.is_dataclass(getattr(module_of(command), name))
