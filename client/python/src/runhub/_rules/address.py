"""This module converts the address of a server to a gRPC target, and defines the options of the gRPC channel."""

import os
import re
from urllib.parse import quote

_MIB = 1024 * 1024

_OPTIONS: list[tuple[str, int | str]] = [
    # A snapshot can be up to 16 MiB in size, which is more than gRPC's default limit of 4 MiB for a message.
    ("grpc.max_receive_message_length", 16 * _MIB),
    ("grpc.max_send_message_length", 16 * _MIB),
    # Let gRPC buffer at most 1 MiB of a stream for a slow reader. With bdp_probe enabled, gRPC would raise this limit.
    ("grpc.http2.lookahead_bytes", _MIB),
    ("grpc.http2.bdp_probe", 0),
    # Detect a dead connection within 30 s, even while no call is running: send a ping after 20 s without data, and wait
    # at most 10 s for the response to the ping.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Wait at most 2 s before reconnecting. gRPC's default of up to 2 min is longer than the default deadline of a call
    # (30 s).
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.dns_min_time_between_resolutions_ms", 2_000),
    # Connect to the server directly, even if an environment variable such as `http_proxy` names a proxy.
    ("grpc.enable_http_proxy", 0),
    # Open a separate connection for each channel. By default, all channels of a process to a server share a connection.
    ("grpc.use_local_subchannel_pool", 1),
]


def get_channel_options(server: str) -> list[tuple[str, int | str]]:
    """Returns the options of a gRPC channel to the server."""
    if server.startswith("unix:"):
        # Without this option, gRPC would derive the HTTP host name from the socket's path, and the server would reject
        # that name.
        return [*_OPTIONS, ("grpc.default_authority", "localhost")]
    return _OPTIONS


def to_channel_target(server: str) -> str:
    """Returns the gRPC target for the address `HOST:PORT`, `http://HOST:PORT` or `unix:PATH`.

    Raises ValueError if the address has none of the three forms.
    """
    if server.startswith("unix:") and server != "unix:":
        return "unix://" + quote(os.path.abspath(server.removeprefix("unix:")))
    address = server.removeprefix("http://").removesuffix("/")
    if not re.fullmatch(r"(\[[^/\]]+\]|[^/:\s]+):\d+", address):
        raise ValueError(f"{server!r} is not a valid server address: use HOST:PORT, http://HOST:PORT or unix:PATH")
    return f"dns:///{address}"
