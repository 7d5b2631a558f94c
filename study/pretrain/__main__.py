import sys

from study.cli.run import main
from study.pretrain.options import ABOUT, Pretrain, read_networks

if __name__ == "__main__":  # the command's own module is imported when its options were read
    run, prog = "study.pretrain.command:pretrain", "python -m study.pretrain"
    sys.exit(main(run, Pretrain, prog=prog, about=ABOUT, refuse=read_networks))
