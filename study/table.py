"""A table of the report, and the forms it is given in: Markdown, HTML, CSV and LaTeX. Pure."""

from __future__ import annotations

import csv
import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

NONE = "\N{EN DASH}"
"""In a table: there is no value."""

_LATEX = str.maketrans(
    {
        "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "$": r"\$",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}",
        NONE: "--", "λ": r"$\lambda$", "ρ": r"$\rho$", "<": r"\textless{}", ">": r"\textgreater{}",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Rows of text below a header; the first column names the row. name: of the file it is saved as, "mae"."""

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        """A Markdown table, padded so that it can be read as plain text too; the first column is left-aligned."""
        widths = [max(len(row[i]) for row in [self.header, *self.rows]) for i in range(len(self.header))]

        def line(cells: Sequence[str]) -> str:
            padded = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
            return "| " + " | ".join(padded) + " |"

        rule = [("-" * w) if i == 0 else ("-" * (w - 1) + ":") for i, w in enumerate(widths)]
        return "\n".join([line(self.header), line(rule), *(line(row) for row in self.rows)])

    def csv(self) -> str:
        """Comma-separated values (RFC 4180); a cell without a value is empty."""
        sink = io.StringIO()
        writer = csv.writer(sink)
        writer.writerow(self.header)
        writer.writerows([["" if cell == NONE else cell for cell in row] for row in self.rows])
        return sink.getvalue()

    def latex(self) -> str:
        """A tabular with the lines of the package booktabs."""
        columns = "l" + "r" * (len(self.header) - 1)
        head, *body = (" & ".join(cell.translate(_LATEX) for cell in row) + r" \\" for row in (self.header, *self.rows))
        lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
        return "\n".join([*lines, r"\end{tabular}"]) + "\n"

    def html(self) -> str:
        """A table that report.html's script sorts at a click on a header, with its CSV and LaTeX to be saved."""
        head = "".join(f'<th scope="col"><button type="button">{escape(cell)}</button></th>' for cell in self.header)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" if i else f'<th scope="row">{escape(cell)}</th>'
                             for i, cell in enumerate(row)) + "</tr>\n"
            for row in self.rows
        )  # fmt: skip
        saved = " · ".join(
            f'<a download="{self.name}.{kind}" href="data:text/{media};charset=utf-8;base64,'
            f'{b64encode(content.encode()).decode()}">{label}</a>'
            for kind, media, label, content in (
                ("csv", "csv", "CSV", self.csv()),
                ("tex", "plain", "LaTeX", self.latex()),
            )
        )
        return (
            f'<div class="table"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>\n'
            f'<p class="save">{saved}</p>'
        )


def table(name: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A Table of these rows. Raises ValueError for a row of another length than the header."""
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"table {name}: a row of {len(row)} cells below a header of {len(header)}: {row}")
    return Table(name, tuple(header), tuple(tuple(row) for row in rows))
