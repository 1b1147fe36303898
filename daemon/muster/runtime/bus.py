"""The bus of one node: who publishes a fact does not know who listens.

Publishing never waits. Every subscription has a bounded queue of its own and says what happens
when it is full, so a subscriber that stalls loses its own signals and nobody else's; each one gets
them in the order in which they were published. There are no acknowledgements and no replay: a fact
that must not be lost belongs in the store, and a command in a typed call.

A signal of scope cluster is also handed to the relay, which carries it to the other members. What
the relay brings from them comes in by `deliver`, and goes no further than this node.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from muster.driver import Overflow
from muster_protocol.errors import Refused
from muster_protocol.signals.router import Router
from muster_protocol.signals.signal import Signal
from muster_protocol.types import Scope

QUEUE_MAX: Final = 1_024
"""Signals that wait for one subscriber: about a minute of a busy node's."""


SUBSCRIPTIONS_MAX: Final = 256
"""With queues of their own: full ones hold 130 MB of usual signals. Agents are a handful; the rest
are people and programs that watch, of whom one connection may ask for many."""


@dataclass(frozen=True, slots=True)
class SubscriptionStatistics:
    """One subscription. `dropped` counts what it lost, whichever end of the queue it was."""

    name: str
    patterns: tuple[str, ...]
    delivered: int
    dropped: int
    queue_length: int
    queue_max: int | None
    """None: signals go to somebody who has a bounded queue already."""


@dataclass(frozen=True, slots=True)
class BusStatistics:
    """The whole bus. A dead letter reached nobody here and was not relayed either."""

    published: int
    received: int
    relayed: int
    dead_letters: int
    subscriptions: tuple[SubscriptionStatistics, ...]


class Attachment:
    """Somebody who is given signals at once; made by `Bus.attach`."""

    def __init__(
        self,
        bus: Bus,
        name: str,
        patterns: tuple[str, ...],
        sink: Callable[[Signal], bool],
        length: Callable[[], int],
    ) -> None:
        self.name = name
        self.patterns = patterns
        self.queue_max: int | None = None
        self._bus = bus
        self._sink = sink
        self._length = length
        self._delivered = self._dropped = 0

    def close(self) -> None:
        """Get no more signals. Closing twice is fine."""
        self._bus._remove(self)  # noqa: SLF001 (two halves of one thing)

    def statistics(self) -> SubscriptionStatistics:
        return SubscriptionStatistics(
            name=self.name,
            patterns=self.patterns,
            delivered=self._delivered,
            dropped=self._dropped,
            queue_length=self._length(),
            queue_max=self.queue_max,
        )

    def _give(self, signal: Signal) -> bool:
        taken = self._sink(signal)
        if taken:
            self._delivered += 1
        else:
            self._dropped += 1
        return taken


class Subscription(Attachment):
    """A bounded queue of signals for one reader; made by `Bus.subscribe`.

    It is a `muster.driver.Source`, and can be read by `async for`.
    """

    def __init__(
        self,
        bus: Bus,
        name: str,
        patterns: tuple[str, ...],
        *,
        queue_max: int,
        overflow: Overflow,
    ) -> None:
        super().__init__(bus, name, patterns, self._put, lambda: len(self._queue))
        self._queue: collections.deque[Signal] = collections.deque()
        self.queue_max = queue_max
        self._overflow = overflow
        self._wake = trio.Event()
        self._is_closed = False

    async def next(self) -> Signal:
        """Wait for the next signal.

        Errors: trio.ClosedResourceError after `close`, once the queue is empty.
        Cancellation: no signal is lost.
        """
        await trio.lowlevel.checkpoint()
        while not self._queue:
            if self._is_closed:
                raise trio.ClosedResourceError(f"subscription {self.name} is closed")
            self._wake = trio.Event()
            await self._wake.wait()
        return self._queue.popleft()

    def next_nowait(self) -> Signal | None:
        """A signal that is already here, or None."""
        return self._queue.popleft() if self._queue else None

    def close(self) -> None:
        """Get no more signals; what is queued can still be read."""
        super().close()
        self._is_closed = True
        self._wake.set()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Signal:
        try:
            return await self.next()
        except trio.ClosedResourceError:
            raise StopAsyncIteration from None

    def _put(self, signal: Signal) -> bool:
        if self.queue_max is not None and len(self._queue) >= self.queue_max:
            if self._overflow is Overflow.DROP_NEWEST:
                return False
            self._queue.popleft()
            self._dropped += 1
        self._queue.append(signal)
        self._wake.set()
        return True


