"""One machine, given events by hand."""

from __future__ import annotations

import random
from typing import Any

import pytest

from muster_protocol.effects import DeadlineReached, Effect, Emit, Notify, SendPacket
from muster_protocol.errors import UsageError
from muster_protocol.membership.config import MembershipConfig
from muster_protocol.membership.effects import ProbeByStream, StartSync
from muster_protocol.membership.events import (
    AddressChanged,
    ForgetRequested,
    JoinHint,
    LeaveRequested,
    LoopLagged,
    PacketReceived,
    StopRequested,
    StreamProbeFailed,
    StreamProbeSucceeded,
    SyncReceived,
    UpdateMeta,
)
from muster_protocol.membership.joining import HINTS_MAX
from muster_protocol.membership.member import Accusation, Member, MemberView
from muster_protocol.membership.probing import RELAYS_MAX
from muster_protocol.membership.suspicion import REFUSED, SILENT
from muster_protocol.membership.swim import Swim
from muster_protocol.membership.sync import DIFFERENCES_PER_S_MAX
from muster_protocol.membership.table import MEMBERS_MAX
from muster_protocol.types import Address, ClusterId, NodeId, Severity
from muster_protocol.wire.membership import (
    INCARNATION_END,
    Ack,
    Alive,
    Digest,
    DigestDiffers,
    Failed,
    IndirectAck,
    JoinReply,
    JoinRequest,
    Left,
    MemberRecord,
    MemberState,
    Nack,
    NodeMeta,
    Ping,
    PingReq,
    Stopped,
    Suspect,
    SyncTable,
)

ME, A, B, C = (NodeId(letter * 32) for letter in "0abc")
BOOT, OTHER_BOOT = "11" * 12, "22" * 12
ADDRESSES = {ME: Address("10.0.0.9", 7411)} | {
    node: Address(f"10.0.0.{number}", 7411) for number, node in enumerate((A, B, C), start=1)
}
NAMES = {ME: "me", A: "node-a", B: "node-b", C: "node-c"}


class Bench:
    """A machine and the effects of its last event."""

    def __init__(self, *known: NodeId, now: float = 1000.0, **settings: Any) -> None:
        config = MembershipConfig(**settings)
        me = Member(ME, "me", ADDRESSES[ME])
        self.now = now
        self.swim = Swim(config=config, me=me, rng=random.Random(7), boot=BOOT, now=now)
        self.effects: tuple[Effect, ...] = ()
        self.everything: list[Effect] = []
        for node in known:
            self.hear(node, an_alive(node))

    def give(self, event: Any, *, after: float = 0.0) -> tuple[Effect, ...]:
        self.now += after
        self.effects = self.swim.handle(event, now=self.now)
        self.everything.extend(self.effects)
        return self.effects

    def hear(self, sender: NodeId, *messages: Any, source: Address | None = None) -> None:
        address = source if source is not None else ADDRESSES[sender]
        self.give(PacketReceived(sender, address, messages))

    def wait(self, seconds: float) -> None:
        """Let deadlines fire, for so long."""
        end = self.now + seconds
        while (deadline := self.swim.deadline) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.give(DeadlineReached())
        self.now = end

    def sent(self, kind: type, *, to: NodeId | None = None) -> list[Any]:
        """Messages of a kind in everything that was sent, perhaps to one node only."""
        return [
            message
            for effect in self.everything
            if isinstance(effect, SendPacket) and to in (None, effect.receiver)
            for message in effect.messages
            if isinstance(message, kind)
        ]

    def of(self, kind: type) -> list[Any]:
        return [effect for effect in self.everything if isinstance(effect, kind)]

    def emitted(self) -> list[str]:
        return [effect.type.removeprefix("cluster.node.") for effect in self.of(Emit)]

    def notified(self) -> list[str]:
        return [effect.event.removeprefix("membership.") for effect in self.of(Notify)]

    def view(self, node: NodeId) -> MemberView:
        return next(view for view in self.swim.members() if view.id == node)

    def forget_effects(self) -> None:
        self.everything.clear()

    @property
    def me(self) -> MemberView:
        return self.swim.members()[0]


def an_alive(node: NodeId, incarnation: int = 0, **changes: Any) -> Alive:
    fields: dict[str, Any] = {
        "name": NAMES[node],
        "address": ADDRESSES[node],
        "meta": NodeMeta(),
    } | changes
    return Alive(node, incarnation=incarnation, **fields)


def a_record(node: NodeId, incarnation: int, state: MemberState, **changes: Any) -> MemberRecord:
    return MemberRecord(node, NAMES[node], ADDRESSES[node], incarnation, state, **changes)


# --- updates -----------------------------------------------------------------------------------


def test_newcomer_is_announced_and_passed_on() -> None:
    bench = Bench(A, B)
    assert bench.emitted() == ["announced", "announced"]
    bench.wait(0.3)
    assert an_alive(B) in bench.sent(Alive, to=A)
    data = bench.of(Emit)[0].data
    assert data["node"] == A
    assert data["address"] == "10.0.0.1:7411"


