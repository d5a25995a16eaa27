"""This module decides on which connection a client opens a stream or makes a held call.

A held call is a unary call whose request has a `wait`. The server answers all other unary calls at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from google.protobuf import descriptor_pool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from runhub._rules.calls import to_seconds
from runhub.errors import Closed

C = TypeVar("C")

# The maximum number of held calls and streams on one connection. A server allows at most 1,024 open calls and streams
# on one connection, and gRPC lets further calls wait on the client without an error. The value is far below 1,024,
# because all calls on a connection share one flow-control window. If the program does not read its streams, their
# messages could fill the window, and the other calls on the connection would stall.
SLOTS_PER_CONNECTION = 100


def is_held(request: object) -> bool:
    """Returns whether a unary call with this request is a held call."""
    return to_seconds(getattr(request, "wait", None)) > 0


class Codec(NamedTuple):
    """Converts the requests of one method to bytes, and the responses from bytes."""

    serialize: Callable[[Any], bytes]
    deserialize: Callable[[bytes], Any]


def get_codec(method: str | bytes, request: Message) -> Codec:
    """Returns the codec of a method, such as `/runhub.v1.TaskService/ClaimTask`. `request` is any request of the
    method."""
    # grpc.aio passes the name as bytes.
    path = method.decode() if isinstance(method, bytes) else method
    descriptor = descriptor_pool.Default().FindMethodByName(path.removeprefix("/").replace("/", "."))
    return Codec(type(request).SerializeToString, GetMessageClass(descriptor.output_type).FromString)


class Slot(Generic[C]):
    """Represents one of the SLOTS_PER_CONNECTION held calls and streams that a channel can carry at a time."""

    channel: C
    """The channel on which the client must make the held call or open the stream."""

    def __init__(self, channel: C, taken: set[Slot[C]]) -> None:
        self.channel = channel
        self._taken = taken
        taken.add(self)

    def release(self) -> None:
        """Releases the slot, so that the channel can carry another held call or stream. If the slot is already
        released, does nothing.

        Any thread may call this method, because the removal from a set needs no lock.
        """
        self._taken.discard(self)


class ChannelPool(Generic[C]):
    """Distributes the held calls and streams of one client over channels. Each channel has its own connection and
    SLOTS_PER_CONNECTION slots.

    The pool opens its first channel at the first held call or stream, and keeps each channel open until the pool is
    closed.
    """

    def __init__(self, open_channel: Callable[[], C]) -> None:
        self._open_channel = open_channel
        self._channels: list[tuple[C, set[Slot[C]]]] = []
        self._is_closed = False

    def take_slot(self) -> Slot[C]:
        """Takes a slot of the first channel with a free slot. If no channel has a free slot, opens another channel.

        Raises Closed if the pool is closed.
        """
        if self._is_closed:
            raise Closed
        for channel, taken in self._channels:
            if len(taken) < SLOTS_PER_CONNECTION:
                return Slot(channel, taken)
        channel, taken = self._open_channel(), set[Slot[C]]()
        self._channels.append((channel, taken))
        return Slot(channel, taken)

    def close(self) -> list[C]:
        """Closes the pool and returns all channels of the pool. The caller must close the channels."""
        self._is_closed = True
        channels = [channel for channel, _ in self._channels]
        self._channels.clear()
        return channels
