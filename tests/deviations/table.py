"""The deviations of pysyncobj 0.3.17, and the table of them that stands in docs/consistency.md.

A test says which deviation it shows, and in a few words what the stock library and ours do in it.
Those words are believed only as far as the test passes: `make deviations` runs them all and writes
the table. What each deviation is, and how it is closed, stands here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest

Test = Callable[..., Any]

BEGIN: Final = "<!-- deviations: written by `make deviations` -->"
END: Final = "<!-- end of deviations -->"


@dataclass(frozen=True, slots=True)
class Deviation:
    """What is wrong in the library, and where and how it is closed on our side."""

    title: str
    closed: str


DEVIATIONS: Final[Mapping[int, Deviation]] = {
    1: Deviation(
        "commit index moves over unverified entries",
        "clamped to what is verified against the leader of the term (`appends`)",
    ),
    2: Deviation(
        "truncates without conflict",
        "entries already held are cut off; where nothing is left, a bare heartbeat and our own ack "
        "(`appends`)",
    ),
    3: Deviation(
        "acks without a term",
        "every frame carries its sender's term; answers of another are dropped (`guard`)",
    ),
    4: Deviation(
        "a vote counts as often as it arrives", "once per member and campaign (`elections`)"
    ),
    5: Deviation(
        "default journal forgets term and vote", "our journal, always (`storage/journal`)"
    ),
    6: Deviation(
        "no fsync",
        "group commit; acks clamped to the disk, votes and requests after the sync, one voter "
        "waits (`guard`, `progress`, `core`)",
    ),
    7: Deviation(
        "unreadable vote is forgotten",
        "checksummed records; a wrong complete record refuses to start (`storage/records`)",
    ),
    8: Deviation(
        "no checksums",
        "CRC-32 of header and payload; a torn write told from damage (`storage/segments`)",
    ),
    9: Deviation(
        "journal cleared when dump and head differ",
        "aligned before the engine is built; `clear` is an assertion (`storage/journal`)",
    ),
    10: Deviation(
        "compaction in place; install clears a matching suffix",
        "segments; a snapshot not newer than the log is answered, not installed",
    ),
    11: Deviation(
        "persisted commit index beyond the log", "not stored; the snapshot's, then the leader's"
    ),
    12: Deviation(
        "compaction without a dump loses the state",
        "the engine's compaction is off; a snapshot is durable before the log is trimmed, and the "
        "segment in which the durable log ends stays",
    ),
    13: Deviation(
        "unreadable dump is swallowed", "verified before the engine is built; refuses to start"
    ),
    14: Deviation(
        "failed install is acknowledged", "the guard acknowledges after it was installed"
    ),
    15: Deviation(
        "snapshot stream without id or digest",
        "the data travels on a stream of its own, length and SHA-256 checked over the whole",
    ),
    16: Deviation(
        "an exception in a replicated method stops everybody",
        "one method that never raises (`replica`)",
    ),
    17: Deviation("an exception in a callback applies twice", "no callbacks are given"),
    18: Deviation("VERSION entries", "never proposed; dropped where one arrives (`translation`)"),
    19: Deviation("method ids by position", "one replicated method"),
    20: Deviation(
        "several changes of the electorate at once",
        "an electorate is a whole list in an entry of ours, one voter is changed at a time "
        "(`electorate`); the library's membership commands are off and dropped where one arrives",
    ),
    21: Deviation(
        "an uncommitted electorate is forgotten by a restart",
        "the newest electorate of the log is in force, committed or not, and after a restart "
        "again; truncation takes it back",
    ),
    22: Deviation(
        "a new node votes at once; who is removed is not told",
        "a learner gets the log without counting, and votes when it has it; who has no seat is "
        "not supported by those who hear a leader",
    ),
    23: Deviation(
        "no cluster id, foreign voters",
        "hello with cluster, id and journal generation; an answer counts with the generation of "
        "the seat (`peers`); another process with a connected id is refused (`links`)",
    ),
    24: Deviation(
        "no pre-vote",
        "pre-vote; the gate is open while leader and for the tick that starts a campaign "
        "(`elections`, `guard`)",
    ),
    25: Deviation(
        "stale leaders are not told",
        "told the higher term; step down by a vote request that must be refused",
    ),
    26: Deviation(
        "no linearizable read", "a majority is asked whether the leader still leads (`reads`)"
    ),
    27: Deviation(
        "snapshot chunks are not answered; a new dump restarts the stream",
        "a stream of its own, resumed after a cut; meanwhile the follower answers that it is alive",
    ),
    28: Deviation(
        "backtracks one entry a heartbeat",
        "back a whole term at once, and on at once; not back behind what the follower has said to "
        "have",
    ),
    29: Deviation("callbacks that never fire", "own waiters and deadlines; `unknown` is told"),
    30: Deviation(
        "errors half-way through a message",
        "only typed, checked frames reach the engine; an exception ends the agent, which starts "
        "again from the journal",
    ),
    31: Deviation(
        "sends and applies all at once",
        "a 4 MiB window per follower (`progress`); 256 entries in a call (`core`); the log in "
        "memory has a limit (`room`, `compaction`)",
    ),
    32: Deviation("an asynchronous serializer's file is renamed too early", "never called"),
    33: Deviation("what is set before its constructor is left out of dumps", "never called"),
    34: Deviation(
        "hands over in the middle of proposals; locks of client clocks",
        "nothing is proposed during a handover (`handover`); its locks are never used",
    ),
}


def deviation(number: int, *, stock: str = "", ours: str = "") -> Callable[[Test], Test]:
    """A test of this deviation: what the stock library does in its scenario, and what ours does.
    Empty where the test is not about that side."""

    def mark(test: Test) -> Test:
        marked: Test = pytest.mark.deviation(number, stock=stock, ours=ours)(test)
        # The library does not close its files; ours are closed by their own tests.
        return pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")(marked)

    return mark


@dataclass(frozen=True, slots=True)
class Shown:
    """What one test says, and what became of it: "passed", "xfailed", anything else is bad."""

    number: int
    stock: str
    ours: str
    outcome: str
    reason: str = ""
    """Of an expected failure."""

    @property
    def stock_cell(self) -> str:
        return self.stock and (self.stock if self.outcome != "failed" else "**not shown**")

    @property
    def ours_cell(self) -> str:
        if not self.ours or self.outcome == "passed":
            return self.ours
        return f"**open**: {self.reason}" if self.outcome == "xfailed" else "**not shown**"


def shown_by(marks: Iterable[pytest.Mark], outcome: str | None = None) -> Shown:
    """What a test with these marks says. Without an outcome: what is expected of it."""
    named = {mark.name: mark for mark in marks}
    said, xfail = named["deviation"], named.get("xfail")
    reason = str(xfail.kwargs["reason"]) if xfail else ""
    expected = "xfailed" if xfail else "passed"
    return Shown(
        said.args[0], said.kwargs["stock"], said.kwargs["ours"], outcome or expected, reason
    )


def render(shown: Iterable[Shown]) -> str:
    """The table, with the comments that it stands between."""
    rows = list(shown)
    lines = [
        BEGIN,
        "",
        "| | deviation | stock, as seen | ours, as seen | how it is closed |",
        "|---|---|---|---|---|",
    ]
    for number, what in DEVIATIONS.items():
        mine = [row for row in rows if row.number == number]
        stock = "; ".join(filter(None, dict.fromkeys(row.stock_cell for row in mine)))
        ours = "; ".join(filter(None, dict.fromkeys(row.ours_cell for row in mine)))
        cells = (f"D{number}", what.title, stock or "—", ours or "—", what.closed)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", END])


def replaced(document: str, table: str) -> str:
    """The document with this table in the place of the one that it has."""
    before, rest = document.split(BEGIN)
    return before + table + rest.split(END)[1]
