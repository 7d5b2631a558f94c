"""Every complete LOPO result as one report: the paper's tables with its figures beside ours, pictures,
sentences.

Reads MLflow, trains nothing. Results are compared only where they were tested on the same photos.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from matplotlib.figure import Figure

from study.artifacts.about import About
from study.artifacts.predictions import read_predictions
from study.files.locks import hold
from study.files.storage import write_whole
from study.pictures import save_picture
from study.plain import apart
from study.report import figures, tables
from study.report.choice import choices
from study.report.figures import Caption, MaeRow
from study.report.paper import PAPER_MAE, backbone_name
from study.report.sections import Result, Section, name_of, sections
from study.statistics.bootstrap import DRAWS
from study.statistics.summary import by_decade
from study.tracking import runs as tracking
from trainables.fields import Range


@dataclass(frozen=True)
class Report:
    """Options of study.report."""

    out: Path = Path("runs/report")
    """Folder for report.md and its pictures."""
    draws: Annotated[int, Range(2, 1_000_000)] = DRAWS
    """Bootstrap draws behind each interval; fewer are faster and rougher."""


@dataclass(frozen=True)
class Written:
    """What was written: report.md first, then the pictures."""

    files: tuple[Path, ...]
    sections: tuple[Section, ...]


def report(options: Report) -> None:
    """Write the report, log it to MLflow, and print its main table.

    Raises FileNotFoundError where no LOPO has been finished.
    """
    track = tracking.connect()
    with tempfile.TemporaryDirectory() as folder:
        runs = tracking.finished_lopo(track, folder=Path(folder))
        results = _read(runs)
    if not results:
        raise FileNotFoundError("there is no finished LOPO result to read; make one with: python -m study.lopo --best")
    print(f"Reporting on {len(results)} finished LOPO result{'s' * (len(results) > 1)} ...", flush=True)
    with hold(options.out):
        written = write_report(results, out=options.out, draws=options.draws)
        key = hashlib.sha256(" ".join(sorted(run.run_id for run in runs)).encode()).hexdigest()[:12]
        run_id = tracking.find_or_start(track, key=f"report-{key}", name="report", stage="report")
        tracking.log_files(track, run_id, written.files)
        tracking.finish(track, run_id, metrics=_metrics(written.sections))
    print(terminal(written.sections))
    print(f"\nReport and pictures: {options.out}/ ({', '.join(file.name for file in written.files)})")
    print(f"Next: {tracking.how_to_look()}")


def _read(runs: Sequence[tracking.LopoRun]) -> list[Result]:
    """The results; those that cannot be read are left out with a line each."""
    results = []
    for run in runs:
        try:
            results.append(read_result(run))
        except (ValueError, TypeError, OSError) as error:
            tracking.left_out(run.run_id, run.name, error)
    return results


def read_result(run: tracking.LopoRun) -> Result:
    """A LOPO result from its files in MLflow. What it is about is what its predictions say, which their digest covers;
    an about.json that says something else is named, and not believed. Raises ValueError where they are damaged."""
    where = f"MLflow run {run.name!r} ({run.run_id})"
    try:
        predictions, record = read_predictions(run.predictions)
        about = About.from_json(record, where=str(run.predictions))
    except ValueError as error:
        line = str(error).replace(str(run.predictions), f"predictions.parquet of {where}")
        raise ValueError(f"{line}; the study.lopo command that made it writes it again") from error
    if about != run.about:
        print(f"about.json of {where} is not what its predictions.parquet says, which is taken", file=sys.stderr)
    if len(predictions.people) < 2 or predictions.age.min() < 0:
        raise ValueError("predictions.parquet: expected two people or more, and no age below 0")
    return Result(run.name, about, predictions)


def write_report(results: Sequence[Result], *, out: Path, draws: int = DRAWS) -> Written:
    """Write report.md and its pictures into `out`; what it says depends on the results alone."""
    found = sections(results, draws=draws)
    out.mkdir(parents=True, exist_ok=True)
    files, pictures = [out / "report.md"], []
    for section, slug in zip(found, _slugs(found), strict=True):
        pictures.append({name: f"{slug}-{name}.png" for name in PICTURES})
        for name, figure in draw(section).items():
            files.append(out / pictures[-1][name])
            save_picture(figure, files[-1])
    write_whole(files[0], document(found, pictures).encode())
    return Written(tuple(files), tuple(found))


def _slugs(found: Sequence[Section]) -> list[str]:
    """What names each section's pictures and metrics; no two are alike."""
    return apart(section.slug for section in found)


PICTURES = {
    "mae": "Mean absolute error by backbone, with intervals over people, beside the paper's",
    "cs": "Curves of the cumulative score from 0 to 15 years",
    "error-by-age": "Mean absolute error by decade of true age",
    "predicted-against-true": "Predicted over true age, a dot a photo",
    "calibration": "Coverage of central intervals, and the PIT histogram",
}
"""The pictures of a section, and what stands in their place for who cannot see them."""


