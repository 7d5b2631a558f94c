import sys

from study.cli.run import main
from study.sweep.options import ABOUT, Sweep, read_question

if __name__ == "__main__":  # the command's own module is imported when its options were read
    sys.exit(main("study.sweep.command:sweep", Sweep, prog="python -m study.sweep", about=ABOUT, refuse=read_question))
