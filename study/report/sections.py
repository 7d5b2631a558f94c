"""LOPO results in groups that may be compared, with every value that the report gives. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from study.artifacts.about import About
from study.artifacts.brands import branded, unlike
from study.artifacts.predictions import Predictions
from study.artifacts.pretraining import StartRecord
from study.cli.describe import backbone_name, short
from study.plain import plain, plain_record, printable, slug
from study.statistics.bootstrap import DRAWS
from study.statistics.calibration import Calibration, calibrate
from study.statistics.summary import (
    Comparison,
    Decade,
    Summary,
    alarms,
    by_decade,
    compare,
    constant_guess,
    summarise,
)
from study.table import Table
from study.whom import for_whom

DATASETS = {"fgnet": "FG-NET", "utkface": "UTKFace", "aaf": "All-Age-Faces", "people": "Synthetic people"}
"""Names of datasets in titles; others keep the name in their record."""


@dataclass(frozen=True)
class Result:
    """One complete LOPO result: its name in MLflow, what it is about, and its predictions.

    Name and record are made plain (study.plain), since they go into the report's Markdown and pictures.
    """

    name: str
    about: About
    predictions: Predictions

    def __post_init__(self) -> None:
        where = f"{printable(self.name)}: about.json"
        about = About.from_json(plain_record(self.about.to_json()), where=where)
        object.__setattr__(self, "name", plain(self.name, most=200))
        object.__setattr__(self, "about", about)


@dataclass(frozen=True)
class Section:
    """Results on the same photos of the same faces table: they may be compared. Everything is computed once.

    results: by a label that tells them apart. leader: the label of the result with the lowest MAE.
    """

    results: Mapping[str, Result]
    draws: int = DRAWS

    @property
    def about(self) -> About:
        """The record of the leader."""
        return self.results[self.leader].about

    @property
    def built_in(self) -> bool:
        return self.about.built_in

    @cached_property
    def summaries(self) -> dict[str, Summary]:
        return {label: summarise(each.predictions, draws=self.draws) for label, each in self.results.items()}

    @cached_property
    def leader(self) -> str:
        return min(self.results, key=lambda label: self.summaries[label].mae.value)

    @cached_property
    def guess(self) -> Predictions:
        return constant_guess(next(iter(self.results.values())).predictions)

    @cached_property
    def guess_summary(self) -> Summary:
        return summarise(self.guess, draws=self.draws)

    @cached_property
    def decades(self) -> dict[str, list[Decade]]:
        return {label: by_decade(each.predictions, draws=self.draws) for label, each in self.results.items()}

    @cached_property
    def whom(self) -> list[str | Table]:
        """For whom the leader errs (study.whom); its errors by age have a part of their own."""
        return for_whom(self.results[self.leader].predictions, self.decades[self.leader])

    @cached_property
    def calibrations(self) -> dict[str, Calibration]:
        return {label: calibrate(each.predictions, draws=self.draws) for label, each in self.results.items()}

    @cached_property
    def guess_calibration(self) -> Calibration:
        return calibrate(self.guess, draws=self.draws)

    @cached_property
    def comparisons(self) -> list[Comparison]:
        if len(self.results) < 2:
            return []
        return compare({label: each.predictions for label, each in self.results.items()}, draws=self.draws)

    @cached_property
    def alarms(self) -> dict[str, list[str]]:
        return {label: alarms(each.predictions, draws=self.draws) for label, each in self.results.items()}

    @property
    def title(self) -> str:
        """The names of the datasets: "FG-NET"."""
        return " and ".join(DATASETS.get(part, part) for part in self.about.dataset.split(", "))

    @property
    def unlike(self) -> str:
        """How the starts of the networks compared here, and in the sweeps behind them, differ; "" if they do not."""
        by_sweep: dict[str, list[str]] = {}
        for label, each in self.results.items():
            by_sweep.setdefault(each.about.pretraining.unlike, []).append(label)
        starts = [start for each in self.results.values() for start in _starts(each.about)]
        among = [f"in the sweep behind {', '.join(who)}, {differ}" for differ, who in by_sweep.items() if differ]
        return "; ".join(filter(None, [unlike(starts), *among]))

    @property
    def slug(self) -> str:
        """The start of this section's file names: "fgnet-1a2b3c"."""
        name = "-".join(self.about.dataset.split(", "))
        return f"{slug(name)}-{slug(self.about.faces_digest, most=6)}"

    @property
    def data(self) -> str:
        """The data, the number of people, and the pretraining: the caption of every picture."""
        summary = self.summaries[self.leader]
        kind = " (drawn, not real)" if self.built_in else ""
        start = f"{self.title}{kind}, leave one person out: {summary.people} people, {summary.photos:,} photos."
        kinds = {pretraining(each.about) for each in self.results.values()}
        if len(kinds) == 1:
            return f"{start} Pretraining: {kinds.pop()}"
        return f"{start} Pretraining of {self.leader}: {pretraining(self.about)}"


