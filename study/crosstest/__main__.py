import sys

from study.cli.run import main
from study.crosstest import command

if __name__ == "__main__":
    sys.exit(main(command.crosstest, command.CrossTest, prog="python -m study.crosstest", description=command.__doc__))
