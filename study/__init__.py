"""The commands of the study: align, pretrain, sweep, lopo, report. Disk, cluster and tracking live here."""

import sys

if sys.argv[:1] == ["-m"]:  # `python -m study.<command>`, which has imported nothing yet: torch alone takes seconds
    from study.process import ends, home

    ends.while_importing()
    home.ensure_home()
