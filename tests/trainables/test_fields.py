"""Valid values of every field in a config, in a trial.json and on the command line: one rule for all."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import re
import typing
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest

from study.cli.run import check_options, main
from trainables.checkpoints import read_trial
from trainables.config import CONFIGS, Augmentation, TrialConfig
from trainables.fields import Range, check, hints
from trainables.losses import LOSSES

RECORDS = {"trial": TrialConfig, "augmentation": Augmentation, **LOSSES}
COMMANDS = {
    "align": "Options", "pretrain": "Pretrain", "sweep": "Sweep", "lopo": "Lopo", "report": "Report",
    "refit": "Refit", "predict": "Predict", "crosstest": "CrossTest", "faces": "Options", "tour": "Tour",
    "ui": "Ui",
}  # fmt: skip


def module_of(command: str) -> ModuleType:
    """The module with a command's options: the command.py of its room, or its only file."""
    found = importlib.import_module(f"study.{command}")
    return importlib.import_module(f"study.{command}.command") if hasattr(found, "__path__") else found


def kind_of(hint: Any) -> Any:
    """The type of a field, without its range and without None."""
    for part in (hint, *typing.get_args(hint)):
        inner = typing.get_args(part)[0] if hasattr(part, "__metadata__") else part
        if inner in (int, float, str, bool) or typing.get_origin(inner) is Literal:
            return inner
    return None


def range_of(hint: Any) -> Range:
    found = [extra for part in (hint, *typing.get_args(hint)) for extra in getattr(part, "__metadata__", ())]
    return next((extra for extra in found if isinstance(extra, Range)), Range())


FIELDS = [(record, name) for record, kind in RECORDS.items() for name in hints(kind) if kind_of(hints(kind)[name])]
NUMBERS = [(r, n) for r, n in FIELDS if kind_of(hints(RECORDS[r])[n]) in (int, float)]
WORDS = [(r, n) for r, n in FIELDS if typing.get_origin(kind_of(hints(RECORDS[r])[n])) is Literal]


def record_with(record: str, name: str, value: object) -> dict[str, Any]:
    """A trial's JSON with this value in this field of the trial, its augmentation or its loss."""
    if record == "trial":
        return {name: value}
    return {"augmentation": {name: value}} if record == "augmentation" else {"loss": {"name": record, name: value}}


def made(kind: type, name: str, value: object) -> None:
    """Runs only the record's own check. In tests jaxtyping also checks the constructor, for users it does not."""
    record = object.__new__(kind)
    for field in dataclasses.fields(kind):
        default = field.default if field.default is not dataclasses.MISSING else field.default_factory()
        object.__setattr__(record, field.name, default)
    object.__setattr__(record, name, value)
    record.__post_init__()


@pytest.mark.parametrize(("record", "name"), FIELDS)
@pytest.mark.parametrize(
    "value", [None, [1], {"a": 1}, True, "no such word", math.nan, math.inf, -1e9, 10**400], ids=str
)
def test_what_no_field_takes_is_one_line_that_names_it(record, name, value):
    if kind_of(hints(RECORDS[record])[name]) is str and isinstance(value, str):
        return  # any text is valid here; its meaning is checked elsewhere
    for attempt in (
        lambda: TrialConfig.from_json(record_with(record, name, value)),
        lambda: made(RECORDS[record], name, value),
    ):
        with pytest.raises(ValueError, match=name) as error:
            attempt()
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 400


@pytest.mark.parametrize(("record", "name"), NUMBERS)
def test_a_number_as_text_is_refused_with_the_number_that_was_meant(record, name):
    default = {field.name: field.default for field in dataclasses.fields(RECORDS[record])}[name]
    with pytest.raises(ValueError, match=f"{name} is the text '{default}', expected a .*: {default}$"):
        TrialConfig.from_json(record_with(record, name, str(default)))


@pytest.mark.parametrize(("record", "name"), [(r, n) for r, n in NUMBERS if kind_of(hints(RECORDS[r])[n]) is int])
def test_a_whole_number_has_no_fraction(record, name):
    for value in (64.5, 64.0):
        with pytest.raises(ValueError, match=f"{name} is {value}, expected a whole number"):
            TrialConfig.from_json(record_with(record, name, value))


