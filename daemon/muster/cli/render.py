"""Every word that people read: from results to lines and tables.

The only place with text for people. A view takes a result and gives blocks (`terminal.Block`); it
does not write, and need not clean what came from other machines: `Terminal` does. Verdicts stand
first, ages are said as ages, and what is stale says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from muster.cli.terminal import Block, Styled, Table

if TYPE_CHECKING:
    from muster_protocol.session.methods import (
        AgentsResult,
        ConfigItem,
        ConfigResult,
        DoneResult,
        InfoResult,
        JoinResult,
        KeyRow,
        KvListResult,
        KvResult,
        MemberRow,
        MembersResult,
        PartitionResult,
        RaftResult,
        SignalItem,
        StatusResult,
    )

ID_SHOWN = 8
"""Characters of an id: 32 bits tell the members of a cluster apart."""

VALUE_SHOWN = 40
"""Characters of a value in a listing: what still fits a line with its key."""

_VERDICTS = {"HEALTHY": "good", "DEGRADED": "warn", "FOUNDING": "warn", "NOT QUORATE": "bad"}
_STATES = {
    "alive": "good",
    "suspect": "warn",
    "stopped": "dim",
    "left": "dim",
    "failed": "bad",
    "running": "good",
    "backing-off": "warn",
    "parked": "bad",
}


# --- small words --------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """`1.2 s`, `45 s`, `12 min`, `5.0 h`, `3.1 d`."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    for limit_s, unit_s, form in ((120, 1, "{:.0f} s"), (7200, 60, "{:.0f} min")):
        if seconds < limit_s:
            return form.format(seconds / unit_s)
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86_400:.1f} d"


def age(seconds: float | None) -> str:
    """`1.2 s ago`, or `never`."""
    return "never" if seconds is None else f"{duration(seconds)} ago"


def size(count: int) -> str:
    """Bytes: `512 B`, `1.5 KiB`, `12.0 MiB`."""
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:.1f} KiB" if count < 1024 * 1024 else f"{count / 1024 / 1024:.1f} MiB"


def short(identity: str) -> str:
    """An id as it is shown to people; every command takes this much of it."""
    return identity[:ID_SHOWN] or "none"


def stale(age_s: float | None) -> str:
    """The mark of an answer that did not go through the quorum."""
    return Styled(f"STALE: as of {age(age_s)}", "warn")


def _state(word: str) -> str:
    return Styled(word, _STATES.get(word, ""))


def _pairs(pairs: Sequence[tuple[str, str]]) -> list[Block]:
    width = max(len(name) for name, _ in pairs)
    return [f"{name.ljust(width)}  {value}" for name, value in pairs]


# --- the cluster --------------------------------------------------------------------------------


def status(result: StatusResult) -> list[Block]:
    """The verdict, its reason and the next command; then the numbers behind it."""
    style = _VERDICTS.get(result.verdict, "warn")
    blocks: list[Block] = [Styled(f"{result.verdict}: {result.reason}", style)]
    blocks += [
        f"  - {problem.what}" + (f"  ->  {problem.next}" if problem.next else "")
        for problem in result.problems
    ]
    seat = "no seat" if result.role == "member" else result.role
    leader = result.leader_name or short(result.leader)
    return [
        *blocks,
        "",
        *_pairs(
            [
                ("node", f"{result.name} ({short(result.node)}) at {result.address}, {seat}"),
                ("up", f"{duration(result.uptime_s)}, muster {result.build}"),
                ("cluster", f"{short(result.cluster)}, label {result.label}"),
                ("leader", f"{leader}, term {result.term}" if result.term else leader),
                ("members", f"{result.members_alive} of {result.members_total} alive"),
                ("voters", f"{result.voters_reachable} of {result.voters_total} in reach"),
                ("log", f"committed {result.commit_index}, applied {result.applied_index}"),
                ("agents", f"{result.agents_running} of {result.agents_total} running"),
                ("keys", str(result.keys)),
            ]
        ),
    ]