def draw(section: Section) -> dict[str, Figure]:
    """The pictures of a section by name."""
    leader, data, summaries = section.leader, section.data, section.summaries
    guess_by_decade = by_decade(section.guess, draws=section.draws)
    # Rings of the paper's figures beside other people than FG-NET's would mislead.
    on_fgnet = section.about.dataset == "fgnet"
    paper = {backbone_name(backbone): mae for backbone, mae in PAPER_MAE.items() if on_fgnet}
    names = {label: name_of(each.about) for label, each in section.results.items()}
    rows = [MaeRow(label, summaries[label].mae, paper.get(name)) for label, name in names.items()]
    rows += [MaeRow(name, None, mae) for name, mae in paper.items() if name not in names.values()]
    rows.sort(key=lambda row: (row.ours is None, row.ours.value if row.ours else row.paper))
    return {
        "mae": figures.mae_rows(
            rows,
            guess=section.guess_summary.mae.value,
            caption=Caption("Mean absolute error by backbone", data),
            paper="the paper" if paper else None,
        ),
        "cs": figures.cs_curves(
            {label: s.cs for label, s in summaries.items()},
            leader=leader,
            guess=section.guess_summary.cs,
            caption=Caption("Cumulative score: how many photos are within how many years", data),
        ),
        "error-by-age": figures.error_by_age(
            section.decades, leader=leader, guess=guess_by_decade, caption=Caption("Error by age", data)
        ),
        "predicted-against-true": figures.predicted_against_true(
            section.results[leader].predictions.average_seeds(),
            name=leader,
            guess=float(section.guess.predicted.mean()),
            caption=Caption("Predicted against true age", data),
        ),
        "calibration": figures.calibration(
            section.calibrations,
            leader=leader,
            caption=Caption("Calibration: does the model know how sure it may be?", data),
        ),
    }


def document(found: Sequence[Section], pictures: Sequence[Mapping[str, str]]) -> str:
    """report.md: a part for each section, with the file names of its pictures."""
    start = ["# Report of the age study"]
    if all(section.built_in for section in found):
        start = [tables.BUILT_IN, *start]
    parts = [markdown(section, names) for section, names in zip(found, pictures, strict=True)]
    return "\n\n".join([*start, *parts]) + "\n"


def markdown(section: Section, pictures: Mapping[str, str]) -> str:
    """The part of report.md on one section."""
    shown = {name: f"![{words}]({pictures[name]})" for name, words in PICTURES.items()}
    summary = section.summaries[section.leader]
    lines = [
        f"## {section.title}: {summary.people} people, {summary.photos:,} photos",
        *([tables.BUILT_IN] if section.built_in else []),
        tables.headline(section),
        "\n".join(f"- {caveat}" for caveat in tables.caveats(section)),
        "### Tables 1 and 2: mean absolute error in years",
        tables.mae_table(section),
        tables.against_paper(section),
        shown["mae"],
        "### Which config is better?",
        tables.comparisons(section),
        *(["### How the config was chosen", choices(section)] if choices(section) else []),
        "### Table 3: root mean squared error in years",
        tables.rmse_table(section),
        "### Figure 4: cumulative score in percent, mean over people",
        shown["cs"],
        tables.cs_table(section),
        "The paper prints its curves without their numbers, so none of them is drawn here.",
        f"### Error by age ({section.leader})",
        shown["error-by-age"],
        tables.age_table(section),
        "Pooled within a decade. Bias above 0: taken for older than they are. The people erred on most:",
        tables.people_table(section),
        f"### Predicted against true age ({section.leader})",
        shown["predicted-against-true"],
        "### Calibration: does the model know how sure it may be?",
        section.calibrations[section.leader].sentence,
        shown["calibration"],
        tables.calibration_table(section),
        "CRPS is the MAE of a whole distribution: lower is better, and without any spread it is the MAE. "
        "Coverage should equal its level. The constant guess's distribution is how often each age occurs "
        "among the others.",
        "### What was run",
        tables.config_table(section),
        f"Faces table: digest {section.about.faces_digest}.",
    ]
    if section.about.dataset == "fgnet":
        lines += [
            "### Others on FG-NET",
            tables.published_tables(),
            "Pretraining differs from method to method and from ours; none was published with an interval.",
        ]
    return "\n\n".join(line for line in lines if line)


def terminal(found: Sequence[Section]) -> str:
    """The main table and sentences of every section, for the terminal."""
    parts = []
    for section in found:
        summary = section.summaries[section.leader]
        parts += [
            f"\n{section.title}: {summary.people} people, {summary.photos:,} photos. MAE in years",
            *([tables.BUILT_IN.replace("*", "")] if section.built_in else []),
            tables.mae_table(section),
            *(f"ALARM {label}: {line}" for label, lines in section.alarms.items() for line in lines),
            *(c.sentence for c in section.comparisons[: tables.MANY]),
        ]
    return "\n".join(parts)


def _metrics(found: Sequence[Section]) -> dict[str, float]:
    """The figures of each section's leader, for MLflow."""
    metrics: dict[str, float] = {}
    for section, slug in zip(found, _slugs(found), strict=True):
        summary = section.summaries[section.leader]
        for name, figure in (
            ("mae", summary.mae),
            ("mae_pooled", summary.mae_pooled),
            ("rmse", summary.rmse),
        ):
            metrics |= {
                f"{slug}.{name}": figure.value,
                f"{slug}.{name}_low": figure.low,
                f"{slug}.{name}_high": figure.high,
            }
    return metrics
