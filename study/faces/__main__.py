import sys

from study.cli.run import main
from study.faces.options import ABOUT, Options

if __name__ == "__main__":  # the command's own module is imported when its options were read
    sys.exit(main("study.faces.command:show", Options, prog="python -m study.faces", about=ABOUT))
