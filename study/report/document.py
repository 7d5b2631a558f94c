"""The report as a list of blocks, and as text: report.md and the short form for the terminal. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from study.report import sentences, tables
from study.report.choice import choices
from study.report.figures import PICTURES
from study.report.sections import Section
from study.table import Table

TITLE = "Report of the age study"


@dataclass(frozen=True)
class Picture:
    """The place of a picture: one of PICTURES."""

    kind: str

    @property
    def words(self) -> str:
        """What it shows, for those who cannot see it."""
        return PICTURES[self.kind]


Block = str | Table | Picture
"""A part of the report; text is Markdown."""


def blocks(section: Section) -> list[Block]:
    """The part of the report on one section: the answer first, then the paper's tables, then what lies behind them."""
    how_chosen = choices(section)
    parts: list[Block] = [
        f"## {_title(section)}",
        f"**{sentences.SYNTHETIC}**" if section.built_in else "",
        sentences.headline(section),
        "\n".join(f"- {caveat}" for caveat in sentences.caveats(section)),
        "### Tables 1 and 2: mean absolute error in years",
        tables.mae_table(section),
        tables.not_run(section),
        sentences.against_paper(section),
        Picture("mae"),
        "### Which config is better?",
        sentences.comparisons(section),
        "### How the config was chosen" if how_chosen else "",
        *how_chosen,
        "### Table 3: root mean squared error in years",
        tables.rmse_table(section),
        "### Figure 4: cumulative score in percent, mean over people",
        Picture("cs"),
        tables.cs_table(section),
        sentences.cumulative(section),
        "The paper prints its curves without their values, so they are not drawn here.",
        f"### Error by age ({section.leader})",
        Picture("error-by-age"),
        tables.age_table(section),
        "Pooled within a decade. A bias above 0 means: predicted older than they are. The people with the largest "
        "errors:",
        tables.people_table(section),
        f"### For whom does it err? ({section.leader})",
        *section.whom[1:],
        f"### Predicted against true age ({section.leader})",
        Picture("predicted-against-true"),
        "### Calibration: are the predicted probabilities right?",
        section.calibrations[section.leader].sentence,
        Picture("calibration"),
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
            tables.published_table(),
            tables.cross_tests(),
            "Pretraining differs from method to method and from ours; none was published with an interval.",
        ]
    return [part for part in parts if part != ""]


def start(sections: Sequence[Section]) -> list[str]:
    """What stands above all sections."""
    heading = [f"# {TITLE}"]
    return [f"**{sentences.SYNTHETIC}**", *heading] if all(section.built_in for section in sections) else heading


def document(sections: Sequence[Section], pictures: Sequence[Mapping[str, str]]) -> str:
    """report.md: a part for each section. pictures: for each section, the file names of its pictures by kind."""
    parts = start(sections)
    for section, names in zip(sections, pictures, strict=True):
        for block in blocks(section):
            parts.append(f"![{block.words}]({names[block.kind]})" if isinstance(block, Picture) else str(block))
    return "\n\n".join(parts) + "\n"


def terminal(sections: Sequence[Section]) -> str:
    """The main table of each section, with what must be known to read it and the comparisons."""
    parts = []
    for section in sections:
        parts += [
            f"\n{_title(section)}. MAE in years",
            *([sentences.SYNTHETIC] if section.built_in else []),
            str(tables.mae_table(section)),
            *sentences.read_with_care(section),
            *(each.sentence for each in sentences.listed(section)[: sentences.MANY]),
        ]
    return "\n".join(parts)


def _title(section: Section) -> str:
    summary = section.summaries[section.leader]
    return f"{section.title}: {summary.people} people, {summary.photos:,} photos"
