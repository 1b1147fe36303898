"""The table, its checksum and its graves."""

from __future__ import annotations

import collections
import random

import msgspec

from muster_protocol.membership.member import Member
from muster_protocol.membership.suspicion import SILENT, Suspicion
from muster_protocol.membership.table import GRAVES_MAX, Table
from muster_protocol.types import Address, NodeId
from muster_protocol.wire.membership import MemberState


def a_member(number: int, **changes: object) -> Member:
    address = Address("10.0.0.1", 7000 + number % 1000)
    return Member(NodeId(f"{number:032x}"), f"n{number}", address, **changes)  # type: ignore[arg-type]


def a_table(*numbers: int) -> Table:
    table = Table(a_member(0), now=0.0)
    for number in numbers:
        table.insert(a_member(number), since=0.0)
    return table


def test_table_digests_are_equal_whatever_the_order_of_changes() -> None:
    there = a_table(1, 2)
    back = a_table(2, 1)
    assert there.digest() == back.digest()
    for table in (there, back):
        entry = table.get(a_member(1).id)
        assert entry is not None
        table.change(entry, a_member(1, state=MemberState.FAILED), since=1.0)
    assert there.digest() == back.digest() != a_table(1, 2).digest()


def test_table_digest_takes_a_suspicion_for_alive() -> None:
    table = a_table(1)
    entry = table.get(a_member(1).id)
    assert entry is not None
    before = table.digest()
    entry.suspicion = Suspicion(0, 0.0, {a_member(2).id: SILENT})
    table.change(entry, a_member(1, state=MemberState.SUSPECT), since=1.0)
    assert table.digest() == before
    assert [suspect.member.id for suspect in table.suspects()] == [a_member(1).id]


def test_table_counts_who_is_present() -> None:
    table = a_table(1, 2, 3)
    entry = table.get(a_member(1).id)
    assert entry is not None
    table.change(entry, a_member(1, state=MemberState.STOPPED), since=1.0)
    assert table.present == 3
    assert table.count(MemberState.STOPPED) == 1
    assert len(table) == 4


def test_table_remembers_the_incarnation_of_the_forgotten() -> None:
    table = a_table()
    table.insert(a_member(1, incarnation=9, state=MemberState.LEFT), since=0.0)
    table.forget(a_member(1).id)
    assert table.get(a_member(1).id) is None
    assert table.grave(a_member(1).id) == 9
    assert table.digest() == a_table().digest()


def test_table_keeps_a_bounded_number_of_graves_the_youngest() -> None:
    table = a_table()
    for number in range(1, GRAVES_MAX + 3):
        table.insert(a_member(number), since=0.0)
        table.forget(a_member(number).id)
    assert table.grave(a_member(2).id) is None
    assert table.grave(a_member(3).id) == 0


def test_table_picks_different_members_that_are_wanted() -> None:
    table = a_table(1, 2, 3, 4)
    wanted = (a_member(1).id, a_member(3).id)
    picked = table.pick(random.Random(1), 3, lambda entry: entry.member.id in wanted)
    assert sorted(entry.member.id for entry in picked) == sorted(wanted)


def test_table_for_sync_tells_ages_and_accusers() -> None:
    table = a_table(1)
    entry = table.get(a_member(1).id)
    assert entry is not None
    entry.suspicion = Suspicion(0, 5.0, {a_member(2).id: SILENT})
    table.change(entry, a_member(1, state=MemberState.FAILED), since=8.0)
    mine, row = table.for_sync(now=20.5).members
    assert mine.node == table.me.id
    assert (row.age_s, row.by, row.state) == (12, a_member(2).id, MemberState.FAILED)


def test_pick_is_by_chance_among_the_wanted_however_few_they_are() -> None:
    """Drawn where most are wanted, searched where they are rare; each as often as the others."""
    table = a_table(*range(1, 41))
    rng = random.Random(1)
    for wanted in ({7, 8, 9}, set(range(1, 41))):
        picked = collections.Counter(
            entry.member.name
            for _ in range(3_000)
            for entry in table.pick(rng, 2, lambda e, w=wanted: int(e.member.name[1:]) in w)
        )
        assert len(picked) == len(wanted)
        fair = 6_000 / len(wanted)
        assert all(0.6 * fair < count < 1.4 * fair for count in picked.values())


def test_pick_has_nobody_twice_and_nobody_who_was_forgotten() -> None:
    table = a_table(*range(1, 11))
    table.forget(a_member(3).id)
    for seed in range(100):
        picked = [entry.member.id for entry in table.pick(random.Random(seed), 9, lambda _: True)]
        assert len(picked) == len(dict.fromkeys(picked)) == 9
        assert a_member(3).id not in picked


def test_named_follows_changes_of_names() -> None:
    table = a_table(1, 2)
    entry = table.get(a_member(1).id)
    assert entry is not None
    table.change(entry, msgspec.structs.replace(entry.member, name="n2"), since=1.0)
    assert [member.id for member in table.named("n2")] == [a_member(2).id, a_member(1).id]
    assert table.named("n1") == []
    table.forget(a_member(2).id)
    assert [member.id for member in table.named("n2")] == [a_member(1).id]
    assert [member.id for member in table.named("n0")] == [a_member(0).id]
