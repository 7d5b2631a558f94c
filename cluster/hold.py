"""Have GPUs started, and kept, before a command asks for them: python cluster/hold.py 4; give them back: hold.py 0.

Run on the head. study.align counts what the cluster has when it starts, and a cluster at rest has no GPU. Waits until
all are there.
"""

import sys
import time

import ray
from ray.autoscaler.sdk import request_resources


def hold(gpus: int) -> None:
    """Ask the autoscaler for this many GPUs and wait for them; 0 gives all back."""
    ray.init(address="auto", log_to_driver=False)
    request_resources(bundles=[{"GPU": 1}] * gpus)
    while (there := int(ray.cluster_resources().get("GPU", 0))) < gpus:
        print(f"{there} of {gpus} GPUs are there", flush=True)
        time.sleep(15)
    print(f"{gpus} GPUs are held" if gpus else "no GPU is held; idle workers go when their time is up")


if __name__ == "__main__":
    hold(int(sys.argv[1]))
