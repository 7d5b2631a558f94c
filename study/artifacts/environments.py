"""How the environment that computed a result (trainables.provenance.environment) differs from another. Pure."""

from __future__ import annotations

from collections.abc import Mapping


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What differs between two environments, in words: "torch 2.13.0 then, 2.14.1 now"; "" if nothing does."""
    names = [name for name in (*now, *(name for name in then if name not in now)) if then.get(name) != now.get(name)]
    return ", ".join(f"{name} {then.get(name, 'unknown')} then, {now.get(name, 'unknown')} now" for name in names)
