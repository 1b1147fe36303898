"""A quorum that is lost for good: which survivor has most, and what may be lost with the dead.

What decides is what decides an election (Raft, 5.4.1): the term of the last entry, then its index.
Be `best` the first by that, among survivors of which each has its log from the disk.

* **The others have nothing acknowledged that `best` has not.** Take a committed entry in the log of
  another one. If both logs end in the same term, one leader made both ends, and the longer log
  holds the shorter one. If `best` ends in a later term, the leader of that term had the entry
  (leader completeness), and `best` follows it beyond there.
* **Nothing acknowledged is lost** if no majority of the voters is without a survivor: with n voters
  of which k survive, if the n - k dead are fewer than a majority. With an even n that can be so
  although the k are no majority: two of four.
* **Else** what the dead acknowledged among themselves is lost, and nobody who lives knows how much
  that is. What is certain is what some survivor knew to be committed: up to its snapshot.

A **witness** is a survivor without data. What it was asked for is on the disk of another node. If
that is beyond the end of `best`, it was acknowledged, or might have been, and is lost; and the
witness votes for no survivor, so there is no quorum, whoever is there. If it is not, the witness
counts as any voter.

All of that holds for the electorate of `best`. If the dead changed it among themselves, that is
part of what is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from muster_protocol.errors import UsageError
from muster_protocol.types import HexId, OptionalHexId, UInt
from muster_protocol.wire.raft import Configuration, Generation, Voter

NAME_CHARACTERS_MAX = 256
SURVEY_SCHEMA = "muster.raft-survey/1"


class Survey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one node's disk says, and nothing that only its memory knew."""

    schema: Literal["muster.raft-survey/1"] = "muster.raft-survey/1"
    name: Annotated[str, msgspec.Meta(max_length=NAME_CHARACTERS_MAX)]
    """For people: the node's, or where it was read."""
    node: HexId
    cluster: HexId
    generation: Generation
    term: UInt
    """The newest that it took part in."""
    last_term: UInt
    last_index: UInt
    """Of the last entry in its log, committed or not."""
    committed_index: UInt
    """Up to here it knew the log to be committed: what its snapshot covers."""
    revision: UInt
    """Of the store, were all of the log committed."""
    keys: UInt
    voters: tuple[Voter, ...]
    learners: tuple[Voter, ...] = ()
    electorate_index: UInt
    """Of the entry that made this electorate."""
    witness: OptionalHexId = ""
    """Who of the voters is the witness."""
    is_witness: bool = False
    """This node is one: it has no data and knows no electorate. `last_term` and `last_index` are of
    the entry before whose end no log may end that is to have its vote."""

    @property
    def rank(self) -> tuple[int, int]:
        """The greater, the more of the log."""
        return (self.last_term, self.last_index)

    @property
    def seat(self) -> Voter:
        return Voter(self.node, self.generation)


@dataclass(frozen=True, slots=True)
class Ranking:
    """What can be said of these survivors. `surveys`: the best first."""

    surveys: tuple[Survey, ...]
    missing: tuple[Voter, ...]
    """Voters of the best one's electorate of whom there is no survey: taken for dead."""
    voters: int
    witness: Survey | None = None
    """That electorate's, if it was surveyed."""

    @property
    def best(self) -> Survey:
        return self.surveys[0]

    @property
    def surviving(self) -> int:
        """Voters that were surveyed."""
        return self.voters - len(self.missing)

    @property
    def majority(self) -> int:
        return self.voters // 2 + 1

    @property
    def has_quorum(self) -> bool:
        """Are they a majority that can go on? Then there is nothing to recover from."""
        return self.surviving >= self.majority and not self.lacks_marked

    @property
    def may_lose_acknowledged(self) -> bool:
        """Could the dead have acknowledged something among themselves, or with the witness?"""
        return len(self.missing) >= self.majority or self.lacks_marked

    @property
    def lacks_marked(self) -> bool:
        """Does the best one lack what the witness was asked for?"""
        return self.witness is not None and self.witness.rank > self.best.rank

    @property
    def certain_index(self) -> int:
        """Up to here nothing can be lost: a survivor knew it to be committed."""
        return max(survey.committed_index for survey in self.surveys)


def rank(surveys: Sequence[Survey]) -> Ranking:
    """Errors: UsageError if they are not of one cluster, or two are of one node."""
    if not surveys:
        raise UsageError("there is no survivor to look at")
    clusters = sorted({survey.cluster for survey in surveys})
    if len(clusters) > 1:
        named = ", ".join(f"{each.name} is of {each.cluster[:8]}" for each in surveys)
        raise UsageError(f"these are nodes of {len(clusters)} clusters: {named}")
    for number, survey in enumerate(surveys):
        if any(survey.node == other.node for other in surveys[:number]):
            raise UsageError(f"node {survey.node[:8]} ({survey.name}) was given twice")
    replicas = [survey for survey in surveys if not survey.is_witness]
    if not replicas:
        raise UsageError("a witness has no data: look at a node that has")
    replicas.sort(key=lambda each: (*each.rank, each.node), reverse=True)
    voters = replicas[0].voters
    seats = [survey.seat for survey in surveys]
    missing = tuple(voter for voter in voters if voter not in seats)
    witness = next((each for each in surveys if each.is_witness and each.seat in voters), None)
    return Ranking(tuple(replicas), missing, len(voters), witness)


def sole_voter(now: Configuration, me: Voter, index: int) -> Configuration:
    """The electorate of a recovered cluster. It should become as large as it was, and who was
    barred stays so."""
    return msgspec.structs.replace(
        now,
        voters=(me,),
        learners=(),
        index=index,
        size=now.size or len(now.voters),
        barred=tuple(node for node in now.barred if node != me.node),
        witness="",
    )