class Bus:
    """See the module. `relay` takes what must reach the other members; it must not wait."""

    def __init__(self, *, relay: Callable[[Signal], None] | None = None) -> None:
        self._relay = relay
        self._router: Router[Attachment] = Router()
        self._attachments: list[Attachment] = []
        self._published = self._received = self._relayed = self._dead_letters = 0

    def connect_relay(self, relay: Callable[[Signal], None] | None) -> None:
        """Set or take away the relay: it is built after the bus."""
        self._relay = relay

    def subscribe(
        self,
        patterns: Sequence[str],
        *,
        name: str,
        queue_max: int = QUEUE_MAX,
        overflow: Overflow = Overflow.DROP_OLDEST,
    ) -> Subscription:
        """A queue of all signals whose type matches one of `patterns`.

        Errors: UsageError for a bad pattern, Refused("overload") where `SUBSCRIPTIONS_MAX` read
        already; nothing is subscribed then.
        """
        assert queue_max > 0
        if sum(held.queue_max is not None for held in self._attachments) >= SUBSCRIPTIONS_MAX:
            raise Refused("overload", f"{SUBSCRIPTIONS_MAX} subscribers read signals here already")
        subscription = Subscription(
            self, name, tuple(patterns), queue_max=queue_max, overflow=overflow
        )
        self._add(subscription)
        return subscription

    def attach(
        self,
        patterns: Sequence[str],
        *,
        name: str,
        sink: Callable[[Signal], bool],
        length: Callable[[], int] = lambda: 0,
    ) -> Attachment:
        """Give matching signals to `sink`, for who has a bounded queue already (an agent's host).

        The sink says whether it took the signal; it must neither wait nor raise nor publish.
        """
        attachment = Attachment(self, name, tuple(patterns), sink, length)
        self._add(attachment)
        return attachment

    def publish(self, signal: Signal) -> int:
        """Give a signal to all who want it; returns how many on this node took it."""
        self._published += 1
        is_relayed = signal.scope is Scope.CLUSTER and self._relay is not None
        reached = self._distribute(signal)
        if is_relayed and self._relay is not None:
            self._relayed += 1
            self._relay(signal)
        elif reached == 0:
            self._dead_letters += 1
        return reached

    def deliver(self, signal: Signal) -> int:
        """Another member's signal, from the relay: for this node only."""
        self._received += 1
        reached = self._distribute(signal)
        self._dead_letters += reached == 0
        return reached

    def statistics(self) -> BusStatistics:
        return BusStatistics(
            published=self._published,
            received=self._received,
            relayed=self._relayed,
            dead_letters=self._dead_letters,
            subscriptions=tuple(a.statistics() for a in self._attachments),
        )

    def _distribute(self, signal: Signal) -> int:
        # Two patterns of one subscription can match; it gets the signal once.
        wanted = dict.fromkeys(self._router.match(signal.type))
        return sum(attachment._give(signal) for attachment in wanted)  # noqa: SLF001

    def _add(self, attachment: Attachment) -> None:
        done: list[str] = []
        try:
            for pattern in dict.fromkeys(attachment.patterns):
                self._router.add(pattern, attachment)
                done.append(pattern)
        except BaseException:
            for pattern in done:
                self._router.remove(pattern, attachment)
            raise
        self._attachments.append(attachment)

    def _remove(self, attachment: Attachment) -> None:
        if attachment not in self._attachments:
            return
        self._attachments.remove(attachment)
        for pattern in dict.fromkeys(attachment.patterns):
            self._router.remove(pattern, attachment)
