"""docs/troubleshooting.md quotes messages that the code really has, and names only options and commands that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.test_messages import FILES, OURS, texts
from tests.trainables.test_fields import COMMANDS

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
FOREIGN = {"--shm-size"}
OTHERS = ("python3.11: No such file", "No space left on device")
"""Messages of other programs."""

MESSAGES = re.findall(r"^\| `([^`]+)`", PAGE.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def said() -> str:
    """All that the code's strings say, without the values that are filled in."""
    return " ".join(" ".join(text for _, text in texts(file)) for file in FILES)


@pytest.mark.parametrize("message", [m for m in MESSAGES if not m.startswith(OTHERS)])
def test_a_quoted_message_is_the_codes(message, said):
    parts = [part.strip(" .;:()") for part in message.split("…")]
    longest = max(parts, key=len)
    assert len(longest) >= 10
    assert " ".join(longest.split()) in " ".join(said.split())


def test_what_is_advised_exists():
    text = PAGE.read_text()
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= OURS | FOREIGN | {"--help"}
    assert set(re.findall(r"python -m study\.(\w+)", text)) <= set(COMMANDS)
