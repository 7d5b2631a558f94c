"""The commands of the study: align, pretrain, sweep, lopo, report. Disk, cluster and tracking live here."""
