import sys

from study.cli.run import main
from study.refit import command

if __name__ == "__main__":  # the command lies in a module of its own, so that nothing is pickled from here
    sys.exit(main(command.refit, command.Refit, prog="python -m study.refit", description=command.__doc__ or ""))
