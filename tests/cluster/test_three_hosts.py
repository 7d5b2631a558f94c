"""cluster-onprem.yaml on three hosts made of namespaces. It takes minutes and needs root, so `make test` skips it:

sudo THREE_HOSTS=1 .venv/bin/python -m pytest tests/cluster
"""

from __future__ import annotations

import os

import pytest

from tests.cluster.three_hosts import lacking, three_hosts

asked = os.environ.get("THREE_HOSTS") == "1"
reason = lacking() if asked else "takes minutes, and root: sudo THREE_HOSTS=1 .venv/bin/python -m pytest tests/cluster"


@pytest.mark.skipif(reason is not None, reason=str(reason))
def test_from_ray_up_to_ray_down_with_a_host_lost_and_a_stranger_at_every_door():
    seen = three_hosts()
    assert seen.wrong == []
