"""The commands of the study: align, pretrain, sweep, lopo, report. Disk, cluster and tracking live here."""

from study.home import ensure_home

ensure_home()  # before anything is imported that looks for it
