"""Both ends of a control connection, without a connection.

`receive(bytes)` gives the messages that came in, checked against the order that the protocol
demands; `send(message)` gives the bytes to put on the socket. The same framing and the same rules
serve the daemon's trio task and the CLI's blocking client.
"""

from __future__ import annotations

from typing import Final

from muster_protocol.errors import RemoteError
from muster_protocol.limits import CONTROL_FRAME_BYTES_MAX, HELLO_FRAME_BYTES_MAX
from muster_protocol.session.messages import (
    FROM_CLIENT,
    FROM_SERVER,
    PROTOCOL_MAJOR,
    Cancel,
    ClientHello,
    Code,
    Failure,
    FromClient,
    FromServer,
    Item,
    Reply,
    Request,
    ServerHello,
)
from muster_protocol.wire.codec import encode
from muster_protocol.wire.framing import FrameDecoder, frame

REQUESTS_AT_ONCE_MAX: Final = 256
"""Unanswered requests on one connection: a service that sends the requests of hundreds of clients
over a few connections has so many, and one that never reads its replies no more. What they hold is
bounded by `WAITING_BYTES_MAX`, too."""


def to_bytes(message: FromClient | FromServer) -> bytes:
    """One message as a frame. An answer that is too large for one is a failure that says so."""
    payload = encode(message)
    if len(payload) > CONTROL_FRAME_BYTES_MAX and isinstance(message, Reply | Item):
        what = f"the answer has {len(payload)} bytes, and an answer has {CONTROL_FRAME_BYTES_MAX}"
        payload = encode(Failure(message.id, Code.FAILED, f"{what} at most: ask for less"))
    return frame(payload, bytes_max=CONTROL_FRAME_BYTES_MAX)


class ServerSession:
    """The daemon's end of one connection."""

    def __init__(self) -> None:
        self._frames = FrameDecoder(bytes_max=HELLO_FRAME_BYTES_MAX)
        self._open: dict[int, None] = {}
        self.client: ClientHello | None = None

    def receive(self, data: bytes) -> list[FromClient]:
        """Errors: RemoteError for anything that the protocol does not allow; close then."""
        self._frames.receive(data)
        messages: list[FromClient] = []
        while (payload := self._frames.next_frame()) is not None:
            message = FROM_CLIENT.decode(payload)
            self._check(message)
            messages.append(message)
        return messages

    def close(self) -> None:
        """The stream ended. Errors: RemoteError("truncated") if that was inside a frame."""
        if not self._frames.is_between_frames:
            raise RemoteError("truncated", "the connection ended inside a frame")

    def answered(self, request_id: int) -> None:
        """This request's last message was sent."""
        self._open.pop(request_id, None)

    def _check(self, message: FromClient) -> None:
        if isinstance(message, ClientHello):
            if self.client is not None:
                raise RemoteError("protocol", "a second hello")
            if message.major != PROTOCOL_MAJOR:
                raise RemoteError(
                    "version",
                    f"the client speaks control protocol {message.major}, "
                    f"this daemon {PROTOCOL_MAJOR}: install the same version of both",
                )
            self.client = message
            self._frames.raise_limit(CONTROL_FRAME_BYTES_MAX)
        elif self.client is None:
            raise RemoteError("protocol", "a request before the hello")
        elif isinstance(message, Request):
            if message.id in self._open:
                raise RemoteError("protocol", f"request {message.id} is still being answered")
            if len(self._open) >= REQUESTS_AT_ONCE_MAX:
                raise RemoteError("overload", "too many requests at once on this connection")
            self._open[message.id] = None
        else:
            assert isinstance(message, Cancel)


class ClientSession:
    """The client's end of one connection."""

    def __init__(self) -> None:
        self._frames = FrameDecoder(bytes_max=CONTROL_FRAME_BYTES_MAX)
        self.server: ServerHello | None = None

    def receive(self, data: bytes) -> list[FromServer]:
        """Errors: RemoteError; close then."""
        self._frames.receive(data)
        messages: list[FromServer] = []
        while (payload := self._frames.next_frame()) is not None:
            message = FROM_SERVER.decode(payload)
            if isinstance(message, ServerHello):
                self.server = message
            elif self.server is None and not isinstance(message, Failure):
                raise RemoteError("protocol", "a reply before the daemon's hello")
            messages.append(message)
        return messages