def test_update_of_a_stranger_without_a_description_is_ignored() -> None:
    bench = Bench(A)
    bench.hear(A, Suspect(B, 1, A), Failed(B, 1, A), Stopped(B, 1), Left(B, 1))
    assert len(bench.swim.members()) == 2


def test_suspicion_tells_by_whom_and_why_and_becomes_a_failure() -> None:
    bench = Bench(A, B)
    bench.hear(B, Suspect(A, 0, B, SILENT))
    assert bench.view(A).suspected_by == (Accusation(B, SILENT),)
    bench.hear(C, Suspect(A, 0, C, SILENT))
    bench.wait(3.1)
    assert bench.view(A).state is MemberState.FAILED
    signals = [effect for effect in bench.of(Emit) if effect.subject == A]
    assert [signal.type.split(".")[-1] for signal in signals] == [
        "announced",
        "suspected",
        "failed",
    ]
    failed = signals[-1].data
    assert failed["accusers"][:2] == [B, C]
    assert failed["reason"] == SILENT
    assert {accusation.by for accusation in bench.view(A).suspected_by} >= {B, C}


def test_suspicion_of_a_higher_incarnation_starts_a_fresh_timer() -> None:
    bench = Bench(A, B, C)
    accusers = (B, C, ME)
    bench.hear(B, *(Suspect(A, 0, accuser) for accuser in accusers))
    bench.wait(2.5)
    bench.hear(B, *(Suspect(A, 1, accuser) for accuser in accusers))
    bench.wait(2.5)
    assert bench.view(A).state is MemberState.SUSPECT
    bench.wait(1.0)
    assert bench.view(A).state is MemberState.FAILED


def test_suspicion_ends_by_a_higher_incarnation() -> None:
    bench = Bench(A, B)
    bench.hear(B, Suspect(A, 0, B))
    bench.hear(B, an_alive(A, 1))
    assert bench.view(A).state is MemberState.ALIVE
    assert bench.view(A).suspected_by == ()
    assert bench.emitted()[-1] == "recovered"
    assert bench.of(Emit)[-1].data["was"] == "suspect"


def test_stale_accuser_is_told_what_it_missed() -> None:
    bench = Bench(B)
    bench.hear(B, an_alive(A, 4))
    bench.forget_effects()
    bench.hear(B, Suspect(A, 3, B))
    assert an_alive(A, 4) in bench.sent(Alive, to=B)


def test_failure_of_somebody_taken_for_alive_is_first_a_suspicion() -> None:
    bench = Bench(A, B)
    bench.hear(B, Failed(A, 0, B, SILENT))
    assert bench.view(A).state is MemberState.SUSPECT
    bench.hear(B, an_alive(A, 1))
    assert bench.view(A).state is MemberState.ALIVE
    assert "failed" not in bench.emitted()


def test_failure_is_believed_when_our_own_suspicion_is_old_enough() -> None:
    bench = Bench(A, B, C)
    bench.hear(B, Suspect(A, 0, B))
    bench.wait(1.6)
    bench.hear(B, Failed(A, 0, B, SILENT))
    assert bench.view(A).state is MemberState.FAILED


def test_failure_is_believed_at_once_without_lifeguards_suspicion() -> None:
    bench = Bench(A, B, lha_suspicion=False)
    bench.hear(B, Failed(A, 0, B, SILENT))
    assert bench.view(A).state is MemberState.FAILED
    assert bench.view(A).suspected_by == (Accusation(B, SILENT),)


def test_changed_metadata_and_address_are_an_update() -> None:
    bench = Bench(A)
    bench.hear(A, an_alive(A, 1, meta=NodeMeta(voter=True)))
    bench.hear(A, an_alive(A, 2, address=Address("10.0.0.77", 7411)))
    assert bench.emitted() == ["announced", "updated", "updated"]
    assert bench.view(A).address.host == "10.0.0.77"


def test_member_of_another_cluster_is_not_taken_up_and_reported_once() -> None:
    bench = Bench()
    bench.give(UpdateMeta(NodeMeta(cluster_id=ClusterId("1" * 32))))
    for incarnation in (1, 2):
        bench.hear(A, an_alive(A, incarnation, meta=NodeMeta(cluster_id=ClusterId("2" * 32))))
    assert len(bench.swim.members()) == 1
    assert bench.notified() == ["cluster.foreign"]
    bench.hear(B, an_alive(B, 1))
    assert len(bench.swim.members()) == 2


# --- about ourselves ---------------------------------------------------------------------------


