"""What people read of a recovery: `render` for `muster raft recover`."""

from __future__ import annotations

from typing import Any

from muster.cli.render import short
from muster.cli.terminal import Block, Styled, Table


def survey(result: Any) -> list[Block]:
    """What one node's disk says."""
    if result.is_witness:
        return [
            Styled(f"{result.name}: a witness, asked up to {_end(result)}", "bold"),
            f"node       {result.node}",
            f"cluster    {result.cluster}",
            f"term       {result.term}",
        ]
    voters = ", ".join(short(voter.node) for voter in result.voters)
    learners = ", ".join(short(voter.node) for voter in result.learners)
    return [
        Styled(f"{result.name}: the log ends at {_end(result)}", "bold"),
        f"node       {result.node}",
        f"cluster    {result.cluster}",
        f"term       {result.term}",
        f"committed  up to {result.committed_index} for certain (the snapshot)",
        f"state      revision {result.revision}, {result.keys} keys, with all of the log",
        f"voters     {voters} (since {result.electorate_index})",
        *([f"learners   {learners}"] if learners else []),
    ]


def ranking(result: Any) -> list[Block]:
    """Who has most, what may be lost, who is fenced."""
    seats = {voter.node for voter in result.survivors[0].voters}
    rows = [
        [
            each.name,
            short(each.node),
            _end(each),
            str(each.committed_index),
            str(each.revision),
            "voter" if each.node in seats and each.node not in result.missing else "no voter",
        ]
        for each in result.survivors
    ]
    headings = ["NAME", "ID", "LOG ENDS AT", "COMMITTED", "REVISION", "SEAT"]
    best = result.survivors[0]
    here = result.voters - len(result.missing)
    return [
        f"cluster {result.cluster}",
        f"{here} of {result.voters} voters are here, {result.majority} are a majority",
        Table(headings, rows, right=["COMMITTED", "REVISION"]),
        Styled(f"{_most(result)}: the log ends at {_end(best)}", "bold"),
        *_witness(result),
        *([] if result.has_quorum else _loss(result)),
    ]


def _witness(result: Any) -> list[Block]:
    best = result.survivors[0]
    if result.witness is not None:
        return [f"the witness was asked up to {_end(result.witness)}"]
    if best.witness:
        return [f"the witness {short(best.witness)} would know more: --inspect it, too"]
    return []


def _end(survey: Any) -> str:
    """Of its log: term and index."""
    return f"{survey.last_term}/{survey.last_index}"


def _most(result: Any) -> str:
    """One has most, or some have as much: any of them will do, but only one."""
    best = result.survivors[0]
    names = [each.name for each in result.survivors if each.rank == best.rank]
    return f"{names[0]} has most" if len(names) == 1 else f"{' and '.join(names)} have most"


def _loss(result: Any) -> list[Block]:
    dead = ", ".join(short(node) for node in result.missing)
    count = len(result.missing)
    fenced = f"fenced: {dead} (dead, or not asked), and every node that does not rejoin"
    same = "nothing acknowledged is on the other survivors and not on it"
    if not result.may_lose_acknowledged:
        return [
            Styled(
                f"nothing acknowledged is lost: the {count} missing voters are no majority, so each"
                " acknowledged write is on a survivor",
                "good",
            ),
            same,
            fenced,
        ]
    if result.lacks_marked:
        what = f"the writes between, up to {_end(result.witness)}: they are on no survivor's disk"
        return [Styled(f"MAY BE LOST: {what}", "bad"), fenced]
    return [
        Styled(
            f"MAY BE LOST: writes that {result.majority} of the {count} missing voters acknowledged"
            " without a survivor; how many cannot be known here",
            "bad",
        ),
        f"certain: everything up to index {result.certain_index} was committed, and is on it",
        same,
        fenced,
    ]


def recovered(result: Any) -> list[Block]:
    """Done, and what comes next."""
    return [
        Styled(f"recovered as cluster {result.cluster}", "good"),
        f"{result.keys} keys; revisions go on from {result.revision}",
        "next: start this node's daemon, then on every other node, daemon stopped:",
        f"  muster raft recover --rejoin {result.cluster}",
        "what was before stays in the state directory as aside-*: remove it when all is well",
    ]


def rejoined(result: Any) -> list[Block]:
    """Done, and what comes next."""
    return [
        Styled(f"belongs to cluster {result.cluster} now, without a seat", "good"),
        "next: start this node's daemon",
        "what was before stays in the state directory as aside-*: remove it when all is well",
    ]
