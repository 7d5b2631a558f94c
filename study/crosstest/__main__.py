import sys

from study.cli.run import main
from study.crosstest.options import ABOUT, CrossTest

if __name__ == "__main__":  # the command's own module is imported when its options were read
    sys.exit(main("study.crosstest.command:crosstest", CrossTest, prog="python -m study.crosstest", about=ABOUT))
