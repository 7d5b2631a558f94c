"""Fixtures: faces whose age can be seen (their brightness), so that a training on them must learn."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.checked import check_calls

# Types, shapes and dtypes of every annotated function are checked in every test.
check_calls(["trainables", "search_spaces", "study"])

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

LONGEST = (
    "commands/test_stages.py", "chaos/test_chaos.py", "commands/test_promise.py", "trainables/test_streaming.py",
    "tracking/test_tracking_server.py", "process/test_ends.py", "trainables/test_training.py",
    "trainables/test_backbones.py", "files/test_storage.py", "align/test_align.py",
)  # fmt: skip
"""The files that were measured to take longest, so that a process of tests is not left alone with one at the end."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="leave out the tests that are slow (see is_slow)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files come first, then those with the most slow tests."""
    import torch  # not above: the process that only hands out the tests need not wait for it

    torch.set_num_threads(1)
    if config.getoption("--fast"):
        slow = [item for item in items if is_slow(item)]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not is_slow(item)]
    slow_tests = Counter(item.path for item in items if is_slow(item))
    order = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (order.get(item.path, len(order)), -slow_tests[item.path]))  # stable: files stay whole


def is_slow(item: pytest.Item) -> bool:
    """Whether a test needs Ray, or is in a module that starts processes, or is marked slow (it trains)."""
    needs = set(getattr(item, "fixturenames", ()))
    module = vars(getattr(item, "module", None) or object)
    starts = {"subprocess", "ray", "served", "interrupt", "typed", "run_and_kill"} & module.keys()
    return bool(item.get_closest_marker("slow") or needs & {"one_ray", "own_ray"} or starts)


@pytest.fixture(scope="session")
def _ray_ends_with_the_tests() -> Iterator[None]:
    yield
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


@pytest.fixture(scope="module")
def one_ray(_ray_ends_with_the_tests: None) -> None:
    """Ray with two cores, whatever the machine has: one for all tests, so that its processes start once."""
    from study.cluster.start import start_ray

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(Path(__file__).parents[1])  # its workers stay in a folder that no test removes
        # Its workers wait for the next test, instead of ending after a second: each start imports torch for seconds
        for name, value in {"num_workers_soft_limit": 4, "idle_worker_killing_time_threshold_ms": 600_000}.items():
            patch.setenv(f"RAY_{name}", str(value))
        start_ray(num_cpus=2, object_store_bytes=500_000_000, quiet_core=True)


@pytest.fixture
def own_ray(_ray_ends_with_the_tests: None) -> Iterator[Callable[..., None]]:
    """own_ray(num_cpus=1) starts a Ray that has the test's environment and ends with the test."""
    import ray

    from study.cluster.start import start_ray

    ray.shutdown()
    yield start_ray
    ray.shutdown()


@pytest.fixture(scope="session")
def make_table() -> Callable[..., Path]:
    """make_table(folder, people=12, photos=6, dataset="drawn", named=True) writes a faces table, gives its folder."""
    return write_table


def write_table(
    folder: Path,
    *,
    people: int = 12,
    photos: int = 6,
    dataset: str = "drawn",
    named: bool = True,
    px: int = 48,
    seed: int = 0,
) -> Path:
    from trainables.faces.table import SCHEMA

    # pictures of two datasets differ: copies would be found out
    random = np.random.default_rng(seed if dataset == "drawn" else [seed, *dataset.encode()])
    rows = []
    for person in range(people):
        for shot in range(photos):
            age = int(random.integers(0, 70))
            picture = np.clip(random.normal(30 + 2.5 * age, 12, (px, px, 3)), 0, 255).astype(np.uint8)
            data = io.BytesIO()
            Image.fromarray(picture).save(data, "JPEG", quality=90)
            rows.append(
                {
                    "dataset": dataset,
                    "photo": f"images/{person:03d}A{age:02d}_{shot}.JPG",
                    "person": f"{person:03d}" if named else None,
                    "age": age,
                    "face": data.getvalue(),
                    "landmarks": None,
                    "landmarker": "none",
                    "found_by": "as is",
                    "photo_sha256": hashlib.sha256(dataset.encode() + data.getvalue()).hexdigest(),
                }
            )
    (folder / "faces").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / "faces" / "00000.parquet")
    return folder