def test_refutation_supersedes_and_goes_to_the_teller_and_the_accuser() -> None:
    bench = Bench(A, B)
    bench.forget_effects()
    bench.hear(A, Suspect(ME, 0, B, SILENT))
    assert bench.me.incarnation == 1
    assert [alive.incarnation for alive in bench.sent(Alive, to=A) if alive.node == ME] == [1]
    assert [alive.incarnation for alive in bench.sent(Alive, to=B) if alive.node == ME] == [1]
    assert bench.swim.statistics().local_health == 1
    assert "suspicion.refuted" in bench.notified()


def test_refutation_never_reuses_an_incarnation() -> None:
    bench = Bench(A)
    used = [bench.me.incarnation]
    claims = [Suspect(ME, 0, A), Failed(ME, 5, A), Suspect(ME, 5, A), Left(ME, 9), Failed(ME, 2, A)]
    for claim in [*claims, Stopped(ME, 40), an_alive(B, 0), Suspect(ME, 41, A)]:
        bench.hear(A, claim)
        used.append(bench.me.incarnation)
    bench.give(UpdateMeta(NodeMeta(voter=True)))
    assert used == sorted(used)
    assert bench.me.incarnation == 43
    said: dict[int, Alive] = {}
    for alive in bench.sent(Alive):
        if alive.node == ME:
            assert said.setdefault(alive.incarnation, alive) == alive


def test_refutation_stops_where_incarnations_end() -> None:
    bench = Bench(A)
    bench.hear(A, Suspect(ME, INCARNATION_END - 1, A))
    assert bench.me.incarnation == 0
    assert bench.swim.statistics().ignored["absurd incarnation"] == 1


def test_own_older_record_is_no_news() -> None:
    bench = Bench(A)
    bench.give(UpdateMeta(NodeMeta(voter=True)))
    bench.forget_effects()
    bench.hear(A, Suspect(ME, 0, A))
    assert bench.me.incarnation == 1
    assert bench.swim.statistics().refutations == 0
    told = [alive.incarnation for alive in bench.sent(Alive, to=A) if alive.node == ME]
    assert told[:1] == [1], "the accuser missed it and is told again"


def test_metadata_and_address_changes_raise_the_incarnation_once_each() -> None:
    bench = Bench(A)
    bench.give(UpdateMeta(NodeMeta(build="2")))
    bench.give(UpdateMeta(NodeMeta(build="2")))
    bench.give(AddressChanged(Address("10.0.0.10", 7411)))
    bench.give(AddressChanged(Address("10.0.0.10", 7411)))
    assert (bench.me.incarnation, bench.me.address.host) == (2, "10.0.0.10")


def test_metadata_that_is_too_long_is_refused_with_an_error() -> None:
    too_long = NodeMeta(tags={f"k{number}": "v" * 100 for number in range(10)})
    bench = Bench(A)
    bench.give(UpdateMeta(too_long))
    assert bench.notified() == ["meta.oversized"]
    assert bench.me.meta == NodeMeta()
    with pytest.raises(UsageError):
        Swim(
            config=MembershipConfig.lan(),
            me=Member(ME, "me", ADDRESSES[ME], meta=too_long),
            rng=random.Random(1),
            boot=BOOT,
            now=0.0,
        )


# --- probing -----------------------------------------------------------------------------------


def next_ping(bench: Bench) -> Ping:
    """Run until the machine pings somebody."""
    bench.forget_effects()
    while not (pings := bench.sent(Ping)):
        assert bench.swim.deadline is not None
        bench.wait(max(0.0, bench.swim.deadline - bench.now))
    ping = pings[-1]
    assert isinstance(ping, Ping)
    return ping


def test_ping_for_us_is_answered_without_naming_our_process() -> None:
    bench = Bench(A)
    bench.forget_effects()
    bench.hear(A, Ping(77, ME))
    assert bench.sent(Ack, to=A) == [Ack(77)]


def test_ping_for_somebody_else_is_not_answered() -> None:
    bench = Bench(A)
    bench.forget_effects()
    bench.hear(A, Ping(77, B))
    assert bench.sent(Ack) == []
    assert bench.swim.statistics().ignored == {"ping for somebody else": 1}


def test_ping_from_another_address_is_told_where_we_take_its_sender_to_live() -> None:
    bench = Bench(A)
    bench.forget_effects()
    bench.hear(A, Ping(77, ME), source=Address("10.0.0.50", 7411))
    (packet,) = bench.of(SendPacket)
    assert packet.to == Address("10.0.0.50", 7411)
    assert packet.messages[:2] == (an_alive(A), Ack(77))


def test_ping_of_a_stranger_is_answered_and_introduces_us() -> None:
    bench = Bench()
    bench.hear(A, Ping(77, ME))
    bench.wait(0.0)
    assert bench.sent(Ack, to=A) == [Ack(77)]
    assert [request.record.node for request in bench.sent(JoinRequest)] == [ME]


def test_probe_answered_in_time_accuses_nobody() -> None:
    bench = Bench(A)
    for _ in range(5):
        ping = next_ping(bench)
        bench.hear(A, Ack(ping.sequence))
    assert bench.view(A).state is MemberState.ALIVE
    assert bench.swim.statistics().probes_failed == 0


