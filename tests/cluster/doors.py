"""Tries a host's ports from this machine: python tests/cluster/doors.py ADDRESS PORTS [TOKEN]. Prints JSON.

For each port: whether it accepts a connection, and the answers to HTTP paths and to calls of Ray's gRPC services, with
or without the token. tests.cluster.three_hosts runs it in the network that it tests.
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
"""One harmless call of each Ray service; a port serves some of them and answers UNIMPLEMENTED to the others."""
QUIET = 4.0
"""Seconds without an answer after which a port counts as silent."""


def connects(address: str, port: int) -> str:
    """ "open", or the name of the error."""
    try:
        socket.create_connection((address, port), timeout=QUIET).close()
    except OSError as error:
        return type(error).__name__
    return "open"


def over_http(address: str, port: int, token: str) -> dict[str, str]:
    """HTTP status of each path, up to the first that is not answered."""
    statuses = {}
    for path in PATHS:
        connection = http.client.HTTPConnection(address, port, timeout=QUIET)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
            statuses[path] = str(connection.getresponse().status)
        except (OSError, http.client.HTTPException):
            break
        finally:
            connection.close()
    return statuses


def over_grpc(address: str, port: int, token: str) -> dict[str, str]:
    """gRPC status of each of Ray's calls that the port serves, up to the first that is not answered."""
    import grpc

    statuses: dict[str, str] = {}
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
                statuses[call.partition("/")[0].removeprefix("ray.rpc.")] = status
    return statuses


def knock(address: str, ports: list[int], token: str = "") -> dict[int, dict[str, str]]:
    """What each port answers: {port: {"": connection, path or service: status}}."""
    statuses = {}
    for port in ports:
        statuses[port] = {"": connects(address, port)}
        if statuses[port][""] == "open":
            statuses[port] |= over_http(address, port, token) or over_grpc(address, port, token)
    return statuses


if __name__ == "__main__":
    given = sys.argv[3] if len(sys.argv) > 3 else ""
    print(json.dumps(knock(sys.argv[1], [int(port) for port in sys.argv[2].split(",")], given)))
