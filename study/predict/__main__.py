import sys

from study.cli.run import main
from study.predict.options import ABOUT, Predict, refuse

if __name__ == "__main__":  # the command's own module is imported when its options were read
    sys.exit(main("study.predict.command:predict", Predict, prog="python -m study.predict", about=ABOUT, refuse=refuse))