def test_probe_asks_others_and_tries_a_stream_at_the_timeout() -> None:
    bench = Bench(A, B, C)
    ping = next_ping(bench)
    bench.forget_effects()
    bench.wait(0.55)
    requests = bench.sent(PingReq)
    assert len(requests) == 2
    assert {request.target for request in requests} == {ping.target}
    assert [request.nack_after_ms for request in requests] == [400, 400]
    assert bench.sent(PingReq, to=ping.target) == []
    assert bench.of(ProbeByStream) == [
        ProbeByStream(ping.target, ADDRESSES[ping.target], ping.sequence)
    ]


@pytest.mark.parametrize("answer", ["late ack", "indirect", "stream"])
def test_probe_is_answered_by_any_way_until_it_ends(answer: str) -> None:
    bench = Bench(A, B)
    ping = next_ping(bench)
    bench.wait(0.9)
    if answer == "late ack":
        bench.hear(ping.target, Ack(ping.sequence))
    elif answer == "indirect":
        bench.hear(B, IndirectAck(ping.sequence))
    else:
        bench.give(StreamProbeSucceeded(ping.sequence))
    bench.wait(0.2)
    assert bench.view(ping.target).state is MemberState.ALIVE


def test_probe_is_not_answered_by_somebody_else() -> None:
    bench = Bench(A, B)
    ping = next_ping(bench)
    other = B if ping.target == A else A
    bench.hear(other, Ack(ping.sequence))
    bench.wait(1.1)
    assert bench.view(ping.target).state is MemberState.SUSPECT


def test_probe_that_fails_accuses_and_tells_the_accused_first() -> None:
    bench = Bench(A, B)
    ping = next_ping(bench)
    bench.forget_effects()
    bench.wait(1.05)
    accusation = Suspect(ping.target, 0, ME, SILENT)
    assert accusation in bench.sent(Suspect, to=ping.target)
    assert bench.notified() == ["suspicion.raised"]
    assert bench.view(ping.target).suspected_by == (Accusation(ME, SILENT),)


def test_probe_that_fails_with_all_nacks_is_not_held_against_ourselves() -> None:
    bench = Bench(A, B)
    ping = next_ping(bench)
    relay = B if ping.target == A else A
    bench.wait(0.9)
    bench.hear(relay, Nack(ping.sequence))
    bench.wait(0.15)
    assert bench.swim.statistics().probes_failed == 1
    assert bench.swim.statistics().local_health == 0


def test_probe_that_fails_without_nacks_slows_the_next_ones() -> None:
    bench = Bench(A, B, C)
    next_ping(bench)
    bench.wait(1.05)
    assert bench.swim.statistics().local_health == 2


def test_refused_stream_accuses_at_once() -> None:
    bench = Bench(A, B)
    ping = next_ping(bench)
    bench.give(StreamProbeFailed(ping.sequence, refused=True))
    assert bench.view(ping.target).state is MemberState.ALIVE, "packets were not silent yet"
    bench.wait(0.55)
    bench.give(StreamProbeFailed(ping.sequence, refused=True))
    assert bench.view(ping.target).suspected_by == (Accusation(ME, REFUSED),)
    assert bench.swim.statistics().local_health == 0


def test_stream_that_fails_otherwise_decides_nothing() -> None:
    bench = Bench(A, B)
    ping = next_ping(bench)
    bench.wait(0.55)
    bench.give(StreamProbeFailed(ping.sequence))
    assert bench.view(ping.target).state is MemberState.ALIVE


def test_member_that_only_answers_by_stream_is_reported_once() -> None:
    bench = Bench(A)
    for _ in range(5):
        ping = next_ping(bench)
        bench.wait(0.55)
        bench.give(StreamProbeSucceeded(ping.sequence))
        assert bench.notified() == (["packets.blocked"] if _ == 2 else [])


def test_relay_pings_for_another_and_passes_the_answer_on() -> None:
    bench = Bench(A, B)
    bench.forget_effects()
    bench.hear(A, PingReq(500, B, ADDRESSES[B], 400))
    (ping,) = bench.sent(Ping, to=B)
    bench.hear(B, Ack(ping.sequence))
    assert bench.sent(IndirectAck, to=A) == [IndirectAck(500)]
    bench.wait(0.5)
    assert bench.sent(Nack) == []


def test_relay_says_after_four_fifths_that_it_has_no_answer_and_passes_a_late_one_on() -> None:
    bench = Bench(A, B)
    bench.forget_effects()
    bench.hear(A, PingReq(500, B, ADDRESSES[B], 400))
    (ping,) = bench.sent(Ping, to=B)
    bench.wait(0.39)
    assert bench.sent(Nack) == []
    bench.wait(0.02)
    assert bench.sent(Nack, to=A) == [Nack(500)]
    bench.hear(B, Ack(ping.sequence))
    assert bench.sent(IndirectAck, to=A) == [IndirectAck(500)]