@pytest.mark.parametrize(("record", "name"), WORDS)
def test_a_word_is_one_of_those_that_are_known_and_each_is_taken(record, name):
    words = typing.get_args(kind_of(hints(RECORDS[record])[name]))
    for word in words:
        TrialConfig.from_json(record_with(record, name, word))
    for near in {word[:-1] for word in words} | {word.upper() for word in words} | {f"{word}s" for word in words}:
        with pytest.raises(ValueError, match=f"unknown .*{name}"):
            TrialConfig.from_json(record_with(record, name, near))
    # no unknown word may select another branch: it happened with adam, linear and float16
    assert len(words) > 1


@pytest.mark.parametrize(("record", "name"), NUMBERS)
def test_a_range_ends_where_it_says(record, name):
    span = range_of(hints(RECORDS[record])[name])
    kind = kind_of(hints(RECORDS[record])[name])
    for bound, outwards, closed in (
        (span.low, -1, span.open not in ("low", "both")), (span.high, 1, span.open not in ("high", "both")),
    ):  # fmt: skip
        if math.isfinite(bound):
            step = 1 if kind is int else 1e-9 * max(1, abs(bound))
            assert (kind(bound) in span) == closed
            assert kind(bound + outwards * step) not in span
            assert kind(bound - outwards * step) in span


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("name", ["colour", "lr", "Epochs", "", "learning_rates"])
def test_an_unknown_field_is_refused_at_every_level(record, name):
    with pytest.raises(ValueError, match=f"has no field {name!r}"):
        TrialConfig.from_json(record_with(record, name, 1))


def test_a_field_one_level_too_high_is_an_error_that_names_its_place():
    for name, place in (("flip", "augmentation"), ("mean_weight", "loss"), ("lambda1", "loss")):
        with pytest.raises(ValueError, match=f'belongs in "{place}"'):
            TrialConfig.from_json({name: 0.5})


def test_the_papers_names_of_the_losss_weights_are_those_weights():
    ours = TrialConfig.from_json({"loss": {"name": "mean_variance", "mean_weight": 0.3, "variance_weight": 0.4}})
    theirs = TrialConfig.from_json({"loss": {"name": "mean_variance", "lambda1": 0.3, "lambda2": 0.4}})
    assert theirs == ours
    with pytest.raises(ValueError, match="the same weight"):
        TrialConfig.from_json({"loss": {"name": "mean_variance", "lambda1": 0.3, "mean_weight": 0.3}})


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_may_be_its_name(name):
    assert TrialConfig.from_json({"loss": name}).loss == LOSSES[name]()


FINGERPRINTS = {
    "cross_entropy": "daa45a98b6ae", "mean_variance": "00540a3d2942", "dldl_v2": "0a291f517772",
    "sord": "0077d4a14612", "coral": "2ce11e42845e", "mean_residue": "5c0e2cfc9c6f", "paper": "888a0d89859f",
}  # fmt: skip


def test_fingerprints_of_configs_do_not_change_by_accident():
    found = {name: TrialConfig(loss=kind()).fingerprint() for name, kind in LOSSES.items()}
    assert found | {"paper": CONFIGS["paper"].fingerprint()} == FINGERPRINTS


