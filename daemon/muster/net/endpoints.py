"""The network seam: what a node needs of a network, and no more.

The real implementations are `muster.net.udp` and `muster.net.tcp`, the simulated one
`muster.sim.network`; one contract suite runs on both (`tests/contract/`). An exception from an
endpoint means that the endpoint is broken or closed, never that one message failed: a lost packet
is silence, as on a wire.
"""

from __future__ import annotations

from typing import Protocol

from muster_protocol.types import Address


class PacketEndpoint(Protocol):
    """A bound datagram socket."""

    @property
    def address(self) -> Address:
        """Where it is bound; the port is the real one even if 0 was asked for."""

    def send_nowait(self, data: bytes, to: Address) -> bool:
        """Hand one packet to the network; False when it could not even be handed over."""

    async def receive(self) -> tuple[bytes, Address]:
        """The next packet and where it came from. trio.ClosedResourceError after `close`."""

    def receive_nowait(self) -> tuple[bytes, Address] | None:
        """A packet that is already here, or None: how a driver drains before a deadline fires."""

    def close(self) -> None:
        """Stop; waiting receivers get trio.ClosedResourceError."""


class ByteStream(Protocol):
    """A connected byte stream, like a TCP connection.

    Errors: trio.BrokenResourceError when the other side or the network broke it,
    trio.ClosedResourceError when this side closed it.
    """

    @property
    def remote(self) -> Address:
        """The other end."""

    async def send_all(self, data: bytes) -> None:
        """Send all of `data`, waiting while the other side does not read."""

    def send_nowait(self, data: bytes) -> bool:
        """Send `data` in this turn of the loop, as far as the network takes it. False: the rest
        stays here, and leaves with the next `send_all`, which may be one of nothing. Not while
        another task is in `send_all`."""

    async def receive_some(self, bytes_max: int) -> bytes:
        """Between 1 and `bytes_max` bytes; b"" at the end of the stream."""

    async def aclose(self) -> None:
        """Close at once; never waits for the other side."""


class StreamListener(Protocol):
    """A bound listener."""

    @property
    def address(self) -> Address:
        """Where it is bound."""

    async def accept(self) -> ByteStream:
        """The next connection. trio.ClosedResourceError after `close`."""

    def close(self) -> None:
        """Stop listening; connections that were accepted live on."""


class Network(Protocol):
    """Makes endpoints. Address in use and the like raise `LocalError` with one clear line."""

    async def open_packets(self, bind: Address) -> PacketEndpoint:
        """A datagram socket bound to `bind`."""

    async def listen(self, bind: Address) -> StreamListener:
        """A stream listener bound to `bind`."""

    async def dial(self, to: Address) -> ByteStream:
        """A stream to `to`. OSError when it cannot be reached; the caller bounds the time."""

    def own_host(self, towards: Address | None, bound: str) -> str | None:
        """The host's address from which it would send to `towards` (or to anywhere), of the family
        of the wildcard `bound`; None where there is no such route. Sends nothing."""