def test_probe_of_a_member_that_says_good_bye_meanwhile_is_held_against_nobody() -> None:
    bench = Bench(A, B)
    ping = next_ping(bench)
    bench.hear(ping.target, Stopped(ping.target, 0))
    bench.wait(1.1)
    assert bench.sent(PingReq) == []
    assert bench.view(ping.target).state is MemberState.STOPPED
    assert bench.swim.statistics().local_health == 0


def test_relays_are_bounded_and_the_oldest_goes() -> None:
    bench = Bench(A, B)
    bench.forget_effects()
    for sequence in range(RELAYS_MAX + 1):
        bench.hear(A, PingReq(sequence, B, ADDRESSES[B], 400))
    first, *_, last = bench.sent(Ping, to=B)
    bench.hear(B, Ack(first.sequence), Ack(last.sequence))
    assert bench.sent(IndirectAck, to=A) == [IndirectAck(RELAYS_MAX)]


def test_relay_asked_to_ping_ourselves_is_ignored() -> None:
    bench = Bench(A)
    bench.forget_effects()
    bench.hear(A, PingReq(1, ME, ADDRESSES[ME], 400))
    assert bench.sent(Ping) == []


def test_relay_sends_no_nack_where_none_is_wanted() -> None:
    bench = Bench(A, B)
    bench.hear(A, PingReq(500, B, ADDRESSES[B]))
    bench.wait(2.0)
    assert bench.sent(Nack) == []


def test_suspicion_heard_is_confirmed_by_a_probe_of_our_own() -> None:
    bench = Bench(A, B)
    bench.forget_effects()
    bench.hear(B, Suspect(A, 0, B, SILENT))
    packets = [effect for effect in bench.of(SendPacket) if effect.receiver == A]
    assert isinstance(packets[0].messages[0], Suspect), "the buddy tells the suspect first"
    assert isinstance(packets[0].messages[1], Ping)
    bench.wait(1.1)
    assert ME in [accusation.by for accusation in bench.view(A).suspected_by]


def test_lifeguard_switched_off_asks_for_no_nacks_and_tells_no_buddy() -> None:
    off = {"lha_probe": False, "lha_suspicion": False, "buddy": False}
    bench = Bench(A, B, **off)
    ping = next_ping(bench)
    bench.wait(1.05)
    assert [request.nack_after_ms for request in bench.sent(PingReq)] == [0]
    assert bench.swim.statistics().local_health == 0
    assert ping.target in [v.id for v in bench.swim.members() if v.state is MemberState.SUSPECT]
    bench.wait(3.0)
    assert bench.view(ping.target).state is MemberState.FAILED


def test_late_loop_doubts_itself_and_gives_others_time() -> None:
    bench = Bench(A, B)
    ping = next_ping(bench)
    bench.give(LoopLagged(2.0), after=2.0)
    bench.give(DeadlineReached())
    assert bench.view(ping.target).state is MemberState.ALIVE
    assert bench.swim.statistics().local_health == 5
    bench.give(LoopLagged(0.05))
    assert bench.swim.statistics().local_health == 5


def test_lone_node_wakes_rarely() -> None:
    bench = Bench()
    bench.wait(600.0)
    bench.forget_effects()
    start, wakes = bench.now, 0
    while (deadline := bench.swim.deadline) is not None and deadline < start + 600:
        bench.wait(deadline - bench.now)
        wakes += 1
    assert wakes < 200
    assert bench.everything == []


# --- joining and comparing ---------------------------------------------------------------------


def test_join_hint_is_asked_until_it_answers() -> None:
    bench = Bench()
    bench.give(JoinHint((ADDRESSES[A], ADDRESSES[ME])))
    bench.wait(10.0)
    requests = bench.sent(JoinRequest)
    assert 5 <= len(requests) <= 8
    assert {effect.to for effect in bench.of(SendPacket)} == {ADDRESSES[A]}
    assert {effect.receiver for effect in bench.of(SendPacket)} == {None}
    reply = JoinReply(requests[0].sequence, an_alive(A), Digest(9, 9))
    bench.hear(A, reply)
    assert bench.of(StartSync) == [StartSync(A, ADDRESSES[A])]
    bench.forget_effects()
    bench.wait(10.0)
    assert bench.sent(JoinRequest) == []


def test_join_hint_at_our_own_other_address_is_dropped() -> None:
    bench = Bench()
    bench.give(JoinHint((Address("127.0.0.1", 7411),)))
    (request,) = bench.sent(JoinRequest)
    bench.hear(ME, request, source=Address("127.0.0.1", 7411))
    bench.wait(100.0)
    assert len(bench.sent(JoinRequest)) == 1
    assert bench.sent(Ping) == []


