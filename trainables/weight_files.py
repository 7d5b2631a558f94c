"""Reads weights of other programs: the tensors in a .safetensors or torch file. No code in the file is run."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from trainables.contents import what_is

WRAPPERS = ("module", "_orig_mod", "model", "net", "network", "backbone", "encoder", "base_model", "state_dict", "ema")
"""Prefixes that DDP, torch.compile, Lightning and other wrappers put before parameter names. No network of the study
has a top-level module of such a name (tested)."""


class _Inert:
    """Replaces any class or function that a file names: it accepts all arguments and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The state dict in a weights file, on the CPU, with floating-point tensors in float32.

    The format is recognised by content, not by the file's name: safetensors, or torch.save of a state dict or of a
    record that holds one (under "model", "state_dict" or any other name). Prefixes of wrappers (DDP, torch.compile,
    Lightning) and ours ("network.") are removed. Raises ValueError, in one line that names the file and its content,
    where it holds no state dict, several, or a number that is not finite.
    """
    with file.open("rb") as opened:
        start = opened.read(4096)
    size = file.stat().st_size
    if _is_safetensors(start, size):
        try:
            state = safetensors.torch.load_file(file)
        except Exception as error:  # safetensors raises many types of error
            raise ValueError(
                f"{file} is not a readable weights file ({_line(error)}): copy or download it again"
            ) from None
    elif start.startswith((b"PK\x03\x04", b"\x80")):
        state = _choose(file, _load_torch(file))
    else:
        raise ValueError(
            f"{file} is not a readable weights file but {what_is(start)}; expected .safetensors, or a state dict that "
            "torch.save wrote"
        )
    state = unwrapped(state)
    check_finite(file, state)
    # float32 holds every float16 and bfloat16 value exactly; NumPy, and so Ray, does not have bfloat16
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def check_finite(file: Path, state: Mapping[str, Tensor]) -> None:
    """Raise ValueError, in one line that names the file, where a tensor holds NaN or infinity."""
    for name, value in state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ValueError(
                f"{file} holds a number that is not finite, in {name!r}: that training went wrong, or the file is "
                "damaged; take another checkpoint"
            )


def unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without the prefixes of wrappers: "module._orig_mod.conv1.weight" becomes "conv1.weight".

    Where nearly all tensors have a wrapper's prefix, the others (of a loss, a counter) are not the network's and are
    left out.
    """
    found = dict(state)
    while found:
        first = next((wrap for wrap in WRAPPERS if _share(found, wrap) >= 0.9), None)
        if first is None:
            return found
        found = {name.removeprefix(f"{first}."): value for name, value in found.items() if name.startswith(f"{first}.")}
    return found


def _share(state: Mapping[str, Tensor], wrap: str) -> float:
    return sum(name.startswith(f"{wrap}.") for name in state) / len(state)


def _is_safetensors(start: bytes, size: int) -> bool:
    """Whether a file starts with eight bytes that give the length of a JSON object, and that object."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8


def _load_torch(file: Path) -> Any:
    """The object in a file of torch.save, with weights_only=True: tensors and plain values.

    Any other class or function that the file names (argparse.Namespace, NumPy scalars, a config's class) is replaced by
    _Inert: it is neither imported nor called. torch still refuses those of system modules.
    """
    inside = _names_inside(file)
    if any(name.split("/", 1)[-1] == "constants.pkl" for name in inside):
        raise ValueError(
            f"{file} is a TorchScript archive, a program with its weights; save its weights alone: "
            "torch.save(torch.jit.load(FILE).state_dict(), NEW)"
        )
    if inside and not any(name.split("/", 1)[-1] == "data.pkl" for name in inside):
        raise ValueError(f"{file} is a ZIP archive without weights in it (first {inside[0]!r}): unpack it first")
    try:
        others = torch.serialization.get_unsafe_globals_in_checkpoint(str(file)) if inside else []
        named = {name for name in others if name.split(".")[0] not in ("builtins", "__builtin__")}  # eval, getattr
        stand_ins: list[Any] = [(_Inert, name) for name in named | {"argparse.Namespace"}]
        # opened here, since torch.load goes by the name .safetensors
        with torch.serialization.safe_globals(stand_ins), file.open("rb") as opened:
            return torch.load(opened, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types of error
        raise ValueError(
            f"{file} is not a readable weights file ({_line(error)}): it is damaged or cut short, or holds more than "
            "tensors; copy it again, or save its state dict alone: torch.save(net.state_dict(), NEW)"
        ) from None


def _names_inside(file: Path) -> list[str]:
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []  # torch's older format, or a damaged file, on which torch.load raises


def _choose(file: Path, record: Any) -> dict[str, Tensor]:
    """The one state dict in a record. Raises ValueError where there is none, or where several could be meant."""
    found = dict(_state_dicts(record, ""))
    if not found:
        held = f"a {type(record).__name__}" if not isinstance(record, _Inert) else "a whole Python object"
        if isinstance(record, Mapping):
            held = f"a record of {', '.join(map(str, list(record)[:8])) or 'nothing'}"
        raise ValueError(
            f"{file} is not a readable weights file: it holds {held} and no state dict, a mapping from parameter names "
            "to tensors as torch.save(net.state_dict(), NEW) writes it"
        )
    most = max(map(len, found.values()))
    found = {name: state for name, state in found.items() if 2 * len(state) > most}  # others: of a loss, a head
    if len(found) > 1:
        names = ", ".join(map(repr, found))
        raise ValueError(
            f"{file} holds several networks, under {names}: save the one that is meant alone, such as "
            f"torch.save(torch.load(FILE, weights_only=True)[{next(iter(found))!r}], NEW)"
        )
    return next(iter(found.values()))


def _state_dicts(record: Any, place: str, depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Each state dict in a record, with its place. An optimiser's state is none: it has no dotted names."""
    if not isinstance(record, Mapping) or depth > 3:
        return
    tensors = {name: value for name, value in record.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if any("." in name for name in tensors):
        yield place, tensors
        return
    for name, value in record.items():
        yield from _state_dicts(value, f"{place}.{name}" if place else str(name), depth + 1)


def _line(error: Exception) -> str:
    """A library's message cut to one sentence: torch's can be a page long."""
    text = " ".join(str(error).split())
    for sign in ("GLOBAL ", "failed finding central directory"):
        if sign in text:
            return text[text.index(sign) :].split(". ")[0].split(" was not")[0].removesuffix(".")[:160]
    return text[:160] or type(error).__name__
