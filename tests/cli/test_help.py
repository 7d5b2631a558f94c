"""--help answers without the heavy libraries, fits the terminal, and names every option in people's words."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tyro

from study.cli.about import About, options_of, overview, show_help
from study.cli.run import find, main
from study.report.options import Report
from study.statistics.bootstrap import DRAWS
from tests.trainables.test_fields import COMMANDS, module_of

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "timm", "ray", "mlflow", "optuna", "matplotlib", "pandas", "pyarrow", "cv2", "scipy")

REFUSED = {
    "align": ["fgnett"],
    "pretrain": ["--batch", "32", "--workers", "3"],
    "sweep": ["--px", "32", "--space", "paper"],
    "lopo": ["--best", "--backbone", "resnet18"],
    "refit": ["--sweep", "mine"],
    "predict": [],
    "report": ["--draws", "1"],
    "faces": ["runs/people", "--px", "1"],
    "ui": ["--port", "-1"],
}  # fmt: skip
"""Options that a command refuses whatever lies on the disk."""


def about_of(command: str) -> About:
    name = f"study.{command}" if command == "tour" else f"study.{command}.options"
    found: About = importlib.import_module(name).ABOUT
    return found


def imported(command: str, *args: str) -> tuple[int, str, set[str]]:
    """The exit status and the output of `python -m study.<command>`, and which heavy libraries it imported."""
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['study', *{list(args)!r}]\n"
        f"try:\n    runpy.run_module('study{command and '.' + command}', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n    status = end.code\n"
        "else:\n    status = 0\n"
        f"print('imported', status or 0, *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    *shown, last = done.stdout.splitlines()
    _, status, *found = last.split()
    return int(status), "\n".join(shown) + done.stderr, set(found)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_imports_none_of_the_heavy_libraries(command):
    status, shown, found = imported(command, "--help")
    assert status == 0
    assert f"python -m study{command and '.' + command}" in shown
    assert not found


@pytest.mark.parametrize("command", REFUSED)
def test_what_options_alone_forbid_is_one_line_without_torch_ray_and_mlflow(command):
    status, shown, found = imported(command, *REFUSED[command])
    assert status == 1
    assert re.fullmatch(rf"python -m study\.{command}: error: [^\n]+", shown.strip())
    assert found <= {"optuna"}, "which the search spaces are written with"


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("pretrain", ["--backbone", "resnet18", "resnet19"]),
        ("sweep", ["--networks", "resnet19"]),
        ("lopo", ["--backbone", "resnet19"]),
        ("refit", ["--backbone", "resnet19"]),
    ],
)
def test_a_mistyped_network_is_refused_without_importing_timm(command, args):
    status, shown, found = imported(command, *args)
    assert status == 1
    assert "unknown backbone 'resnet19'. Did you mean 'resnet18'?" in shown
    assert found <= {"optuna"}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("width", [40, 80, 100])
@pytest.mark.parametrize("everything", [False, True])
def test_no_line_of_help_is_wider_than_the_terminal(command, width, everything):
    kind = getattr(module_of(command), COMMANDS[command])
    text = show_help(about_of(command), kind, prog=f"python -m study.{command}", everything=everything, width=width)
    words = [word for line in text.splitlines() for word in line.split()]
    longest = max(len(word) for word in words)  # a path in a command cannot be cut
    assert max(map(len, text.splitlines())) <= max(width, longest + 6)


def test_the_terminals_width_is_honoured(monkeypatch):
    for columns in ("50", "90"):
        monkeypatch.setenv("COLUMNS", columns)
        assert 40 < max(map(len, overview([("study.align", about_of("align"))]).splitlines())) <= int(columns)


@pytest.mark.filterwarnings("ignore:get_parser")
@pytest.mark.parametrize("command", COMMANDS)
def test_help_all_names_every_option_that_is_accepted_and_says_what_it_does(command):
    kind = getattr(module_of(command), COMMANDS[command])
    found = list(options_of(kind))
    accepted = {flag for action in tyro.extras.get_parser(kind)._actions for flag in action.option_strings}
    for option in found:
        assert option.text, f"--help-all says nothing of {option.flag}"
        assert not re.search(r"None|FLOAT|INT|STR|PATH|VALUE", option.word)
        assert option.flag in accepted or option.flag.isupper()
    both = {flag.replace("--no-", "--") for flag in accepted} - {"-h", "--help"}
    assert both == {option.flag.replace("--no-", "--") for option in found if not option.flag.isupper()}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_a_handful_of_options_and_an_example_that_is_parsed(command):
    about, kind = about_of(command), getattr(module_of(command), COMMANDS[command])
    assert set(about.first) <= {option.name for option in options_of(kind)}
    assert 1 <= len(about.first) <= 6
    assert about.examples
    for _, example in about.examples:
        words = example.removeprefix(f"python -m study.{command}").split()
        assert main(lambda _: 0, kind, prog=command, args=words) == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--px", "abc"], "--px is 'abc', expected a whole number"),
        (["--seeds", "2.5"], "--seeds is '2.5', expected a whole number"),
        (["--pxx", "3"], "there is no option --pxx. Did you mean --px?"),
        (["--learning-rate=fast"], "--learning-rate is 'fast', expected a number"),
        (["--schedule", "bush"], "'bush' for argument '--schedule'"),
        (["--px"], "--px needs a value"),
        (["--best", "3"], "there is no option 3"),
    ],
)
def test_wrong_usage_is_one_line_that_says_what_was_expected(args, said, capsys):
    from study.lopo.options import Lopo

    with pytest.raises(SystemExit) as end:
        main(lambda _: 0, Lopo, prog="python -m study.lopo", args=args)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m study.lopo: error: ")
    assert said in line
    assert line.endswith("see python -m study.lopo --help")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_function_that_a_command_names_exists(command):
    place = ROOT / "study" / command / "__main__.py"
    if place.is_file():
        (named,) = re.findall(r'"(study\.\w+\.command:\w+)"', place.read_text())
        assert callable(find(named))


def test_what_options_repeat_is_what_is_used():
    from study.align import options
    from study.align.datasets import DATASETS

    assert tuple(DATASETS) == options.NAMES
    assert {name for name, dataset in DATASETS.items() if dataset.builtin} == set(options.BUILT_IN)
    assert Report().draws == DRAWS
