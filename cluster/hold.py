"""Start GPUs, and keep them, before a command asks for them: python cluster/hold.py 4. Release them: hold.py 0.

Run it on the head; it waits until all are there. study.align counts the cluster's GPUs when it starts, and an idle
cluster has none.
"""

import sys
import time

import ray
from ray.autoscaler.sdk import request_resources


def hold(gpus: int) -> None:
    """Ask the autoscaler for this many GPUs and wait for them; 0 releases all."""
    ray.init(address="auto", log_to_driver=False)
    request_resources(bundles=[{"GPU": 1}] * gpus)
    while (there := int(ray.cluster_resources().get("GPU", 0))) < gpus:
        print(f"{there} of {gpus} GPUs are there", flush=True)
        time.sleep(15)
    print(f"{gpus} GPUs are held" if gpus else "no GPU is held; idle workers end after their idle time")


if __name__ == "__main__":
    hold(int(sys.argv[1]))
