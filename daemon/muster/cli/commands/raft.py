"""`muster raft`: the consensus, as this node has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from muster.cli import recovery, render
from muster.cli.parser import Verbs
from muster_protocol.raftguard.steward import SIZES

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context
    from muster.cli.parser import Parser

exit_of = recovery.exit_of

EXAMPLES = """
muster raft                # works without a leader too
muster raft transfer       # let another node lead, before maintenance
muster raft voters 5       # let five members vote; they are chosen, and get the log first
muster raft add n4         # give this member a free seat
muster raft remove n2      # take its seat, and give it none again before `add`
muster raft recover --help # the majority of the voters is gone for good
"""


def arguments(parser: Parser) -> None:
    verbs = Verbs(parser, required=False)
    verbs.add("transfer", "hand the leadership over")
    voters = verbs.add("voters", "say how many members vote")
    voters.add_argument("size", metavar="N", type=int, choices=SIZES, help="1, 3, 5 or 7")
    add = verbs.add("add", "give a member a seat")
    add.add_argument("node", metavar="NODE", help="its name or id")
    remove = verbs.add("remove", "take a member's seat")
    remove.add_argument("node", metavar="NODE", help="its name or id")
    recovery.arguments(verbs.add("recover", recovery.SUMMARY, recovery.EXAMPLES))


def run(args: argparse.Namespace, context: Context) -> int:
    if args.verb == "recover":
        return recovery.run(args, context)
    if args.verb == "voters":
        context.show(context.ask("raft.voters", size=args.size), render.done)
    elif args.verb in ("add", "remove"):
        context.show(context.ask(f"raft.{args.verb}", node=args.node), render.done)
    elif args.verb == "transfer":
        context.show(context.ask("raft.transfer"), render.done)
    else:
        context.show(context.ask("raft"), render.raft)
    return 0
