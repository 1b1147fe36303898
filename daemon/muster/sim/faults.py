"""What can be done to a cluster, as values.

A fault has a beginning and, after `for_s`, an end. Values come from a scenario file
(`do = "crash"`) or are drawn from a seed (`swarm`); `injector` does them. Nodes are named by their
name, or by what they are at that moment: "leader", "follower", "any"; so one file fits clusters of
any size.
"""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

from muster.sim.links import BytesPerSecond, Chance, Delay, MtuBytes
from muster.sim.network import MTU_BYTES

if TYPE_CHECKING:
    pass

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class Fault(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", forbid_unknown_fields=True):
    """Base of all faults. `for_s`: how long it lasts."""

    for_s: Seconds = 10.0


class NodeFault(Fault, frozen=True, kw_only=True):
    """One that hits a node."""

    node: str


class PairFault(Fault, frozen=True, kw_only=True):
    """One that lies between two nodes."""

    a: str
    b: str


class Crash(NodeFault, frozen=True, kw_only=True, tag="crash"):
    """SIGKILL; started again at the end."""


class PowerOff(Fault, frozen=True, kw_only=True, tag="power-off"):
    """The plug is pulled at one instant; what was not synced is lost, with `tear` in pieces."""

    nodes: tuple[str, ...] = ("all",)
    tear: bool = True


class Stop(NodeFault, frozen=True, kw_only=True, tag="stop"):
    """SIGTERM, as a rolling restart does; started again at the end."""


class Pause(NodeFault, frozen=True, kw_only=True, tag="pause"):
    """SIGSTOP: nothing is handled, buffers fill; SIGCONT at the end."""


class Isolate(NodeFault, frozen=True, kw_only=True, tag="isolate"):
    """A cable is pulled. `way` "in": it hears nobody; "out": nobody hears it."""

    way: Literal["both", "in", "out"] = "both"


class Cut(PairFault, frozen=True, kw_only=True, tag="cut"):
    """Two nodes cannot reach each other; all others reach both. `one_way`: only `a` to `b`."""

    one_way: bool = False


class Split(Fault, frozen=True, kw_only=True, tag="split"):
    """The network falls into two: these nodes, and all others."""

    nodes: tuple[str, ...]


class Flap(NodeFault, frozen=True, kw_only=True, tag="flap"):
    """A cable with a loose contact: cut and whole by turns, each for `period_s`."""

    period_s: Seconds = 2.0


class Lossy(Fault, frozen=True, kw_only=True, tag="lossy"):
    """The whole network is bad. Chances per packet; delays in seconds."""

    loss: Chance = 0.05
    duplicate: Chance = 0.01
    delay_s: Seconds = 0.002
    jitter_s: Seconds = 0.02


class SlowDisk(NodeFault, frozen=True, kw_only=True, tag="slow-disk"):
    """Each sync takes `fsync_s`."""

    fsync_s: Seconds = 0.3


class FullDisk(NodeFault, frozen=True, kw_only=True, tag="full-disk"):
    """No byte more fits. A node that this ends is started again when there is room."""


class HungDisk(NodeFault, frozen=True, kw_only=True, tag="hung-disk"):
    """Nothing that is asked of the disk ends; then all of it does."""


class SlowReader(NodeFault, frozen=True, kw_only=True, tag="slow-reader"):
    """Packets are read 0.5 to 2.5 s late, timers are on time: the overloaded member of the
    Lifeguard paper's replications."""


class Clog(PairFault, frozen=True, kw_only=True, tag="clog"):
    """What `a` sends to `b` is held until the end, and delivered then."""


class ResetStreams(PairFault, frozen=True, kw_only=True, tag="reset-streams"):
    """All streams between two nodes are reset, once; the way stays whole."""


class StepClock(NodeFault, frozen=True, kw_only=True, tag="step-clock"):
    """Somebody sets the wall clock; it stays so."""

    by_s: Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)] = 3_600.0


