"""The log of a consistency machine that lives again: an image, without a disk."""

from __future__ import annotations

import random
from typing import Any

import pytest

from muster.agents.consistency.raft import birth
from muster.agents.consistency.raft.birth import JournalImage, ReplayedJournal, image_of
from muster.entropy import rng_state
from muster_protocol.effects import DeadlineReached
from muster_protocol.errors import RemoteError
from muster_protocol.wire.raft import Configuration, Voter

VOTERS = Configuration((Voter("a" * 32, "0" * 16), Voter("b" * 32, "0" * 16)))


def an_image(**changes: Any) -> JournalImage:
    fields: dict[str, Any] = {
        "first_index": 5,
        "terms": ((2, 1), (3, 4)),
        "commands": (b"five", b"six", b"seven", b"eight", b"nine"),
        "term": 6,
        "vote": "b" * 32,
        "commit_index": 7,
        "lsn": 30,
        "meta_lsn": 29,
        "durable_lsn": 28,
        "durable_index": 8,
        "electorates": (VOTERS,),
        "generation": "0" * 16,
        "manifest": None,
    }
    return JournalImage(**(fields | changes))


def test_a_log_is_as_its_image_says() -> None:
    journal = ReplayedJournal(an_image())
    assert journal[0:] == [
        (b"five", 5, 1),
        (b"six", 6, 1),
        (b"seven", 7, 4),
        (b"eight", 8, 4),
        (b"nine", 9, 4),
    ]
    assert (journal.current_term, journal.getVotedForNodeId()) == (6, "b" * 32)
    assert (journal.commit_index, journal.durable_index) == (7, 8)
    assert (journal.lsn, journal.durable_lsn, journal.term_is_durable) == (30, 28, False)
    assert image_of(journal) == an_image()


def test_it_counts_what_it_would_write_and_is_durable_when_it_is_told() -> None:
    journal = ReplayedJournal(an_image())
    journal.add(b"ten", 10, 6)
    journal.setCurrentTerm(7, None)
    assert (journal.lsn, journal.is_dirty) == (32, False)
    journal.mark_durable(lsn=32, index=10)
    assert (journal.term_is_durable, journal.durable_index) == (True, 10)


def test_of_large_commands_the_newest_are_kept_and_the_others_are_known_to_be_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(birth, "COMMANDS_BYTES_MAX", 9)
    image = image_of(ReplayedJournal(an_image()))
    assert (image.terms, image.commands) == (((2, 1), (3, 4)), (b"eight", b"nine"))
    journal = ReplayedJournal(image)
    assert journal.term_at(5) == 1
    assert journal[3:] == [(b"eight", 8, 4), (b"nine", 9, 4)]
    assert not journal.met_unknown
    assert journal[1:3] == [(birth.UNKNOWN, 6, 1), (birth.UNKNOWN, 7, 4)]
    assert journal.met_unknown


@pytest.mark.parametrize(
    "changes", [{"terms": ()}, {"terms": ((1, 1),)}, {"terms": ((10**12, 1),)}]
)
def test_an_image_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RemoteError, match="a log of"):
        ReplayedJournal(an_image(**changes))


def test_a_machine_is_built_on_it_and_remembers() -> None:
    born = birth.RaftBirth(
        me=VOTERS.voters[0].node,  # type: ignore[arg-type]
        log=an_image(commit_index=1),
        rng=rng_state(random.Random(1)),
        now=0.0,
    )
    core, line = born.build(), birth.RaftLine()
    core.handle(DeadlineReached(), now=core.deadline or 0.0)
    again = line.revive(*line.remember(core, born, 2.0))
    for _ in range(5):
        assert again.deadline == core.deadline
        now = core.deadline or 0.0
        assert again.handle(DeadlineReached(), now=now) == core.handle(DeadlineReached(), now=now)
    assert again.guard.statistics() == core.guard.statistics()