def sections(results: Sequence[Result], *, draws: int = DRAWS) -> list[Section]:
    """The results in groups that may be compared: same dataset, same faces digest, same photos.

    Real people come first, then the section with the most results.
    """
    groups: dict[tuple[object, ...], list[Result]] = {}
    for each in results:
        table = each.predictions
        photos = tuple(table.photo[: table.photos].tolist())
        groups.setdefault((each.about.dataset, each.about.faces_digest, photos), []).append(each)
    ordered = sorted(groups.values(), key=lambda group: (group[0].about.built_in, -len(group)))
    return [Section(dict(zip(labels(group), group, strict=True)), draws) for group in ordered]


def name_of(about: About) -> str:
    """The backbone as people write it; of several, "EfficientNet-B0 or ResNet-34"."""
    names = about.between.join(map(backbone_name, about.backbones))
    return f"Mean of {len(about.members)} results ({names})" if about.members else names


def labels(results: Sequence[Result]) -> list[str]:
    """The backbone's name for each result, with what differs from others of the same backbone in brackets."""
    flat = [_flat(each.about) for each in results]
    names = [branded(name_of(each.about), each.about.brand) for each in results]
    found = []
    for i, (name, own) in enumerate(zip(names, flat, strict=True)):
        rivals = [flat[j] for j, other in enumerate(names) if other == name and j != i]
        differ = [key for key in own if any(own[key] != rival.get(key) for rival in rivals)]
        values = {key: results[i].about.between.join(map(short, own[key])) for key in differ[:4]}
        shown = ", ".join(_AFTER.get(key, f"{key} {{}}").format(value) for key, value in values.items())
        found.append(f"{name} ({shown})" if shown else name)
    # Two runs of the same config differ in their number only.
    return [
        label if found.count(label) == 1 else f"{label} [{found[: i + 1].count(label)}]"
        for i, label in enumerate(found)
    ]


_AFTER = {"px": "{} px", "epochs": "{} epochs", "seeds": "{} seeds", "folds": "{}", "loss": "{}", "schedule": "{} rate"}


def _flat(about: About) -> dict[str, list[object]]:
    # LOPO's schedule, plain or tree; the config's own "schedule" is the learning rate's
    own: dict[str, list[object]] = {"folds": [about.schedule], "seeds": [len(about.seeds)]}
    values: dict[str, list[object]] = {}
    for config in about.configs:
        for key, value in config.items():
            if key in ("backbone", "seed", "weights"):  # weights is a path: `pretraining` describes it
                continue
            inner = value.items() if isinstance(value, Mapping) else [("", value)]
            for k, v in inner:
                values.setdefault(key if k == "name" else f"{key} {k}".strip(), []).append(v)
    own |= {key: [v for i, v in enumerate(each) if v not in each[:i]] for key, each in values.items()}
    return {**own, "pretraining": [pretraining(about)]}


def _starts(about: About) -> tuple[StartRecord, ...]:
    return about.starts or (StartRecord(name_of(about), "", "", pretraining(about)),)


def pretraining(about: About) -> str:
    """What the network was pretrained on, as a sentence."""
    return sentence(about.pretraining.what)


def sentence(text: str) -> str:
    """The text with one full stop at its end."""
    return text.rstrip(". ") + "."
