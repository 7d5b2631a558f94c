import sys

from study.cli.run import main
from study.report import command

if __name__ == "__main__":  # the command lies in a module of its own, so that nothing is pickled from here
    sys.exit(main(command.report, command.Report, prog="python -m study.report", description=command.__doc__ or ""))
