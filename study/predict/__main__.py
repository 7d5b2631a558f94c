import sys

from study.cli.run import main
from study.predict import command

if __name__ == "__main__":
    sys.exit(main(command.predict, command.Predict, prog="python -m study.predict", description=command.__doc__ or ""))
