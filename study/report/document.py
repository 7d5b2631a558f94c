"""The report as text: report.md, the order of its parts, and the short form for the terminal. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from study.report import sentences, tables
from study.report.choice import choices
from study.report.figures import PICTURES
from study.report.sections import Section


def document(sections: Sequence[Section], pictures: Sequence[Mapping[str, str]]) -> str:
    """report.md: a part for each section. pictures: for each section, the file names of its pictures by kind."""
    start = ["# Report of the age study"]
    if all(section.built_in for section in sections):
        start = [f"**{sentences.SYNTHETIC}**", *start]
    parts = [markdown(section, names) for section, names in zip(sections, pictures, strict=True)]
    return "\n\n".join([*start, *parts]) + "\n"


def markdown(section: Section, pictures: Mapping[str, str]) -> str:
    """The part of report.md on one section."""
    shown = {kind: f"![{words}]({pictures[kind]})" for kind, words in PICTURES.items()}
    how_chosen = choices(section)
    parts = [
        f"## {_title(section)}",
        f"**{sentences.SYNTHETIC}**" if section.built_in else "",
        sentences.headline(section),
        "\n".join(f"- {caveat}" for caveat in sentences.caveats(section)),
        "### Tables 1 and 2: mean absolute error in years",
        tables.mae_table(section),
        sentences.against_paper(section),
        shown["mae"],
        "### Which config is better?",
        sentences.comparisons(section),
        "### How the config was chosen" if how_chosen else "",
        how_chosen,
        "### Table 3: root mean squared error in years",
        tables.rmse_table(section),
        "### Figure 4: cumulative score in percent, mean over people",
        shown["cs"],
        tables.cs_table(section),
        "The paper prints its curves without their values, so they are not drawn here.",
        f"### Error by age ({section.leader})",
        shown["error-by-age"],
        tables.age_table(section),
        "Pooled within a decade. A bias above 0 means: predicted older than they are. The people with the largest "
        "errors:",
        tables.people_table(section),
        f"### Predicted against true age ({section.leader})",
        shown["predicted-against-true"],
        "### Calibration: are the predicted probabilities right?",
        section.calibrations[section.leader].sentence,
        shown["calibration"],
        tables.calibration_table(section),
        "CRPS is the MAE of a whole distribution: lower is better, and without any spread it is the MAE. Coverage "
        "should equal its level. The constant guess's distribution is how often each age occurs among the others.",
        "### What was run",
        tables.config_table(section),
        f"Faces table: digest {section.about.faces_digest}.",
    ]
    if section.about.dataset == "fgnet":
        parts += [
            "### Other methods on FG-NET",
            tables.published_tables(),
            "Pretraining differs from method to method and from ours; none was published with an interval.",
        ]
    return "\n\n".join(filter(None, parts))


def terminal(sections: Sequence[Section]) -> str:
    """The main table of each section, with what must be known to read it and the comparisons."""
    parts = []
    for section in sections:
        parts += [
            f"\n{_title(section)}. MAE in years",
            *([sentences.SYNTHETIC] if section.built_in else []),
            tables.mae_table(section),
            *sentences.read_with_care(section),
            *(each.sentence for each in sentences.listed(section)[: sentences.MANY]),
        ]
    return "\n".join(parts)


def _title(section: Section) -> str:
    summary = section.summaries[section.leader]
    return f"{section.title}: {summary.people} people, {summary.photos:,} photos"
