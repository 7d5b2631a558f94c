import sys

from study.cli.run import main
from study.sweep import command

if __name__ == "__main__":  # the command lies in a module of its own, so that nothing is pickled from here
    sys.exit(main(command.sweep, command.Sweep, prog="python -m study.sweep", description=command.__doc__ or ""))
