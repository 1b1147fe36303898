"""A scenario file: which faults befall which cluster, and when.

    name = "rolling restart"
    nodes = 3                  # n1, n2, n3
    witness = true             # n3 only votes; the others found the cluster
    for_s = 120                # how long faults may happen and clients ask
    recover_s = 30             # within which all must be well again afterwards
    clock_ppm = 200            # monotonic clocks run fast or slow by up to so much

    [workload]                 # see `workload.Workload`
    rate_per_s = 20

    [link]                     # every way between two nodes: see `network.Link`
    loss = 0.01

    [expect]                   # beyond what always holds: see `checkers.expectations`
    leaders_max = 1

    [[fault]]                  # see `faults`; `do` names the kind
    at_s = [10, 40, 70]        # seconds after the founding; one or several
    do = "stop"
    node = "leader"
    for_s = 5

Read strictly: what is not known is an error with its place. The seed is not in the file: it decides
what chance decides (delays, losses, whom "any" hits, what clients ask), and any will do.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec

from muster.sim.checkers.expectations import Expected
from muster.sim.cluster import SIZE_MAX
from muster.sim.faults import KINDS, AnyFault, check_fault, describe
from muster.sim.network import Link
from muster.sim.simulation import Plan, Timed
from muster.sim.workload import Workload
from muster_protocol.errors import UsageError

Instant = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
FILE_BYTES_MAX = 1024 * 1024


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file as it stands; `fault` tables are read one by one."""

    name: Annotated[str, msgspec.Meta(max_length=200)] = ""
    nodes: Annotated[int, msgspec.Meta(ge=1, le=SIZE_MAX)] = 3
    witness: bool = False
    for_s: Annotated[float, msgspec.Meta(gt=0, le=86_400 * 30)] = 60.0
    recover_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 60.0
    workload: Workload = Workload()
    expect: Expected = Expected()
    clock_ppm: Annotated[float, msgspec.Meta(ge=0, le=10_000)] = 0.0
    link: dict[str, float | str] = {}
    fault: list[dict[str, Any]] = []


def load_plan(path: str, *, seed: str) -> Plan:
    """The plan of a scenario file under a seed. Errors: UsageError with file and place."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    if len(data) > FILE_BYTES_MAX:
        raise UsageError(f"{path}: larger than {FILE_BYTES_MAX} bytes")
    try:
        tables = tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start} is no UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: {error}") from error
    scenario: Scenario = _converted(tables, Scenario, path)
    link = _link(scenario.link, path)
    faults = [
        timed
        for number, table in enumerate(scenario.fault, start=1)
        for timed in _timed(table, f"{path}: fault {number}")
    ]
    return Plan(
        seed=seed,
        name=scenario.name,
        nodes=scenario.nodes,
        witness=scenario.witness,
        for_s=scenario.for_s,
        recover_s=scenario.recover_s,
        link=link,
        clock_ppm=scenario.clock_ppm,
        workload=scenario.workload,
        expect=scenario.expect,
        faults=tuple(sorted(faults, key=lambda timed: timed.at_s)),
    )


def check_plan(plan: Plan, path: str) -> None:
    """Errors: UsageError for a fault that could never happen in this run."""
    if plan.witness and plan.nodes == 1:
        raise UsageError(f"{path}: a witness alone founds no cluster")
    for timed in plan.faults:
        why = check_fault(timed.fault, plan.nodes)
        if timed.at_s >= plan.for_s:
            why = f"the run has {plan.for_s:g} s"
        if why:
            raise UsageError(f"{path}: {describe(timed.fault)} at {timed.at_s:g} s: {why}")


def _timed(table: dict[str, Any], where: str) -> list[Timed]:
    rest = dict(table)
    if "at_s" not in rest:
        raise UsageError(f"{where}: at_s is missing: when does it begin?")
    instants = rest.pop("at_s")
    kind = KINDS.get(str(rest.get("do")))
    if kind is None:
        raise UsageError(f"{where}: do = {rest.get('do')!r}: one of {', '.join(KINDS)}")
    del rest["do"]
    fault: AnyFault = _converted(rest, kind, where, tag="do")
    several = instants if isinstance(instants, list) else [instants]
    if not several:
        raise UsageError(f"{where}: at_s is empty: when does it begin?")
    return [
        Timed(at_s=_converted(instant, Instant, f"{where}: at_s"), fault=fault)
        for instant in several
    ]


def _link(values: dict[str, float | str], path: str) -> Link:
    known = [field.name for field in dataclasses.fields(Link)]
    _no_strangers(values, known, f"{path}: link")
    link: Link = _converted(values, Link, f"{path}: link")
    return link


def _no_strangers(values: dict[str, Any], known: list[str], where: str) -> None:
    strange = [name for name in values if name not in known]
    if strange:
        raise UsageError(f"{where}: there is no {strange[0]!r}; one of {', '.join(known)}")


def _converted(value: Any, kind: Any, where: str, *, tag: str = "") -> Any:
    if isinstance(value, dict) and issubclass(kind, msgspec.Struct):
        _no_strangers(value, list(kind.__struct_fields__), where)
        for table, struct in (("workload", Workload), ("expect", Expected)):
            if isinstance(value.get(table), dict):
                _no_strangers(value[table], list(struct.__struct_fields__), f"{where}: {table}")
        if tag:
            value = {**value, tag: kind.__struct_config__.tag}
    _only_finite(value, where)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {error}") from error


def _only_finite(value: Any, where: str) -> None:
    """TOML knows nan and inf, which pass every bound."""
    if isinstance(value, dict):
        for name, each in value.items():
            _only_finite(each, f"{where}: {name}")
    elif isinstance(value, list):
        for each in value:
            _only_finite(each, where)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{where}: {value} is no number to simulate with")
