import sys

from study.cli.run import main
from study.ui.options import ABOUT, Ui

if __name__ == "__main__":  # the command's own module is imported when its options were read
    sys.exit(main("study.ui.command:ui", Ui, prog="python -m study.ui", about=ABOUT))