def members(result: MembersResult) -> list[Block]:
    """One line per member; `*` is the node that answers."""
    if not result.members:
        return ["no members"]
    whys = any(row.why for row in result.members)
    headings = ["", "NAME", "ID", "ADDRESS", "STATE", "FOR", "ROLE", "SEEN", "BUILD"]
    rows = [
        [
            "*" if row.is_me else "",
            row.name,
            short(row.id),
            row.address,
            _state(row.state),
            duration(row.state_age_s),
            row.role,
            "-" if row.is_me else age(row.seen_age_s),
            row.build,
            *([row.why] if whys else []),
        ]
        for row in result.members
    ]
    return [Table([*headings, *(["WHY"] if whys else [])], rows)]


def member_ids(result: MembersResult) -> list[Block]:
    """For scripts and `xargs`."""
    return [row.id for row in result.members]


def info(result: InfoResult) -> list[Block]:
    """One member, and what it counts."""
    return [*_member(result.member), *_statistics(result.statistics)]


def _member(row: MemberRow) -> list[Block]:
    pairs = [
        ("name", row.name + (" (this node)" if row.is_me else "")),
        ("id", row.id),
        ("address", row.address),
        ("state", f"{row.state} for {duration(row.state_age_s)}"),
        ("seen", age(row.seen_age_s)),
        ("role", row.role or "unknown"),
        ("incarnation", str(row.incarnation)),
        ("build", f"{row.build}, protocol {row.protocol}"),
    ]
    if row.why:
        pairs.append(("why", row.why))
    pairs += [(f"tag {name}", value) for name, value in sorted(row.tags.items())]
    return _pairs(pairs)


def _statistics(statistics: Mapping[str, Any]) -> list[Block]:
    lines = list(_flat("", statistics))
    return ["", *_pairs(lines)] if lines else []


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Nested maps as `outer.inner` names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", f"{value:.3g}" if isinstance(value, float) else str(value)


def join(result: JoinResult) -> list[Block]:
    """Joining goes on in the background."""
    return [f"asking {', '.join(result.hinted)}; see who answers with: muster members"]


def done(result: DoneResult) -> list[Block]:
    """What took effect."""
    return [result.message]


def partition(result: PartitionResult) -> list[Block]:
    """Which side this is, and who is on the other."""
    may = "may write" if result.may_write else "may not write"
    style = "good" if result.standing == "quorate" else "warn" if result.may_write else "bad"
    head = Styled(f"{result.standing.upper()}: {result.reason}; this side {may}", style)
    return [
        head,
        "",
        *_pairs(
            [
                ("since", age(result.since_age_s)),
                ("needed", f"{result.bar} voters"),
                ("in reach", ", ".join(result.reachable) or "none"),
                ("out of reach", ", ".join(result.unreachable) or "none"),
            ]
        ),
    ]


def raft(result: RaftResult) -> list[Block]:
    """The consensus as this node has it; lags are the leader's to know."""
    leader = result.leader_name or short(result.leader)
    blocks: list[Block] = []
    if result.voting_suspended:
        blocks.append(Styled(f"does not vote: {result.voting_suspended}", "bad"))
    if result.states_diverged:
        who = ", ".join(result.states_diverged)
        blocks.append(Styled(f"ALARM: another state than the others have: {who}", "bad"))
    blocks += _pairs(
        [
            ("role", "no seat" if result.role == "member" else result.role),
            ("leader", f"{leader}, term {result.term}" if result.term else leader),
            *(_log(result) if result.last_index else []),
            ("voters", _voters(result)),
            *_witness(result),
            *(_elections(result) if result.last_index else []),
        ]
    )
    rows = [
        [
            "*" if row.is_me else "",
            row.name,
            short(row.id),
            row.role,
            "yes" if row.connected or row.is_me else Styled("no", "bad"),
            _number(row.acknowledged_index),
            _number(row.lag),
            "-" if row.answer_age_s is None else age(row.answer_age_s),
        ]
        for row in result.voters
    ]
    headings = ["", "SEAT", "ID", "ROLE", "CONNECTED", "ACKNOWLEDGED", "LAG", "ANSWERED"]
    return [*blocks, "", Table(headings, rows, right=("ACKNOWLEDGED", "LAG"))] if rows else blocks


