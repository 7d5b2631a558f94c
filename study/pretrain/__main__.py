import sys

from study.cli.run import main
from study.pretrain import command

if __name__ == "__main__":  # the command lies in a module of its own, so that nothing is pickled from here
    sys.exit(
        main(command.pretrain, command.Pretrain, prog="python -m study.pretrain", description=command.__doc__ or "")
    )
