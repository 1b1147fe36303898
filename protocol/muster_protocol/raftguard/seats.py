"""What a leader does when somebody asks it for a seat, or to take one.

`next_step` is asked again and again, each time with the electorate that is committed by then, until
it says that all is done. Asking again is harmless; so a request may be made again at the next
leader, if this one is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from muster_protocol.errors import Refused, UsageError
from muster_protocol.raftguard.electorate import with_size, without
from muster_protocol.raftguard.steward import (
    SIZES,
    Change,
    Enlist,
    HandOver,
    Step,
    Steward,
    View,
    admitted,
    removed,
)
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import Configuration
from muster_protocol.wire.seats import SeatRequest


class Seats:
    """The requests of one leader, while it leads."""

    def __init__(self, *, me: NodeId, steward: Steward) -> None:
        self._me = me
        self._steward = steward
        self._answers: Mapping[str, Callable[[SeatRequest, Configuration, View], Step | None]] = {
            "size": self._size,
            "add": self._add,
            "remove": self._remove,
            "leave": self._leave,
        }

    def next_step(self, request: SeatRequest, held: Configuration, view: View) -> Step | None:
        """What to do next for this request (not a `transfer`); None if it is done.

        Errors: UsageError; Refused("conflict") if it cannot be done as things are.
        """
        return self._answers[request.what](request, held, view)

    def _size(self, request: SeatRequest, held: Configuration, view: View) -> Step | None:
        del view
        if request.size not in SIZES:
            raise UsageError(f"{request.size} voters: it has to be 1, 3, 5 or 7")
        return Change(with_size(held, request.size)) if held.size != request.size else None

    def _add(self, request: SeatRequest, held: Configuration, view: View) -> Step | None:
        node = NodeId(request.node)
        if held.seat(node) is not None:
            return None
        member = view.members.get(node)
        if member is None or not member.is_alive:
            raise Refused("conflict", "only a member that is alive can get a seat")
        if not self._steward.has_room(held, view):
            raise Refused(
                "conflict",
                f"all {held.size} seats are taken: raise their number with `muster raft voters`, "
                "or remove one first",
            )
        self._steward.ask_for(node)
        return Change(admitted(held, node)) if node in held.barred else Enlist(node)

    def _remove(self, request: SeatRequest, held: Configuration, view: View) -> Step | None:
        node = NodeId(request.node)
        if node in held.barred and held.seat(node) is None:
            return None
        if node not in view.members and node != self._me and held.seat(node) is None:
            raise Refused("conflict", "no member of this cluster, and no seat, has this name")
        if held.is_voter(node) and len(held.voters) == 1:
            raise Refused("conflict", "the last voter has to stay: give another node a seat first")
        return self._without(held, node, view, removed(held, node))

    def _leave(self, request: SeatRequest, held: Configuration, view: View) -> Step | None:
        node = NodeId(request.node)
        if held.seat(node) is None:
            return None
        if held.is_voter(node) and len(held.voters) == 1:
            return None  # there is nobody to whom it could matter
        self._steward.leaves(node, view.now)
        return self._without(held, node, view, without(held, node))

    def _without(
        self, held: Configuration, node: NodeId, view: View, wanted: Configuration
    ) -> Step:
        """One of several voters, or a learner, loses its seat."""
        if not held.is_voter(node):
            return Change(wanted)
        if not self._steward.may_remove(held, node, view):
            raise Refused("conflict", "without it, too few voters would answer: nothing was done")
        return HandOver() if node == self._me else Change(wanted)
