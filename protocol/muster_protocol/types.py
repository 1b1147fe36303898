"""The vocabulary: identities, addresses, priorities.

Values are frozen. Instants are seconds of the node's monotonic clock as `float`, durations are
seconds as `float` with `_s` last in the name; wall-clock times are seconds since 1970 and say
`wall` in their name. Identities are lower-case hexadecimal text in memory and on the wire, so
that a log line, a JSON reply and a packet show the same thing.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import MutableSequence, Sequence
from typing import Annotated, Any, NamedTuple, NewType, Protocol, TypeVar

import msgspec

from muster_protocol.errors import UsageError

T = TypeVar("T")

NodeId = NewType("NodeId", str)
"""Who a node is: 128 random bits made at first start, 32 hexadecimal digits."""

ClusterId = NewType("ClusterId", str)
"""Which cluster: made by its one bootstrap, 32 hexadecimal digits; "" means in none yet."""

NO_CLUSTER = ClusterId("")

HexId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
"""How a `NodeId` is checked when it is decoded."""

OptionalHexId = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{32})?\Z")]
"""How a `ClusterId` is checked when it is decoded."""

UInt = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
"""A counter on the wire: incarnations, terms, indexes."""

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
HostText = Annotated[str, msgspec.Meta(max_length=45)]
"""An IP address as text; 45 is the longest textual IPv6 form (RFC 4291 with embedded IPv4)."""

NameText = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,62})\Z")]
"""A node's human name: what a host name may hold, so that it can go into file and metric names."""


class Size(NamedTuple):
    """How large a queue, log or table is now, and how large it may become."""

    what: str
    size: int
    limit: int


class Address(msgspec.Struct, frozen=True, array_like=True, order=True):
    """Where a node is *now*: an IP address and a port. Never who it is."""

    host: HostText
    port: Port

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        return ipaddress.ip_address(self.host).is_loopback


def parse_address(text: str, *, default_port: int) -> Address:
    """`1.2.3.4`, `1.2.3.4:7411`, `::1` or `[::1]:7411` as an `Address`.

    Errors: UsageError for anything else. Names are not resolved here: that takes a network.
    """
    host, port_text = text, ""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        if rest and not rest.startswith(":"):
            raise UsageError(f"address {text!r}: expected [IPv6]:port")
        port_text = rest[1:]
    elif text.count(":") == 1:
        host, _, port_text = text.partition(":")
    try:
        ip = ipaddress.ip_address(host)
        port = int(port_text) if port_text else default_port
    except ValueError as error:
        raise UsageError(f"address {text!r}: expected an IP address, optionally :port") from error
    if not 0 <= port <= 65535:
        raise UsageError(f"address {text!r}: the port must be between 0 and 65535")
    return Address(str(ip), port)


class Priority(enum.IntEnum):
    """The seed's four signal priorities, ordered; the seed leaves normal/medium unordered."""

    LOW = 0
    NORMAL = 1
    MEDIUM = 2
    HIGH = 3


class Scope(enum.StrEnum):
    """How far a signal travels: this node's bus, or the bus of every member."""

    NODE = "node"
    CLUSTER = "cluster"


class Severity(enum.StrEnum):
    """How a `Notify` is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Rng(Protocol):
    """What a machine may ask of chance: the part of `random.Random` that is used."""

    def random(self) -> float:
        """Uniform in [0, 1)."""

    def uniform(self, a: float, b: float) -> float:
        """Uniform between `a` and `b`."""

    def randrange(self, stop: int, /) -> int:
        """Uniform integer in [0, stop)."""

    def shuffle(self, x: MutableSequence[Any]) -> None:
        """Shuffle in place."""

    def sample(self, population: Sequence[T], k: int) -> list[T]:
        """`k` different elements."""