def _voters(result: RaftResult) -> str:
    voting = sum(row.role != "learner" for row in result.voters)
    text = f"{voting} of {result.voters_wanted or voting} wanted"
    if result.barred:
        text += f"; no seat for {', '.join(result.barred)}"
    return text + ("; a change is under way" if result.is_changing else "")


def _log(result: RaftResult) -> list[tuple[str, str]]:
    return [
        ("log", f"{result.first_index} to {result.last_index}, {size(result.journal_bytes)}"),
        ("durable", str(result.durable_index)),
        ("committed", f"{result.commit_index}, applied {result.applied_index}"),
        ("snapshot", f"at {result.snapshot_index}"),
        ("state", f"revision {result.revision}, {result.keys} keys"),
        ("digest", f"{result.state_fingerprint[:16]} (equal wherever applied is equal)"),
        ("agreement", f"states compared, equal up to index {result.states_agree_up_to}"),
    ]


def _elections(result: RaftResult) -> list[tuple[str, str]]:
    dropped = ", ".join(f"{cause} {n}" for cause, n in result.dropped.items() if n)
    return [
        ("elections", f"{result.elections_won} won of {result.campaigns} campaigns"),
        ("dropped", dropped or "nothing"),
    ]


def _witness(result: RaftResult) -> list[tuple[str, str]]:
    if result.mark_index:
        return [("promised", f"no vote for a log that ends before entry {result.mark_index}")]
    if result.witness_called:
        return [("witness", "called: what is written now is on fewer disks than usual")]
    return []


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def agents(result: AgentsResult) -> list[Block]:
    """One line per agent, and what last went wrong."""
    errors = any(row.last_error for row in result.agents)
    rows = [
        [
            row.name,
            _state(row.state),
            duration(row.uptime_s),
            str(row.restarts),
            str(row.handled),
            str(row.mailbox),
            Styled(str(row.dropped), "warn" if row.dropped else ""),
            *([row.last_error] if errors else []),
        ]
        for row in result.agents
    ]
    counts = ("RESTARTS", "HANDLED", "WAITING", "DROPPED")
    headings = ["AGENT", "STATE", "UP", *counts, *(["LAST ERROR"] if errors else [])]
    return [Table(headings, rows, right=counts)] if rows else ["no agents"]


def signal(item: SignalItem) -> list[Block]:
    """One line per signal."""
    import time

    when = time.strftime("%H:%M:%S", time.localtime(item.wall))
    data = " ".join(f"{name}={value}" for name, value in item.data.items())
    return [f"{when} {item.priority:6} {item.type}  {item.subject}  {data}".rstrip()]


# --- the store ----------------------------------------------------------------------------------


def kv_change(result: KvResult) -> list[Block]:
    """What a change did."""
    again = " (it was already made: this is its first answer)" if result.repeated else ""
    key = result.entry.key if result.entry else "key"
    return [f"{result.outcome}: {key} at revision {result.revision}{again}"]


def kv_value_on_terminal(entry: KeyRow) -> list[Block]:
    """A value for eyes; `kv get` writes the bytes themselves everywhere else."""
    try:
        text = entry.value.decode()
    except UnicodeDecodeError:
        return [f"({size(len(entry.value))} that are not text: redirect to a file, or use --json)"]
    return [line.expandtabs(8) for line in text.split("\n")] if text else [""]


def kv_list(result: KvListResult) -> list[Block]:
    """Keys in order, with the beginning of each value."""
    head: list[Block] = [stale(result.age_s)] if result.outcome == "stale" else []
    if not result.entries:
        return [*head, "no keys"]
    rows = [
        [row.key, str(row.revision), size(len(row.value)), _preview(row.value)]
        for row in result.entries
    ]
    table = Table(["KEY", "REVISION", "SIZE", "VALUE"], rows, right=("REVISION", "SIZE"))
    more: list[Block] = ["... and more: --limit was reached"] if result.more else []
    return [*head, table, *more]


