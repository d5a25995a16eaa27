"""Finding the server."""

import os
import re
from urllib.parse import quote

_MIB = 1024 * 1024

_OPTIONS: list[tuple[str, int | str]] = [
    # As much as a snapshot may have.
    ("grpc.max_receive_message_length", 16 * _MIB),
    ("grpc.max_send_message_length", 16 * _MIB),
    # How much of a stream is taken ahead of its reader. Left to itself gRPC takes as much as the network brings.
    ("grpc.http2.lookahead_bytes", _MIB),
    ("grpc.http2.bdp_probe", 0),
    # How soon a server that is gone without a word is noticed, also while nothing is called.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC's own waits go up to 2 min: a server that is back would not be found for that long.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.dns_min_time_between_resolutions_ms", 2_000),
    # To the address given and nowhere else, whatever the environment says.
    ("grpc.enable_http_proxy", 0),
    # Clients of one process would share a connection.
    ("grpc.use_local_subchannel_pool", 1),
]


def options(server: str) -> list[tuple[str, int | str]]:
    """How gRPC connects to it."""
    if server.startswith("unix:"):
        # HTTP needs a host, though nobody looks at it. gRPC makes one of the path, which is none to the server.
        return [*_OPTIONS, ("grpc.default_authority", "localhost")]
    return _OPTIONS


def target(server: str) -> str:
    """What gRPC calls `HOST:PORT`, `http://HOST:PORT` or `unix:PATH`. Anything else is a ValueError."""
    if server.startswith("unix:") and server != "unix:":
        return "unix://" + quote(os.path.abspath(server.removeprefix("unix:")))
    address = server.removeprefix("http://").removesuffix("/")
    if not re.fullmatch(r"(\[[^/\]]+\]|[^/:\s]+):\d+", address):
        raise ValueError(f"{server!r} is no address of a server: it takes HOST:PORT, http://HOST:PORT or unix:PATH")
    return f"dns:///{address}"
