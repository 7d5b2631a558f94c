"""Knock at a host's doors from where one stands: python tests/cluster/doors.py ADDRESS PORTS [TOKEN]. Prints JSON.

At every port: can one connect; what do HTTP paths answer; what do the calls of Ray's services answer. With TOKEN as one
who has it, without as a stranger. Run by tests.cluster.three_hosts in the network that it tries.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys

PATHS = ("/", "/api/version", "/api/jobs/", "/api/job_agent/jobs/", "/nodes?view=summary", "/logs", "/metrics")
CALLS = (
    "ray.rpc.NodeInfoGcsService/GetAllNodeInfo",  # GCS
    "ray.rpc.NodeManagerService/GetNodeStats",  # raylet
    "ray.rpc.ObjectManagerService/Pull",  # object manager
    "ray.rpc.CoreWorkerService/GetCoreWorkerStats",  # each worker and driver
    "ray.rpc.RayletDriver/ClusterInfo",  # Ray client
    "ray.rpc.LogService/ListLogs",  # dashboard agent
)
"""One harmless call of each of Ray's services; a port serves some of them and answers UNIMPLEMENTED to the others."""
QUIET = 4.0
"""Seconds without an answer after which a door counts as silent."""


def connects(address: str, port: int) -> str:
    """ "open", or the error's name."""
    try:
        socket.create_connection((address, port), timeout=QUIET).close()
    except OSError as error:
        return type(error).__name__
    return "open"


def over_http(address: str, port: int, token: str) -> dict[str, str]:
    """Status of each path that is answered over HTTP, until one is not."""
    told = {}
    for path in PATHS:
        connection = http.client.HTTPConnection(address, port, timeout=QUIET)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
            told[path] = str(connection.getresponse().status)
        except (OSError, http.client.HTTPException):
            break
        finally:
            connection.close()
    return told


def over_grpc(address: str, port: int, token: str) -> dict[str, str]:
    """gRPC status of each of Ray's calls that the port has, until it is silent."""
    import grpc

    told: dict[str, str] = {}
    with grpc.insecure_channel(f"{address}:{port}") as channel:
        for call in CALLS:
            send = channel.unary_unary(f"/{call}")
            try:
                send(b"", timeout=QUIET, metadata=[("authorization", f"Bearer {token}")] if token else None)
                status = "OK"
            except grpc.RpcError as error:
                status = error.code().name
            if status in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                break  # no gRPC here
            if status != "UNIMPLEMENTED":
                told[call.partition("/")[0].removeprefix("ray.rpc.")] = status
    return told


def knock(address: str, ports: list[int], token: str = "") -> dict[int, dict[str, str]]:
    """What each port answers: {port: {"": connection, path or service: status}}."""
    told = {}
    for port in ports:
        told[port] = {"": connects(address, port)}
        if told[port][""] == "open":
            told[port] |= over_http(address, port, token) or over_grpc(address, port, token)
    return told


if __name__ == "__main__":
    given = sys.argv[3] if len(sys.argv) > 3 else ""
    print(json.dumps(knock(sys.argv[1], [int(port) for port in sys.argv[2].split(",")], given)))