def kv_keys(result: KvListResult) -> list[Block]:
    """The keys alone."""
    return [row.key for row in result.entries]


def _preview(value: bytes) -> str:
    try:
        text = value[: 4 * VALUE_SHOWN].decode(errors="strict" if len(value) <= 160 else "ignore")
    except UnicodeDecodeError:
        return "(binary)"
    return text if len(text) <= VALUE_SHOWN else f"{text[: VALUE_SHOWN - 1]}…"


# --- offline ------------------------------------------------------------------------------------


def config(result: ConfigResult) -> list[Block]:
    """Settings and where each comes from."""
    rows = [[item.key, _setting(item), item.origin] for item in result.items]
    table: list[Block] = [Table(["KEY", "VALUE", "ORIGIN"], rows)] if rows else []
    return [f"file: {result.path or 'none'}", *(table or ["every setting is at its default"])]


def _setting(item: ConfigItem) -> str:
    value = item.value
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "(none)"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value != "" else "(none)"


def config_check(result: Any) -> list[Block]:
    """A file without faults; those with are errors, and go where errors go."""
    return [f"{result.path}: valid"]


def history_verdict(result: Any) -> list[Block]:
    """The verdict on one history; if it is wrong, the operations that show it, and why."""
    styles = {"linearizable": "good", "not linearizable": "bad"}
    head = f"{result.file}: {result.verdict} ({result.checked} operations)"
    lines: list[Block] = [Styled(head, styles.get(result.verdict, "warn"))]
    if result.operations:
        rows = [
            [
                each.client,
                each.operation,
                each.result,
                _instant(each.called),
                _instant(each.returned),
            ]
            for each in result.operations
        ]
        headings = ["CLIENT", "OPERATION", "RESULT", "CALL", "RETURN"]
        lines.append(Table(headings, rows, right=["CALL", "RETURN"]))
    if not result.is_smallest:
        lines.append("perhaps fewer operations show it too")
    return [*lines, result.why] if result.why else lines


def _instant(value: float | None) -> str:
    """A moment of a history: a time, or the number of a line."""
    return "never" if value is None else f"{value:.6f}".rstrip("0").rstrip(".")


def keys(result: Any) -> list[Block]:
    """Key ids; the secrets themselves are never shown."""
    rows = [[key.id, "primary" if key.primary else ""] for key in result.keys]
    return [f"{result.file}, label {result.label}", Table(["KEY", "USE"], rows)]


def version(result: Any) -> list[Block]:
    """This program, and the daemon if one answers."""
    daemon = result.daemon
    lines: list[Block] = [f"muster {result.build}, control protocol {result.control_protocol}"]
    if daemon is None:
        return [*lines, "daemon: none answers"]
    protocols = f"control {daemon.control_protocol}, wire {daemon.wire_protocol}"
    return [*lines, f"daemon {daemon.build}, protocols: {protocols}"]


# --- the simulator ------------------------------------------------------------------------------


def simulation_plan(plan: Any, describe: Callable[[Any], str]) -> list[Block]:
    """What a run will be, before it begins. `describe` tells a fault in one line."""
    load, link = plan.workload, plan.link
    delay = f"delay {link.delay_s * 1000:g} ms + {link.jitter_s * 1000:g} ms"
    clocks = f", clocks differ by up to {plan.clock_ppm:g} ppm" if plan.clock_ppm else ""
    return [
        Styled(f"{plan.name or 'simulation'}, seed {plan.seed}", "bold"),
        f"{plan.nodes} nodes, {plan.for_s:g} s of faults, then {plan.recover_s:g} s to recover",
        f"{load.clients} clients, {load.rate_per_s:g} requests/s, {load.keys} keys",
        f"{delay}, loss {link.loss:g}, duplicates {link.duplicate:g}{clocks}",
        *(f"  at {timed.at_s:8.3f} s  {describe(timed.fault)}" for timed in plan.faults),
    ]


def moment(item: Any) -> list[Block]:
    """One line of a run's timeline."""
    return [f"{item.at_s:10.3f}  {item.where:<8} {item.what}"]


