"""The model card, README.md of a model folder (Mitchell et al., Model Cards for Model Reporting, 2019). Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from study.artifacts.model import CARD_ATTRIBUTES, Measured, ModelRecord
from study.plain import plain

NO_FACTOR = "all ages"


def write_card(record: ModelRecord) -> str:
    """The card as Markdown."""
    parts = [
        f"# {plain(record.name)}: the age of a face",
        _what(record),
        "## Use\n\n"
        "```\n"
        "python -m study.predict PHOTO --model FOLDER        # FOLDER is where this file is\n"
        "```\n\n"
        "For research on age estimation. **It must not be used to decide anything about a person**: not whether "
        "somebody is of age, not in hiring, insurance, policing, asylum or advertising. An age that it gives is an "
        "impression of one photo, often off by years, and by more for some people than for others.",
        "## Trained on\n\n" + _data(record),
        "## Expected error\n\n" + _expected(record),
        "## How the config was chosen\n\n" + _choice(record),
        "## Limits\n\n" + _limits(record),
        "## Files\n\n" + _files(record),
    ]
    return "\n\n".join(parts) + "\n"


def _what(record: ModelRecord) -> str:
    seeds = f", the mean of {len(record.seeds)} trainings" if len(record.seeds) > 1 else ""
    return (
        f"{record.backbone} at {record.px} px{seeds}. It gives a distribution over the ages 0 to {record.ages - 1}, "
        f"whose {record.decoder} is the age, with intervals of 80 and 95 %. Made {record.made}."
        + (f"\n\n**{plain(record.brand)}**" if record.brand else "")
    )


def _data(record: ModelRecord) -> str:
    if record.synthetic:
        licence = (
            "These people are synthetic, drawn by the study itself: **the model means nothing for real faces**. "
            "Licences of the pictures: study/align/datasets/built_in/LICENSES.md."
        )
    else:
        licence = (
            "Research data sets such as FG-NET, UTKFace, All-Age-Faces and IMDB-WIKI are for non-commercial research "
            "only, and so is a model made from them. Do not publish these weights unless the data's terms allow it."
        )
    people = f" of {record.people} people" if record.people else ""
    further = (
        f". It is a pretrained network as it is, not fine-tuned: {plain(record.pretraining)}."
        if record.untuned
        else f"; nobody was left out. Before that: {plain(record.pretraining)}."
    )
    return (
        f"{record.photos:,} faces{people} ({plain(', '.join(record.datasets))}), aged {record.youngest} to "
        f"{record.oldest}{further} Faces were found and placed by the landmarker "
        f"{record.alignment.landmarker}, cut by the template {plain(record.alignment.template)} with coverage "
        f"{record.alignment.coverage:g}.\n\n" + licence
    )


def _expected(record: ModelRecord) -> str:
    swept = bool(record.chosen.sweep)
    return _error(record.measured, swept=swept) if record.measured else _unmeasured(swept=swept)


def _error(measured: Measured, *, swept: bool) -> str:
    """swept: whether a sweep chose the configs, or one was given by hand."""
    brand = f"**{plain(measured.brand)}** " if measured.brand else ""
    scales = [
        [
            f"{100 * s.level:.0f} %",
            NO_FACTOR if s.factor is None else f"{s.factor:.2f}",
            _share(s.covered, s.covered_low, s.covered_high),
            f"{s.width:.1f}",
        ]
        for s in measured.scales
    ]
    decades = [
        [
            f"{d.low} to {d.high}", f"{d.photos}", f"{d.people}", f"{d.mae:.2f}", f"{d.bias:+.2f}",
            f"{100 * d.covered_80:.0f} %", f"{100 * d.covered_95:.0f} %",
        ]
        for d in measured.decades
    ]  # fmt: skip
    return (
        f"{brand}MAE {measured.mae:.2f} years, the mean over {measured.people:,} people (95 % interval over people "
        f"{measured.mae_low:.2f} to {measured.mae_high:.2f}); {measured.mae_pooled:.2f} pooled over "
        f"{measured.photos:,} photos. {_how(measured, swept=swept)} On photos of another kind it is higher, and the "
        "intervals hold less often.\n\nAn interval is age ± factor · "
        "spread, the spread being the distribution's own. The factor is a conformal quantile over people. Coverage is "
        "cross-validated: each person's photos with a factor made without that person.\n\n"
        + _table(["level", "factor", "true ages inside (95 % over people)", "mean width, years"], scales)
        + "\n\nBy true age, pooled over photos (bias above 0: judged too old):\n\n"
        + _table(["age", "photos", "people", "MAE", "bias", "inside 80 %", "inside 95 %"], decades)
        + _by_group(measured)
    )


def _how(measured: Measured, *, swept: bool) -> str:
    """By whom, and of what, the error was measured."""
    if measured.untuned:
        strangers = (
            f" Who is on {measured.strangers:,} of them is not known: each counts as a person of its own, and the "
            "intervals are too narrow where somebody occurs twice."
            if measured.strangers
            else ""
        )
        return (
            f"Measured on photos that its training left out (result {measured.result}). study.pretrain prints the "
            f"error on such photos, so whoever chose a config by it chose by these.{strangers}"
        )
    whose = "the averaged predictions of its seeds" if measured.committee else "single trainings"
    tested = (
        "the configs that the sweep chose for each block of people. This model has one of these configs and"
        if swept
        else "this model's own config for everybody. The model itself"
    )
    return (
        f"Measured by leaving one person out (result {measured.result}, {whose}), with {tested} saw everybody, so its "
        "own error on new people of the same kind may be a little lower or higher."
    )


def _by_group(measured: Measured) -> str:
    """Errors by sex and group: a table of what is known, a sentence for what is not."""
    text = ""
    if measured.groups:
        rows = [
            [
                f"{each.attribute}: {plain(each.name, most=60)}", f"{each.photos}", f"{each.people}",
                _years(each.mae, each.mae_low, each.mae_high), f"{each.bias:+.2f}",
            ]
            for each in measured.groups
        ]  # fmt: skip
        text = "\n\nBy what the data names, pooled over photos; groups differ in age, too:\n\n"
        text += _table(["photos of", "photos", "people", "MAE (95 % over people)", "bias"], rows)
    if nameless := _nameless(measured):
        text += f"\n\nBy {' and '.join(nameless)}: not measured, since the data does not name at least two."
    return text


def _nameless(measured: Measured | None) -> list[str]:
    """What errors were not told by."""
    told = {each.attribute for each in measured.groups} if measured else set()
    return [name for name in CARD_ATTRIBUTES if name not in told]


def _years(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.2f}" if low is None or high is None else f"{value:.2f} ({low:.2f} to {high:.2f})"


def _unmeasured(*, swept: bool) -> str:
    how = "`python -m study.lopo --best`" if swept else "`python -m study.lopo` with the same training options"
    return (
        "Not measured: there was no LOPO result of this config on these faces. The intervals are the network's, and "
        f"nobody checked how often they hold. Run {how}, then study.refit again."
    )


def _choice(record: ModelRecord) -> str:
    chosen = record.chosen
    where = f"Sweep {plain(chosen.sweep)}, {plain(chosen.block)}: " if chosen.sweep else ""
    text = f"{where}{plain(chosen.rule)}."
    if not chosen.candidates:
        return text
    rows = [
        [plain(c.block), str(c.trial), plain(c.backbone), f"{c.mae:.2f}", f"{c.constant:.2f}", f"{c.ratio:.3f}"]
        for c in chosen.candidates
    ]
    return text + "\n\n" + _table(["block", "trial", "network", "MAE", "constant guess", "ratio"], rows)


def _limits(record: ModelRecord) -> str:
    return "\n".join(
        [
            f"- Ages above {record.oldest} and below {record.youngest} were not in the training data.",
            "- The interval's promise holds for new people of the same kind, photographed alike. For others it is only "
            "an estimate.",
            "- Errors differ by age, and may differ by what was not measured: "
            f"{', '.join([*_nameless(record.measured), 'skin colour', 'health'])} and make-up.",
            "- A face that the detector does not find gets no age: profiles, masks, very small faces.",
            "- It judges a photo, not a person: light, print and camera move the answer by years.",
        ]
    )


def _files(record: ModelRecord) -> str:
    return "\n".join(
        [
            f"- `model.onnx`: uint8 RGB faces (any number, {record.px}, {record.px}, 3) to distributions over ages; "
            f"normalised inside. At most {record.onnx_difference:.1e} years from torch on {record.onnx_faces} faces.",
            "- `model.safetensors` (further seeds: `model-2.safetensors` ...), `trial.json`, `photos.parquet`: a "
            "checkpoint from which another training can start.",
            "- `model.json`: alignment, calibration, expected error, data, and digests of data, code and files.",
            f"- Code: trainables {record.code.get('trainables', '')}, model {record.code.get('model', '')}; "
            + ", ".join(f"{name} {value}" for name, value in sorted(record.environment.items())),
        ]
    )


def _share(value: float, low: float, high: float) -> str:
    shown = f"{100 * value:.1f} %"
    return shown if math.isnan(low) else f"{shown} ({100 * low:.1f} to {100 * high:.1f})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
