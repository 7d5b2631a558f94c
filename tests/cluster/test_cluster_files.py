"""The cluster files: Ray's own loader accepts them, all fields exist, no open port is left to a default, no secret."""

from __future__ import annotations

import copy
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import fillout_defaults, prepare_config, validate_config

REPO = Path(__file__).resolve().parents[2]
FILES = ("cluster.yaml", "cluster-onprem.yaml")
COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
PROVIDER_FIELDS = {
    "cluster.yaml": {"type", "region", "availability_zone", "cache_stopped_nodes"},
    "cluster-onprem.yaml": {"type", "head_ip", "worker_ips"},
}
"""The fields of `provider` that Ray's AWS and local providers read; Ray silently accepts any others."""


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((REPO / name).read_text())


def commands(config: dict[str, Any]) -> list[str]:
    return [line for name in COMMANDS for line in config[name]]


@pytest.fixture(params=FILES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_rays_own_loader_and_schema_take_the_file(name: str):
    prepared = prepare_config(read(name))
    validate_config(prepared)
    assert prepared["max_workers"] >= 1


def test_ray_fills_in_nothing(name: str):
    """Its defaults include a nightly wheel, a dashboard on all addresses and stopped machines that still cost."""
    config = read(name)
    if config["provider"]["type"] == "local":
        from ray.autoscaler._private.local.config import prepare_local

        config, _ = prepare_local(config)
    given = copy.deepcopy(config)
    filled = fillout_defaults(config)
    assert {key for key in filled if key not in given} == set()
    assert {key: filled[key] for key in COMMANDS} == {key: given[key] for key in COMMANDS}


def test_a_slip_in_the_file_would_be_found(name: str):
    config = read(name) | {"idle_timeout_minuts": 5}
    with pytest.raises(Exception, match="idle_timeout_minuts"):
        validate_config(prepare_config(config))


def test_no_unknown_field_of_the_provider(name: str):
    assert set(read(name)["provider"]) == PROVIDER_FIELDS[name]


def test_every_node_config_is_a_valid_request_to_ec2():
    """Against Amazon's own description of RunInstances: names, nesting and types of every field."""
    loaders = pytest.importorskip("botocore.loaders", reason="pip install boto3")
    from botocore.model import ServiceModel
    from botocore.validate import validate_parameters

    model = ServiceModel(loaders.Loader().load_service_model("ec2", "service-2"))
    request = model.operation_model("RunInstances").input_shape
    for node_type in read("cluster.yaml")["available_node_types"].values():
        validate_parameters({**node_type["node_config"], "MinCount": 1, "MaxCount": 1}, request)
        misspelt = {**node_type["node_config"], "InstanceTyp": "g6.xlarge", "MinCount": 1, "MaxCount": 1}
        with pytest.raises(Exception, match="InstanceTyp"):
            validate_parameters(misspelt, request)


def test_the_zones_belong_to_the_region():
    settings = read("cluster.yaml")["metadata"]
    assert all(re.fullmatch(re.escape(settings["region"]) + "[a-f]", zone) for zone in settings["zones"].split(","))


def test_head_has_no_gpu_and_workers_are_spot_from_none_up():
    types = read("cluster.yaml")["available_node_types"]
    assert set(types) == {"head", "one_gpu", "four_gpus"}
    assert "InstanceMarketOptions" not in types["head"]["node_config"]
    for name in ("one_gpu", "four_gpus"):
        assert types[name]["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
        assert types[name]["min_workers"] == 0 < types[name]["max_workers"]


def test_the_security_group_is_the_users_own():
    """Ray's own group opens SSH to 0.0.0.0/0 whatever the file says; so every node must name ours."""
    for node_type in read("cluster.yaml")["available_node_types"].values():
        assert node_type["node_config"]["SecurityGroupIds"]
    script = (REPO / "cluster" / "aws.sh").read_text()
    assert '--port 22 --cidr "$ADDRESS"' in script
    assert "0.0.0.0" not in script


def test_every_start_is_stated_and_nothing_serves_beyond_loopback_that_need_not(name: str):
    config = read(name)
    starts = [line for line in commands(config) if re.search(r"\bray start\b", line)]
    assert [("--head" in line) for line in starts] == [True, False]
    head = starts[0]
    for option in ("--dashboard-host=127.0.0.1", "--dashboard-port=8265", "--port=6379", "--autoscaling-config="):
        assert option in head
    assert config["worker_start_ray_commands"][-1].endswith("--disable-usage-stats")
    everything = "\n".join(commands(config)) + (REPO / "cluster" / "tracking.sh").read_text()
    assert not re.search(r"0\.0\.0\.0|\[::\]|--host[= ](?!127\.0\.0\.1)", everything)
    assert '--host 127.0.0.1 --port "$port"' in everything
    assert "--app-name basic-auth" in everything
    assert '--allowed-hosts "127.0.0.1:$port,localhost:$port"' in everything


def test_token_authentication_on_every_node(name: str):
    config = read(name)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert any("export RAY_AUTH_MODE=token" in line for line in config["setup_commands"])
    assert any("RAY_enable_metrics_collection=0" in line for line in config["setup_commands"])  # it has no token
    assert any("chmod 600 ~/.ray/auth_token" in line for line in config["setup_commands"])


def test_what_is_shipped_exists_and_is_the_code(name: str):
    shipped = {local for local in read(name)["file_mounts"].values() if not local.startswith("~")}
    assert {"study", "trainables", "search_spaces", "pyproject.toml", "constraints.txt"} <= shipped
    assert all((REPO / local).exists() for local in shipped)


def test_the_environment_is_the_laptops(name: str):
    installs = [line for line in commands(read(name)) if "pip install -q -c" in line]
    assert len(installs) == 1
    assert "-c constraints.txt -e '.[dlib,lite]'" in installs[0]
    assert any("python3.11" in line or "--python 3.11" in line for line in commands(read(name)))


def test_no_secret_no_nightly_and_no_moving_version():
    texts = {file: (REPO / file).read_text() for file in FILES}
    texts |= {str(file): file.read_text() for file in sorted((REPO / "cluster").iterdir())}
    for file, text in texts.items():
        assert not re.search(r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|\b[0-9a-f]{40,}\b", text), file
        assert "nightly" not in re.sub(r"#.*", "", text), file
        assert not re.search(r"\.whl|ray-wheels|:latest\b", text), file
    for name in FILES:
        for line in commands(read(name)):
            for word in shlex.split(line) if "pip install" in line else []:
                unpinned = re.fullmatch(r"(boto3|psycopg2-binary|flask-wtf|uv)", word)
                assert unpinned is None, f"{name}: {word} has no version"


@pytest.mark.parametrize("script", ["aws.sh", "save.sh", "tracking.sh"])
def test_the_shell_can_read_the_scripts(script: str):
    subprocess.run(["sh", "-n", str(REPO / "cluster" / script)], check=True)


def test_every_command_of_the_files_is_readable_shell(name: str):
    for line in commands(read(name)):
        subprocess.run(["bash", "-n", "-c", line], check=True)
