import sys

from study.cli.run import main
from study.lopo import command

if __name__ == "__main__":  # the command lies in a module of its own, so that nothing is pickled from here
    sys.exit(main(command.lopo, command.Lopo, prog="python -m study.lopo", description=command.__doc__ or ""))