class DiskError(NodeFault, frozen=True, kw_only=True, tag="disk-error"):
    """One read, write or sync of the journal fails (EIO), once; a failed sync loses for good what
    it was to save. Journals are read at starts only, so for a read the node is killed and started.
    A node that this ends is started again at the end."""

    action: Literal["read", "write", "sync"] = "sync"


class BitRot(NodeFault, frozen=True, kw_only=True, tag="bit-rot"):
    """A voter is killed, and one bit of its journal or snapshot is another one when it is started
    again: it must refuse. Then it gets its file back, and is started at the end."""


class Seats(NodeFault, frozen=True, kw_only=True, tag="seats"):
    """No fault, but what makes others worse: an operator asks some node that `size` members shall
    vote, or that this one shall have a seat, or none. It may be refused."""

    change: Literal["size", "add", "remove"]
    size: Literal[1, 3, 5, 7] = 3


class DriftClock(NodeFault, frozen=True, kw_only=True, tag="drift-clock"):
    """The wall clock gains so many microseconds in a second; what it has gained stays."""

    by_ppm: Annotated[float, msgspec.Meta(ge=-1e5, le=1e5)] = 500.0


class OldStreams(PairFault, frozen=True, kw_only=True, tag="old-streams"):
    """What is sent over the streams between two nodes arrives at the end. After `broken_after_s`
    whoever dialled them takes them for broken and dials new ones, which are well: so the old ones
    deliver behind the new ones."""

    broken_after_s: Seconds = 0.5


class BadLink(PairFault, frozen=True, kw_only=True, tag="bad-link"):
    """The way from `a` to `b` is bad, and unless `one_way` the way back too. The other fields are
    those of `network.Link`."""

    one_way: bool = False
    delay_s: Seconds = 0.01
    jitter_s: Delay = 0.0
    tail_s: Delay = 0.0
    loss: Chance = 0.0
    duplicate: Chance = 0.0
    reorder: Chance = 0.0
    reorder_s: Delay = 0.005
    mtu_bytes: MtuBytes = MTU_BYTES
    bandwidth_bytes_s: BytesPerSecond = 0.0


AnyFault = (
    Crash
    | PowerOff
    | Stop
    | Pause
    | Isolate
    | Cut
    | Split
    | Flap
    | Lossy
    | SlowDisk
    | FullDisk
    | HungDisk
    | SlowReader
    | Clog
    | ResetStreams
    | StepClock
    | DiskError
    | BitRot
    | DriftClock
    | Seats
    | OldStreams
    | BadLink
)


KINDS: Final[dict[str, type[AnyFault]]] = {
    str(kind.__struct_config__.tag): kind for kind in typing.get_args(AnyFault)
}
"""By the word that names them in a scenario file."""


def describe(fault: Fault) -> str:
    """One line for a timeline."""
    told = msgspec.to_builtins(fault)
    kind = told.pop("do")
    return " ".join([kind, *(f"{name}={_text(value)}" for name, value in told.items())])


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def check_fault(fault: Fault, nodes: int) -> str:
    """Why it can never happen to a cluster of so many nodes; "" if it can."""
    names = named(fault)
    known = [*(f"n{number}" for number in range(1, nodes + 1)), "leader", "follower", "any"]
    if isinstance(fault, PowerOff | Split) and not names:
        return "nodes is empty: whom does it hit?"
    if isinstance(fault, PairFault) and fault.a == fault.b and fault.a not in ("follower", "any"):
        return f"a and b are both {fault.a}"
    if isinstance(fault, PowerOff) and names == ("all",):
        return ""
    strange = [name for name in names if name not in known]
    if not strange:
        return ""
    hint = f"n1 to n{nodes}, leader, follower, any"
    return f"there is no node {strange[0]!r}: {hint}"


def named(fault: Fault) -> tuple[str, ...]:
    """Whom it is about."""
    if isinstance(fault, NodeFault):
        return (fault.node,)
    if isinstance(fault, PairFault):
        return (fault.a, fault.b)
    return fault.nodes if isinstance(fault, PowerOff | Split) else ()
