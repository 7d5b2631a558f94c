import sys

from study.cli.run import main
from study.refit.options import ABOUT, Refit

if __name__ == "__main__":  # the command's own module is imported when its options were read
    run, prog = "study.refit.command:refit", "python -m study.refit"
    sys.exit(main(run, Refit, prog=prog, about=ABOUT, refuse=Refit.refuse_conflicts))
