"""The address of the server, and the options of the connection."""

import os
import re
from urllib.parse import quote

_MIB = 1024 * 1024

_OPTIONS: list[tuple[str, int | str]] = [
    # The largest message is a snapshot.
    ("grpc.max_receive_message_length", 16 * _MIB),
    ("grpc.max_send_message_length", 16 * _MIB),
    # Limits how much of a stream gRPC buffers before the reader takes it. With bdp_probe, gRPC would raise the limit.
    ("grpc.http2.lookahead_bytes", _MIB),
    ("grpc.http2.bdp_probe", 0),
    # Detect within 30 s that the server has disappeared, even while no call is running.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # By default gRPC waits up to 2 min before it reconnects, which is longer than the deadline of a call.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.dns_min_time_between_resolutions_ms", 2_000),
    # Ignore the proxies that environment variables name.
    ("grpc.enable_http_proxy", 0),
    # Give each client a connection of its own. By default the clients of a process share one.
    ("grpc.use_local_subchannel_pool", 1),
]


def options(server: str) -> list[tuple[str, int | str]]:
    """Returns the options of a gRPC channel to this server."""
    if server.startswith("unix:"):
        # gRPC would derive HTTP's host name from the path, and the server rejects such a name.
        return [*_OPTIONS, ("grpc.default_authority", "localhost")]
    return _OPTIONS


def target(server: str) -> str:
    """Returns gRPC's name for `HOST:PORT`, `http://HOST:PORT` or `unix:PATH`.

    Raises ValueError for any other address.
    """
    if server.startswith("unix:") and server != "unix:":
        return "unix://" + quote(os.path.abspath(server.removeprefix("unix:")))
    address = server.removeprefix("http://").removesuffix("/")
    if not re.fullmatch(r"(\[[^/\]]+\]|[^/:\s]+):\d+", address):
        raise ValueError(f"{server!r} is not a valid server address: use HOST:PORT, http://HOST:PORT or unix:PATH")
    return f"dns:///{address}"
