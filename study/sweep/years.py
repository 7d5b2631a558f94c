"""Years by name as one array: a sweep on half a million faces keeps some fifty thousand of them six times a trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float64


@dataclass(frozen=True)
class Names:
    """Names in order, and the place of each."""

    names: tuple[str, ...]
    place: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Years(Mapping[str, float]):
    """A read-only mapping from names (people, or rows of a table) to years: 8 bytes each; the names are shared."""

    names: Names
    values_: Float64[np.ndarray, " names"]

    def __getitem__(self, name: str) -> float:
        return float(self.values_[self.names.place[name]])

    def __iter__(self) -> Iterator[str]:
        return iter(self.names.names)

    def __len__(self) -> int:
        return len(self.names.names)


def years(by_name: Mapping[str, float]) -> Years:
    """The same mapping, kept small."""
    if isinstance(by_name, Years):
        return by_name
    return Years(_shared(tuple(by_name)), np.fromiter(by_name.values(), np.float64, len(by_name)))


@lru_cache(maxsize=256)
def _shared(names: tuple[str, ...]) -> Names:
    """One record for all mappings with these names."""
    return Names(names, {name: place for place, name in enumerate(names)})
