import sys

from study.cli.run import main
from study.lopo.options import ABOUT, Lopo

if __name__ == "__main__":  # the command's own module is imported when its options were read
    run, prog = "study.lopo.command:lopo", "python -m study.lopo"
    sys.exit(main(run, Lopo, prog=prog, about=ABOUT, refuse=Lopo.refuse_conflicts))
