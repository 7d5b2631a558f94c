import sys

from study.cli.run import main
from study.report.options import ABOUT, Report

if __name__ == "__main__":  # the command's own module is imported when its options were read
    sys.exit(main("study.report.command:report", Report, prog="python -m study.report", about=ABOUT))