def simulation(report: Any) -> list[Block]:
    """What became of a run."""
    unknown = report.operations_unknown
    asked = report.operations_ok + report.operations_failed + unknown
    blocks: list[Block] = [
        _verdict(report),
        f"{asked} requests and {report.attempts_repeated} repeated attempts",
        f"{report.operations_ok} answered, {report.operations_failed} refused, {unknown} unknown",
        f"{report.leaders} leaders, {report.entries_committed} entries committed",
        f"{report.packets} packets, {report.packets_lost} of them lost",
    ]
    if report.recovered_after_s is not None:
        blocks.append(f"recovered {report.recovered_after_s:.1f} s after the last fault")
    blocks.append(f"events {report.events}, sha256 {report.events_sha256[:16]}")
    return blocks


def simulation_line(report: Any) -> list[Block]:
    """One of many runs."""
    return [f"seed {report.seed:>6}  {report.nodes} nodes  {_verdict(report)}"]


def _verdict(report: Any) -> Styled:
    if report.verdict == "ok":
        return Styled("ok: all that was checked holds", "good")
    if report.verdict == "undecided":
        told = "UNDECIDED: nothing is wrong, but the history is too hard to judge"
        return Styled(f"{told}: {report.what}; fewer clients or more keys make it easier", "bad")
    return Styled(f"{report.verdict.upper()}: {report.checker}: {report.what}", "bad")


def experiments(questions: Mapping[str, str]) -> list[Block]:
    """Which there are."""
    return _pairs(list(questions.items()))


def experiment(findings: Any) -> list[Block]:
    """What many runs say together."""
    rows = [["-" if cell is None else str(cell) for cell in row] for row in findings.rows]
    numbers = [
        heading
        for place, heading in enumerate(findings.columns)
        if not all(isinstance(row[place], str) for row in findings.rows)
    ]
    return [
        Styled(findings.question, "bold"),
        f"{findings.runs} runs: {findings.setup}",
        "",
        Table(findings.columns, rows, numbers),
    ]


_REPLAYED = {"differs": "bad", "lost": "warn", "not replayed": "dim"}


def replay_step(item: Any) -> list[Block]:
    """One record of a flight, with what this version decides indented below it."""
    event, *effects = item.shown or [item.outcome]
    style = _REPLAYED.get(item.outcome, "")
    blocks: list[Block] = [Styled(f"{item.at_s:12.3f}  {item.machine:<10}  {event}", style)]
    blocks += [f"{'':30}{effect}" for effect in effects]
    if item.outcome == "differs":
        now = "this is decided now" if effects else "nothing is decided now"
        blocks.append(Styled(f"{'':26}DIFFERS: {item.why}; {now}", "bad"))
    elif item.why and item.outcome in ("same", "lost"):
        blocks.append(Styled(f"{'':26}{item.why}", style))
    return blocks


def replay_verdict(item: Any) -> list[Block]:
    """What became of one machine's part of a flight record."""
    if not item.is_machine:
        return [
            f"{item.machine}: {_events(item.not_replayed)} went in; an agent cannot be replayed"
        ]
    return [Styled(f"{item.machine}: {'; '.join(_replayed(item))}", _replay_style(item))]


def _replayed(item: Any) -> Iterator[str]:
    compared = item.same + item.differing
    if item.differing:
        first = item.first_difference
        yield f"{_events(compared)}, {item.differing} decided differently"
        yield f"first differing decision at {first.at_s:.3f} ({first.event})"
    else:
        yield f"{_events(compared)}, all decisions as then" if compared else "no decision compared"
    if item.not_compared:
        yield f"{item.not_compared} without a decision to compare"
    if item.not_replayed:
        yield f"{_events(item.not_replayed)} cannot be replayed: {item.why_not_replayed}"


def _replay_style(item: Any) -> str:
    if item.differing:
        return "bad"
    return "warn" if item.not_replayed or not item.same else "good"


def _events(count: int) -> str:
    return f"{count:,} event{'' if count == 1 else 's'}"