GOOD = '{"backbone": "resnet18", "epochs": 3}'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_trial_file_is_read_in_every_encoding_that_marks_itself(tmp_path, encoding, newline):
    file = tmp_path / "trial.json"
    file.write_bytes(json.dumps(json.loads(GOOD), indent=2).replace("\n", newline).encode(encoding))
    assert read_trial(file)[0] == TrialConfig(backbone="resnet18", epochs=3)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        ('{"backbone": "résnet"}'.encode("latin-1"), "not utf-8 text"),
        (bytes(range(256)), "not utf-8 text"),
        (GOOD.encode("utf-16-le"), "is not JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"loss":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b'{"px": 64, "px": 96}', "'px' is given twice"),
        (b'{"loss": {"name": "coral", "name": "sord"}}', "'name' is given twice"),
        (b'{"px": 64, // small\n "epochs": 1}', "JSON has no comments"),
        (b'# mine\n{"px": 64}', "JSON has no comments"),
        (b'{"px": 64,}', "one comma too many"),
        (b"{'px': 64}", 'JSON quotes with "'),
        (b'{"trial": None}', "true, false and null"),
        (b'{"learning_rate": NaN}', "learning_rate is nan"),
        (b'{"learning_rate": -Infinity}', "learning_rate is -inf"),
        (b'{"learning_rate": 1e999}', "learning_rate is inf"),
        (b'{"px": ' + b"9" * 5000 + b"}", "px is inf"),
        (b'{"seed": ' + b"9" * 30 + b"}", "seed is a number of 30 digits"),
        (b"[]", "a trial is a list"),
        (b"null", "a trial is null"),
        (b'"resnet18"', "a trial is the text"),
        (b'{"trial": [1]}', "a trial is a list"),
        (b'{"trial": {}, "about": 3}', "about is 3"),
        (b'{"trial": {}, "epochs": 3}', "'epochs' is next to \"trial\""),
        (b'{"loss": null}', "loss is null"),
        (b'{"loss": {"mean_weight": 1}}', 'loss has no "name"'),
        (b'{"loss": {"name": 3}}', "loss.name is 3"),
        (b'{"loss": "hinge"}', "unknown loss 'hinge'"),
        (b'{"augmentation": null}', "augmentation is null"),
        (b'{"weights": ""}', "weights is the text ''"),
        (b'{"backbone": "' + b"x" * 1_000_000 + b'"}', "unknown backbone"),
    ],
    ids=range(32),
)
def test_a_trial_file_that_cannot_be_read_is_one_line_that_names_it(tmp_path, content, said):
    file = tmp_path / "trial.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        read_trial(file)
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700


def test_a_folder_is_no_trial_file(tmp_path):
    (tmp_path / "trial.json").write_text(GOOD)
    with pytest.raises(ValueError, match=f"is a folder, .* give {tmp_path}/trial.json"):
        read_trial(tmp_path)


def options_of(command: str) -> list[tuple[type, str]]:
    """A command's options, with those of nested dataclasses."""
    found = []
    waiting = [getattr(module_of(command), COMMANDS[command])]
    while waiting:
        kind = waiting.pop()
        for name, hint in hints(kind).items():
            inner = typing.get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
            if dataclasses.is_dataclass(inner):
                waiting.append(inner)
            else:
                found.append((kind, name))
    return found


OPTIONS = [
    (command, kind, name)
    for command in COMMANDS
    for kind, name in options_of(command)
    if kind_of(hints(kind)[name]) in (int, float) and not name.startswith(("cpus", "gpus"))
]


@pytest.mark.parametrize(("command", "kind", "name"), OPTIONS, ids=lambda value: getattr(value, "__name__", value))
def test_every_number_on_the_command_line_has_a_range_that_is_checked_before_anything_starts(
    command, kind, name, capsys, monkeypatch
):
    assert range_of(hints(kind)[name]) != Range(), "every number has bounds"
    module = module_of(command)
    options = getattr(module, COMMANDS[command])
    option = f"--{name.replace('_', '-')}"
    table = ["faces-table"] if command == "faces" else []

    def never(_: object) -> None:
        raise AssertionError("the command was run")

    values = ["-1", *(["nan", "inf"] if kind_of(hints(kind)[name]) is float else ["0" if name != "workers" else "-2"])]
    for value in values:
        if value == "0" and 0 in range_of(hints(kind)[name]):
            continue
        assert main(never, options, prog="p", args=[*table, option, value]) == 1
        line = capsys.readouterr().err.strip()
        assert line.startswith(f"p: error: {option} is ")
        assert "\n" not in line


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "faces"])
def test_a_commands_defaults_are_within_their_ranges(command):
    check_options(getattr(module_of(command), COMMANDS[command])())


def test_an_unknown_annotation_is_not_checked():
    check("place", Path("x"), Path)
    check("place", None, Path | None)
    check("faces", (Path("x"),), tuple[Path, ...])