def test_join_request_is_answered_and_the_joiner_taken_in() -> None:
    bench = Bench(A)
    bench.forget_effects()
    bench.hear(B, JoinRequest(5, OTHER_BOOT, an_alive(B)))
    (reply,) = bench.sent(JoinReply, to=B)
    assert (reply.sequence, reply.record.node, reply.digest.count) == (5, ME, 3)
    assert bench.view(B).state is MemberState.ALIVE


def test_join_request_for_somebody_else_is_ignored() -> None:
    bench = Bench(A)
    bench.hear(B, JoinRequest(5, OTHER_BOOT, an_alive(C)))
    assert len(bench.swim.members()) == 2


def test_restarted_member_is_told_what_to_supersede() -> None:
    bench = Bench(A)
    bench.hear(A, Stopped(A, 0))
    bench.forget_effects()
    bench.hear(A, JoinRequest(5, OTHER_BOOT, an_alive(A, 0)))
    assert Stopped(A, 0) in bench.sent(Stopped, to=A)
    bench.hear(A, an_alive(A, 1))
    assert bench.emitted()[-1] == "recovered"
    assert bench.view(A).state is MemberState.ALIVE


def test_joiner_supersedes_what_it_is_told_of_its_former_life() -> None:
    bench = Bench()
    bench.hear(A, Stopped(ME, 6))
    assert bench.me.incarnation == 7
    assert [alive.incarnation for alive in bench.sent(Alive, to=A)] == [7]
    assert bench.me.state is MemberState.ALIVE


def test_equal_digests_open_no_stream_and_different_ones_do() -> None:
    bench = Bench(A)
    bench.forget_effects()
    bench.wait(1.5)
    (digest,) = bench.sent(Digest, to=A)
    bench.forget_effects()
    bench.hear(A, digest)
    assert bench.sent(DigestDiffers) == []
    bench.hear(A, Digest(2, 1))
    assert bench.sent(DigestDiffers, to=A) == [DigestDiffers()]
    bench.hear(A, DigestDiffers())
    assert bench.of(StartSync) == [StartSync(A, ADDRESSES[A])]
    bench.hear(A, DigestDiffers())
    assert len(bench.of(StartSync)) == 1, "an answer to no question"


def test_sync_does_not_resurrect_a_failed_member() -> None:
    bench = Bench(A, B)
    bench.hear(B, Suspect(A, 0, B), Suspect(A, 0, C))
    bench.wait(5.0)
    assert bench.view(A).state is MemberState.FAILED
    bench.give(SyncReceived(B, SyncTable((a_record(A, 0, MemberState.ALIVE),))))
    assert bench.view(A).state is MemberState.FAILED


def test_sync_makes_a_suspect_of_whom_others_take_for_failed() -> None:
    bench = Bench(A, B)
    row = a_record(A, 0, MemberState.FAILED, by=C)
    bench.give(SyncReceived(B, SyncTable((row,))))
    assert bench.view(A).suspected_by == (Accusation(C, SILENT),)


def test_sync_counts_hearsay_of_one_accusation_once() -> None:
    bench = Bench(A, B, C)
    row = a_record(A, 0, MemberState.SUSPECT, by=C)
    for peer in (B, C):
        bench.give(SyncReceived(peer, SyncTable((row,))))
    assert [accusation.by for accusation in bench.view(A).suspected_by] == [C]


def test_sync_tells_of_the_failed_with_their_age() -> None:
    bench = Bench(B)
    row = a_record(A, 3, MemberState.FAILED, by=C, age_s=500)
    bench.give(SyncReceived(B, SyncTable((row,))))
    assert bench.view(A).since == bench.now - 500
    assert bench.emitted() == ["announced"]


def test_own_record_in_a_pushed_table_is_refuted() -> None:
    bench = Bench(B)
    bench.give(SyncReceived(B, SyncTable((a_record(ME, 8, MemberState.FAILED, by=C),))))
    assert bench.me.incarnation == 9


def test_join_hints_are_bounded_and_the_oldest_goes() -> None:
    bench = Bench()
    addresses = tuple(Address(f"10.1.{n // 200}.{n % 200}", 7411) for n in range(HINTS_MAX + 1))
    bench.give(JoinHint(addresses))
    assert bench.swim.statistics().joins_pending == HINTS_MAX
    assert addresses[0] not in [packet.to for packet in bench.of(SendPacket)]
    bench.give(JoinHint(addresses[1:]))
    assert bench.swim.statistics().joins_pending == HINTS_MAX


def test_join_hint_of_a_present_member_is_dropped() -> None:
    bench = Bench(A)
    bench.give(JoinHint((ADDRESSES[A], ADDRESSES[B])))
    bench.hear(B, an_alive(B))
    bench.wait(5.0)
    assert bench.swim.statistics().joins_pending == 0


