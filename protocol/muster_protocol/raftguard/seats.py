"""What a leader does when somebody asks it for a seat, or to take one.

`next_step` is asked again and again, each time with the electorate that is committed by then, until
it says that all is done. Asking again is harmless; so a request may be made again at the next
leader, if this one is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from muster_protocol.errors import Refused, UsageError
from muster_protocol.limits import BARRED_MAX
from muster_protocol.raftguard.electorate import with_size, without
from muster_protocol.raftguard.steward import (
    SIZES,
    Change,
    Enlist,
    HandOver,
    Step,
    Steward,
    View,
    Wait,
    admitted,
    removed,
)
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import Configuration
from muster_protocol.wire.seats import SeatRequest

TOO_FEW: Final = "without it, too few voters would answer: nothing was done"


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
        if node in held.barred:
            return Change(admitted(held, node))
        if held.seat(node) is not None:
            return None
        member = view.members.get(node)
        if member is None or not member.is_alive:
            raise Refused("conflict", "only a member that is alive can get a seat")
        if member.is_witness:
            return self._add_witness(held, node, view)
        if not self._steward.has_room(held, view):
            raise Refused(
                "conflict",
                f"it may have a seat, but all {held.size} are taken: raise their number with "
                "`muster raft voters`, or remove one",
            )
        self._steward.ask_for(node)
        return Enlist(node) if self._steward.may_be_asked(node, view.now) else Wait()

    def _add_witness(self, held: Configuration, node: NodeId, view: View) -> Step:
        if reason := self._steward.why_no_witness(held):
            raise Refused("conflict", f"it can only be a witness: {reason}")
        if self._steward.may_be_asked(node, view.now):
            return Enlist(node, as_witness=True)
        return Wait()

    def _remove(self, request: SeatRequest, held: Configuration, view: View) -> Step | None:
        node = NodeId(request.node)
        if node in held.barred and held.seat(node) is None:
            return None
        if node not in view.members and node != self._me and held.seat(node) is None:
            raise Refused("conflict", "no member of this cluster, and no seat, has this name")
        if node not in held.barred and len(held.barred) == BARRED_MAX:
            raise Refused(
                "conflict", f"{BARRED_MAX} nodes are barred: `raft add` one of them first"
            )
        if _is_last(held, node):
            raise Refused("conflict", "the last voter has to stay: give another node a seat first")
        return self._without(held, node, view, removed(held, node))

    def _leave(self, request: SeatRequest, held: Configuration, view: View) -> Step | None:
        """The only voter gives its seat to another member, if there is one: it has all the data."""
        node = NodeId(request.node)
        if held.seat(node) is None:
            return None
        is_last = _is_last(held, node)
        if is_last and not self._steward.others(node, view):
            return None  # there is nobody to whom it could matter
        if not is_last:
            self._check_removal(held, node, view)
        self._steward.leaves(node, view.now)
        return Wait() if is_last else self._without(held, node, view, without(held, node))

    def withdrawn(self, request: SeatRequest) -> None:
        """It was given up: what it would have led to later must not happen."""
        if request.what == "leave":
            self._steward.stays(NodeId(request.node))

    def _check_removal(self, held: Configuration, node: NodeId, view: View) -> None:
        """Errors: Refused("conflict")."""
        if held.is_voter(node) and not self._steward.may_remove(held, node, view):
            raise Refused("conflict", TOO_FEW)

    def _without(
        self, held: Configuration, node: NodeId, view: View, wanted: Configuration
    ) -> Step:
        """One of several voters, or a learner, loses its seat."""
        self._check_removal(held, node, view)
        if node != self._me:
            return Change(wanted)
        avoid = (node, *self._steward.unwanted(held, view))
        return HandOver(avoid) if self._steward.has_successor(held, view) else Wait()


def _is_last(held: Configuration, node: NodeId) -> bool:
    """Does nobody else who votes have the data?"""
    return [voter.node for voter in held.data_voters] == [node]
