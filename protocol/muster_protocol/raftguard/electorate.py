"""Who votes, as the log has it, and what may be changed about that at a time.

An electorate is a full list in an ordinary log entry (`wire.raft.Reconfiguration`). It is in force
from the moment in which the entry is in the log, committed or not, and no longer when the entry is
truncated; after a restart the log says the same again. pysyncobj's own commands are never used:
they change the list by one at each replay, and bring back at a restart whoever was removed (D20,
D21).

**One change at a time** (Ongaro's dissertation, 4.1). If two electorates differ by one voter, each
majority of the one shares a voter with each majority of the other, so no two leaders of one term
can both be elected. That holds only between neighbours: so a change waits until the one before is
committed, and, in a new leader, until an entry of its own term is (the flaw that Ongaro published
on 10 July 2015 in raft-dev: otherwise an uncommitted change of an earlier term may still win).

A new voter is one that was a **learner**: it gets the log without counting (D22). Not so the
**witness** (`witness`), which gets no log: there is one at most, and what it is it stays.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from muster_protocol.limits import BARRED_MAX, VOTERS_MAX
from muster_protocol.raftguard.translation import configuration_of
from muster_protocol.wire.raft import Configuration, Voter


class Electorates:
    """The electorates that a log holds: the newest is in force, each older one may be again."""

    def __init__(self, base: Configuration, later: Iterable[Configuration] = ()) -> None:
        """`base`: in force before the first entry of the log, or told by others; entries at or
        before its index are known to it. `later`: of entries of the log, in their order."""
        self._known = [base, *later]

    @property
    def latest(self) -> Configuration:
        """In force."""
        return self._known[-1]

    @property
    def all(self) -> tuple[Configuration, ...]:
        """From the base on."""
        return tuple(self._known)

    def at(self, index: int) -> Configuration:
        """In force when the log ended at `index`."""
        for known in reversed(self._known):
            if known.index <= index:
                return known
        return self._known[0]

    def appended(self, command: bytes, index: int) -> None:
        """An entry was added to the log. Errors: RemoteError("garbage")."""
        made = configuration_of(command)
        if made is not None and index > self.latest.index:
            self._known.append(at_index(made, index))

    def truncated(self, index: int) -> None:
        """All entries from `index` on are void."""
        while len(self._known) > 1 and self.latest.index >= index:
            self._known.pop()

    def covered(self, index: int) -> None:
        """Entries up to `index` will never be truncated: what was in force before is history."""
        while len(self._known) > 1 and self._known[1].index <= index:
            del self._known[0]


def at_index(configuration: Configuration, index: int) -> Configuration:
    """The same electorate, made by the entry at `index`."""
    return msgspec.structs.replace(configuration, index=index)


def why_not_next(now: Configuration, wanted: Configuration) -> str:
    """Why `wanted` cannot be the electorate after `now`, in a few words; "" if it can."""
    if not wanted.data_voters:
        return "nobody would be left to vote"
    if len(wanted.voters) > VOTERS_MAX:
        return f"more than {VOTERS_MAX} would vote"
    if len(wanted.learners) > VOTERS_MAX:
        return f"more than {VOTERS_MAX} would learn"
    if len(wanted.barred) > BARRED_MAX:
        return f"more than {BARRED_MAX} nodes would be barred"
    nodes = [seat.node for seat in wanted.seats]
    if len(nodes) != len(set(nodes)):
        return "a node would have two seats"
    if list(wanted.voters) != sorted(wanted.voters):
        return "the voters are not in order"
    return _why_not_these_voters(now, wanted)


def _why_not_these_voters(now: Configuration, wanted: Configuration) -> str:
    added = [voter for voter in wanted.voters if voter not in now.voters]
    removed = [voter for voter in now.voters if voter not in wanted.voters]
    if len(added) + len(removed) > 1:
        return "more than one voter would change at once"
    new_witness = wanted.witness if wanted.witness != now.witness else ""
    if new_witness and (now.witness or new_witness not in [voter.node for voter in added]):
        return "a witness is a new voter, and the only one"
    if now.witness and not wanted.witness and wanted.is_voter(now.witness):
        return "a witness has no data, and cannot become another voter"
    if any(voter not in now.learners and voter.node != new_witness for voter in added):
        return "a new voter has to be a learner first"
    return ""


def with_learner(now: Configuration, seat: Voter) -> Configuration:
    """`seat` gets the log; it takes the place of an older learner of the same node."""
    learners = (*(held for held in now.learners if held.node != seat.node), seat)
    return msgspec.structs.replace(now, learners=tuple(sorted(learners)))


def with_witness(now: Configuration, seat: Voter) -> Configuration:
    """`seat` votes, and gets no log."""
    voters = tuple(sorted((*now.voters, seat)))
    return msgspec.structs.replace(now, voters=voters, witness=seat.node)


def promoted(now: Configuration, node: str) -> Configuration:
    """The learner `node` votes."""
    (seat,) = (held for held in now.learners if held.node == node)
    learners = tuple(held for held in now.learners if held.node != node)
    voters = tuple(sorted((*now.voters, seat)))
    return msgspec.structs.replace(now, voters=voters, learners=learners)


def without(now: Configuration, node: str) -> Configuration:
    """`node` has no seat."""
    return msgspec.structs.replace(
        now,
        voters=tuple(held for held in now.voters if held.node != node),
        learners=tuple(held for held in now.learners if held.node != node),
        witness="" if now.witness == node else now.witness,
    )


def with_size(now: Configuration, size: int) -> Configuration:
    """There should be `size` voters."""
    return msgspec.structs.replace(now, size=size)


def with_barred(now: Configuration, barred: Iterable[str]) -> Configuration:
    """These nodes get no seat."""
    return msgspec.structs.replace(now, barred=tuple(sorted(barred)))