def test_different_digests_are_answered_only_so_often() -> None:
    bench = Bench(A)
    bench.forget_effects()
    for _ in range(2 * DIFFERENCES_PER_S_MAX):
        bench.hear(A, Digest(2, 1))
    assert len(bench.sent(DigestDiffers)) == DIFFERENCES_PER_S_MAX
    bench.now += 1.1
    bench.hear(A, Digest(2, 1))
    assert len(bench.sent(DigestDiffers)) == DIFFERENCES_PER_S_MAX + 1


def test_table_that_is_full_takes_nobody_more() -> None:
    bench = Bench()
    rows = tuple(
        MemberRecord(NodeId(f"{n:032x}"), f"n{n}", ADDRESSES[A], 0, MemberState.STOPPED)
        for n in range(1, MEMBERS_MAX + 2)
    )
    bench.give(SyncReceived(A, SyncTable(rows)))
    assert len(bench.swim.members()) == MEMBERS_MAX + 1
    assert bench.swim.statistics().ignored["table full"] == 1
    assert len(bench.swim.table_for_sync().members) == MEMBERS_MAX + 1


# --- going away --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "said"), [(StopRequested(), Stopped(ME, 0)), (LeaveRequested(), Left(ME, 0))]
)
def test_farewell_is_told_and_then_nothing_more(request_: Any, said: Any) -> None:
    bench = Bench(A, B, C)
    bench.forget_effects()
    bench.give(request_)
    departed = [bench.swim.has_departed]
    bench.wait(2.0)
    for node in (A, B, C):
        assert said in bench.sent(type(said), to=node)
    departed.append(bench.swim.has_departed)
    assert departed == [False, True]
    assert bench.swim.deadline is None
    bench.forget_effects()
    bench.hear(A, Ping(1, ME))
    assert bench.everything == []


def test_farewell_of_a_lone_node_takes_no_time() -> None:
    bench = Bench()
    bench.give(StopRequested())
    assert bench.swim.has_departed


def test_farewell_is_repeated_above_a_claim_about_our_former_life() -> None:
    bench = Bench(A, B)
    bench.give(StopRequested())
    bench.hear(A, Failed(ME, 4, A))
    assert (bench.me.state, bench.me.incarnation) == (MemberState.STOPPED, 5)
    assert Stopped(ME, 5) in bench.sent(Stopped, to=A)


def test_stopping_node_answers_and_asks_nothing() -> None:
    bench = Bench(A, B)
    bench.give(StopRequested())
    bench.forget_effects()
    bench.hear(A, Ping(9, ME))
    bench.wait(0.9)
    assert bench.sent(Ack, to=A) == [Ack(9)]
    assert bench.sent(Ping) == []


def test_stopped_member_is_kept_and_not_probed() -> None:
    bench = Bench(A, forget_failed_s=100.0, forget_left_s=100.0)
    bench.hear(A, Stopped(A, 0))
    bench.forget_effects()
    bench.wait(1000.0)
    assert bench.view(A).state is MemberState.STOPPED
    assert bench.sent(Ping) == []
    assert len(bench.sent(Digest, to=A)) > 50, "it is tried again now and then"


def test_failed_and_left_members_are_forgotten_and_stay_so() -> None:
    bench = Bench(A, B, forget_failed_s=100.0, forget_left_s=100.0)
    bench.hear(A, an_alive(A, 4), Left(A, 4))
    bench.wait(200.0)
    assert [view.id for view in bench.swim.members()] == [ME]
    old = (a_record(A, 4, MemberState.ALIVE), a_record(A, 4, MemberState.LEFT))
    for row in old:
        bench.give(SyncReceived(C, SyncTable((row,))))
        bench.hear(C, an_alive(A, 3))
    assert A not in [view.id for view in bench.swim.members()]


def test_forgotten_member_comes_back_by_its_own_word() -> None:
    bench = Bench(A, forget_left_s=100.0)
    bench.hear(A, an_alive(A, 4), Left(A, 4))
    bench.wait(200.0)
    bench.forget_effects()
    bench.hear(A, an_alive(A, 0))
    assert bench.sent(Left, to=A) == [Left(A, 4, ME)]
    bench.hear(A, an_alive(A, 5))
    assert bench.view(A).state is MemberState.ALIVE


def test_failure_that_is_due_to_be_forgotten_is_not_taken_up() -> None:
    bench = Bench(B, forget_failed_s=100.0)
    row = a_record(A, 0, MemberState.FAILED, age_s=101)
    bench.give(SyncReceived(B, SyncTable((row,))))
    assert A not in [view.id for view in bench.swim.members()]


def test_operator_may_forget_who_is_gone_and_nobody_else() -> None:
    bench = Bench(A, B)
    bench.give(ForgetRequested(A))
    assert bench.notified() == ["forget.refused"]
    bench.hear(A, Stopped(A, 0))
    bench.give(ForgetRequested(A))
    assert bench.view(A).state is MemberState.LEFT
    assert bench.of(Emit)[-1].data["by"] == ME
    bench.wait(0.5)
    assert Left(A, 0, ME) in bench.sent(Left, to=B)


