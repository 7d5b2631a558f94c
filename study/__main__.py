"""`python -m study`: the commands, in the order of their use."""

from study import tour
from study.align import options as align
from study.cli.about import overview
from study.crosstest import options as crosstest
from study.faces import options as faces
from study.lopo import options as lopo
from study.predict import options as predict
from study.pretrain import options as pretrain
from study.refit import options as refit
from study.report import options as report
from study.sweep import options as sweep
from study.ui import options as ui

COMMANDS = (tour, align, faces, pretrain, crosstest, sweep, lopo, report, refit, predict, ui)

if __name__ == "__main__":
    print(overview([(module.__name__.removesuffix(".options"), module.ABOUT) for module in COMMANDS]))
