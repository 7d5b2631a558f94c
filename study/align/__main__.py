import sys

from study.align.options import ABOUT, Options, refuse
from study.cli.run import main

if __name__ == "__main__":  # the command's own module is imported when its options were read
    sys.exit(main("study.align.command:align", Options, prog="python -m study.align", about=ABOUT, refuse=refuse))