# --- two of one kind ---------------------------------------------------------------------------

ELSEWHERE = Address("10.0.0.200", 7411)


def a_bench_that_doubts_itself(*, uptime: float) -> tuple[Bench, Ping]:
    """Somebody else is said to live under our id; the machine has asked him."""
    bench = Bench(A)
    bench.give(DeadlineReached(), after=uptime)
    bench.forget_effects()
    bench.hear(A, an_alive(ME, 3, name="me", address=ELSEWHERE, meta=NodeMeta()))
    packets = [effect for effect in bench.of(SendPacket) if effect.to == ELSEWHERE]
    pings = [message for message in packets[0].messages if isinstance(message, Ping)]
    assert packets[0].receiver == ME
    return bench, pings[0]


def test_younger_copy_of_an_identity_yields() -> None:
    bench, ping = a_bench_that_doubts_itself(uptime=10.0)
    bench.hear(ME, Ack(ping.sequence, OTHER_BOOT, 20_000), source=ELSEWHERE)
    assert bench.swim.identity_conflict
    (notice,) = [n for n in bench.of(Notify) if n.event == "membership.identity.duplicate"]
    assert notice.severity is Severity.ERROR
    assert notice.fields["address"] == str(ADDRESSES[ME])
    assert notice.fields["other_address"] == str(ELSEWHERE)
    incarnation = bench.me.incarnation
    bench.hear(A, an_alive(ME, 9, name="me", address=ELSEWHERE))
    assert bench.me.incarnation == incarnation, "the two must not outbid each other"
    bench.forget_effects()
    bench.give(StopRequested())
    assert bench.swim.has_departed
    assert bench.sent(Stopped) == [], "a good-bye would be taken for the other's"


def test_older_copy_of_an_identity_warns_and_stays() -> None:
    bench, ping = a_bench_that_doubts_itself(uptime=10.0)
    bench.hear(ME, Ack(ping.sequence, OTHER_BOOT, 5_000), source=ELSEWHERE)
    assert not bench.swim.identity_conflict
    (notice,) = [n for n in bench.of(Notify) if n.event == "membership.identity.duplicate"]
    assert notice.severity is Severity.WARNING


def test_record_of_our_own_past_is_refuted_and_proves_nothing() -> None:
    bench, ping = a_bench_that_doubts_itself(uptime=10.0)
    bench.wait(100.0)
    bench.hear(ME, Ack(ping.sequence, BOOT, 110_000), source=ELSEWHERE)
    bench.hear(ME, Ack(ping.sequence + 1, OTHER_BOOT, 999_000), source=ELSEWHERE)
    assert bench.me.incarnation == 4
    assert not bench.swim.identity_conflict
    assert "identity.duplicate" not in bench.notified()


def test_ping_under_our_own_id_is_answered_with_our_boot_and_asked_back() -> None:
    bench = Bench(A)
    bench.forget_effects()
    bench.give(DeadlineReached(), after=2.0)
    bench.hear(ME, Ping(8, ME), source=ELSEWHERE)
    assert bench.sent(Ack, to=ME) == [Ack(8, BOOT, 2_000)]
    assert len(bench.sent(Ping, to=ME)) == 1


def test_same_name_is_reported_once_and_both_stay() -> None:
    bench = Bench(A)
    bench.hear(B, an_alive(B, name="node-a"))
    bench.hear(B, an_alive(B, 1, name="node-a"))
    bench.hear(A, an_alive(A, 1))
    assert bench.notified() == ["name.duplicate"]
    assert bench.of(Notify)[0].fields["nodes"] == [A, B]
    assert len(bench.swim.members()) == 3


def test_name_of_a_member_that_left_may_be_taken_again() -> None:
    bench = Bench(A)
    bench.hear(A, Left(A, 0))
    bench.hear(B, an_alive(B, name="node-a"))
    assert bench.notified() == []


def test_our_own_name_elsewhere_is_reported() -> None:
    bench = Bench()
    bench.hear(B, an_alive(B, name="me"))
    assert bench.notified() == ["name.duplicate"]


def test_who_is_gone_is_not_remembered_as_one_that_only_streams_reach() -> None:
    bench = Bench(A, B)
    for _ in range(4):
        ping = next_ping(bench)
        bench.wait(0.55)
        bench.give(StreamProbeSucceeded(ping.sequence))
    kept = {what: size for what, size, _ in bench.swim.sizes()}
    assert kept["members heard by stream only"] == 2
    bench.hear(A, Left(A, 0, A))
    for _ in range(2):
        ping = next_ping(bench)
        bench.wait(0.55)
        bench.give(StreamProbeSucceeded(ping.sequence))
    kept = {what: size for what, size, _ in bench.swim.sizes()}
    assert kept["members heard by stream only"] == 1
