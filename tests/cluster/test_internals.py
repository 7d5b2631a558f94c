"""What study/cluster/internals.py uses of Ray that is not public: still there, and still doing what the study needs."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
import ray

ROOT = Path(__file__).parents[2]
CHANGED = (
    f"Ray {ray.__version__} changed {{name}} ({{found}}), which study/cluster/internals.py uses in {{user}}: look for "
    "a public function that does the same, or adapt that file"
)


@pytest.mark.parametrize(
    ("name", "parameters", "user"),
    [
        ("ray._private.services.canonicalize_bootstrap_address", "addr", "find_address"),
        (
            "ray._private.authentication.authentication_token_setup.ensure_token_if_auth_enabled",
            "system_config create_token_if_missing",
            "check_token",
        ),
        ("ray._raylet.GcsClient", "", "ask_gcs"),
        ("ray._private.state.available_resources_per_node", "", "free_resources"),
        ("ray._private.state.state.get_cluster_config", "", "node_groups"),
        ("ray.experimental.internal_kv._internal_kv_put", "key value namespace", "mark"),
        ("ray.experimental.internal_kv._internal_kv_del", "key namespace", "unmark"),
        ("ray.experimental.internal_kv._internal_kv_list", "prefix namespace", "count_marks"),
        ("ray._private.worker.print_to_stdstream", "data ignore_prefix", "print_errors_with"),
    ],
)
def test_ray_still_has_what_is_not_public(name, parameters, user):
    owner, _, function = name.rpartition(".")
    try:
        found = getattr(pkgutil.resolve_name(owner), function, None)
    except (ImportError, AttributeError):
        found = None
    assert callable(found), CHANGED.format(name=name, found="it is gone", user=user)
    there = inspect.signature(found).parameters if parameters else {}  # one in Cython has no signature
    assert set(parameters.split()) <= set(there), CHANGED.format(name=name, found=f"it takes {list(there)}", user=user)


def test_ray_still_prints_its_errors_by_the_function_that_is_replaced():
    source = inspect.getsource(importlib.import_module("ray._private.worker").listen_error_messages)
    assert "print_to_stdstream(" in source, CHANGED.format(
        name="worker.listen_error_messages", found="it prints otherwise", user="print_errors_with"
    )


LOOK = """
import ray
from study.cluster import internals, placing
from study.cluster.joining import check_address
from study.cluster.start import start_ray

start_ray(num_cpus=3, object_store_bytes=80_000_000)
address = ray.get_runtime_context().gcs_address
assert check_address(address) == address, address
internals.ask_gcs(address)
assert [node["CPU"] for node in internals.free_resources()] == [3.0]
assert placing.machines() == [{"CPU": 3.0, "GPU": 0.0}]
assert internals.node_groups() == []  # no autoscaler

running, other = placing.Running(), placing.Running()
unit = placing.Unit("task", 3, 0, "--cpus")
look = running.of(lambda: (running.count(), other.count(), placing.lacking(unit)), num_cpus=1)
seen = ray.get(look())
assert seen[:2] == (1, 0), seen
assert seen[2] and "all in use by others except 2 CPUs" in seen[2], seen
assert running.count() == 0
print("as expected")
"""


def test_a_real_ray_answers_as_public_functions_say():
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "as expected", CHANGED.format(
        name="something that is not public", found=done.stderr[-2000:], user="use of it (see the line that failed)"
    )


def test_auto_without_a_ray_on_this_machine_is_one_line(monkeypatch):
    from ray._private import services  # here: where they are gone, the tests above are to say so

    from study.cluster.joining import check_address

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(services, "find_gcs_addresses", set)
    monkeypatch.setattr(services, "find_bootstrap_address", lambda temp_dir: None)
    with pytest.raises(ConnectionError, match="is auto, but no Ray runs on this machine: give HOST:PORT"):
        check_address("auto")


def test_only_one_file_uses_what_is_not_public():
    found = set()
    for file in [file for room in ("study", "trainables", "search_spaces") for file in (ROOT / room).rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            whole = [f"{node.module}.{name}" for name in names] if isinstance(node, ast.ImportFrom) else names
            if any(f"{name}.".startswith("ray.") and ("._" in name or "internal_kv" in name) for name in whole):
                found.add(str(file.relative_to(ROOT)))
    assert found == {"study/cluster/internals.py"}
