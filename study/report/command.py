"""Every finished LOPO result as one report: the paper's tables with its values next to ours, pictures, sentences.

Reads MLflow, trains nothing. Results are compared only if they were tested on the same photos.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from study.artifacts.about import About
from study.artifacts.predictions import read_predictions
from study.cli.options import REAL_HOME, SYNTHETIC_HOME
from study.files.locks import hold
from study.files.storage import write_whole
from study.pictures import save_picture
from study.plain import apart
from study.report.document import document, terminal
from study.report.faces import faces_page
from study.report.figures import PICTURES, draw
from study.report.hover import as_svg
from study.report.options import Report
from study.report.page import page
from study.report.sections import Result, Section, sections
from study.statistics.bootstrap import DRAWS
from study.tracking import runs as tracking
from study.tracking.look import how_to_look
from study.tracking.questions import question


@dataclass(frozen=True)
class Written:
    """What was written: report.md first, then report.html, then the pictures."""

    files: tuple[Path, ...]
    sections: tuple[Section, ...]


def report(options: Report) -> None:
    """Write a report of the real people and one of the synthetic, log them to MLflow, and print their main tables.

    Raises FileNotFoundError if no LOPO is finished.
    """
    track = tracking.connect()
    with tempfile.TemporaryDirectory() as folder:
        results = read_results(tracking.finished_lopo(track, folder=Path(folder)))
    if not results:
        raise FileNotFoundError("there is no finished LOPO result to read; make one with: python -m study.lopo --best")
    for out, chosen in split(results, options.out).items():
        print(f"Reporting on {len(chosen)} finished LOPO result{'s' * (len(chosen) > 1)} ...", flush=True)
        with hold(out):
            written = write_report(list(chosen.values()), out=out, draws=options.draws)
            key = hashlib.sha256(" ".join([*sorted(chosen), str(options.draws)]).encode()).hexdigest()[:12]
            run_id = tracking.find_or_start(track, key=f"report-{key}", name="report", stage="report")
            tracking.log_files(track, run_id, written.files)
            tracking.finish(track, run_id, metrics=metrics_of(written.sections), tags={tracking.COMPLETE: "yes"})
        print(terminal(written.sections))
        print(f"\nReport: {out}/report.html (a file that needs no other), and as Markdown with pictures, report.md")
        if (shown := faces_page(written.sections, explain=options.explain)) is not None:
            write_whole(out / "faces.html", shown.encode())
            print(f"The faces behind it: {out}/faces.html (for this machine only: it shows people)")
    found = question(track, "LOPO results", synthetic=all(each.about.built_in for each in results.values()))
    print(f"Compare: {how_to_look(found, 'results')}")


def split(results: Mapping[str, Result], out: Path | None) -> dict[Path, dict[str, Result]]:
    """The results by the folder of their report: those of real and of synthetic people are never in one."""
    found: dict[Path, dict[str, Result]] = {}
    synthetic = [run_id for run_id, result in results.items() if result.about.built_in]
    for run_id, result in results.items():
        home = SYNTHETIC_HOME if result.about.built_in else REAL_HOME
        if not out or not result.about.built_in or len(synthetic) == len(results):
            found.setdefault(out or home / "report", {})[run_id] = result
    if out and 0 < len(synthetic) < len(results):
        print(
            f"Left out: {len(synthetic)} results of synthetic people; without --out they have a report of their own",
            file=sys.stderr,
        )
    return found


def read_results(runs: Sequence[tracking.LopoRun]) -> dict[str, Result]:
    """The results by run id; each that cannot be read is left out with a line."""
    results = {}
    for run in runs:
        try:
            results[run.run_id] = read_result(run)
        except (ValueError, TypeError, OSError) as error:
            tracking.left_out(run.run_id, run.name, error)
    return results


def read_result(run: tracking.LopoRun) -> Result:
    """A LOPO result from its files in MLflow. Its record is the one in predictions.parquet, which a digest covers; if
    about.json differs, a line says so, and it is ignored. Raises ValueError if the file is damaged."""
    where = f"MLflow run {run.name!r} ({run.run_id})"
    try:
        predictions, record = read_predictions(run.predictions)
        about = About.from_json(record, where=str(run.predictions))
    except ValueError as error:
        line = str(error).replace(str(run.predictions), f"predictions.parquet of {where}")
        raise ValueError(f"{line}; run the study.lopo command that made it again") from error
    if about != run.about:
        print(f"about.json of {where} differs from its predictions.parquet, which is used", file=sys.stderr)
    if len(predictions.people) < 2 or predictions.age.min() < 0:
        raise ValueError("predictions.parquet: expected two people or more, and no age below 0")
    return Result(run.name, about, predictions)


def write_report(results: Sequence[Result], *, out: Path, draws: int = DRAWS) -> Written:
    """Write report.md with its pictures, and report.html, into `out`; their content depends on the results alone."""
    found = sections(results, draws=draws)
    out.mkdir(parents=True, exist_ok=True)
    files, names = [out / "report.md", out / "report.html"], []
    drawn: list[dict[str, str]] = []
    for section, slug in zip(found, _slugs(found), strict=True):
        names.append({kind: f"{slug}-{kind}.png" for kind in PICTURES})
        drawn.append({})
        for kind, figure in draw(section).items():
            files.append(out / names[-1][kind])
            save_picture(figure, files[-1])
            drawn[-1][kind] = as_svg(figure, alternative=PICTURES[kind], salt=f"{slug}-{kind}")
    write_whole(files[0], document(found, names).encode())
    write_whole(files[1], page(found, drawn).encode())
    return Written(tuple(files), tuple(found))


def metrics_of(found: Sequence[Section]) -> dict[str, float]:
    """The metrics of each section's leader, for MLflow."""
    metrics: dict[str, float] = {}
    for section, slug in zip(found, _slugs(found), strict=True):
        summary = section.summaries[section.leader]
        for name, metric in (("mae", summary.mae), ("mae_pooled", summary.mae_pooled), ("rmse", summary.rmse)):
            metrics |= {f"{slug}/{name}": metric.value}
            metrics |= {f"{slug}/{name}_low": metric.low, f"{slug}/{name}_high": metric.high}
    return metrics


def _slugs(found: Sequence[Section]) -> list[str]:
    """The start of each section's names of pictures and metrics, no two alike."""
    return apart(section.slug for section in found)
