import sys

from study.align import command
from study.cli.run import main

if __name__ == "__main__":  # the command lies in a module of its own, so that nothing is pickled from here
    sys.exit(main(command.align, command.Options, prog="python -m study.align", description=command.__doc__ or ""))
