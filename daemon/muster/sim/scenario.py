"""A scenario file: which faults befall which cluster, and when.

    name = "rolling restart"
    nodes = 3                  # n1, n2, n3
    for_s = 120                # how long faults may happen and clients ask
    recover_s = 30             # within which all must be well again afterwards
    clock_ppm = 200            # monotonic clocks run fast or slow by up to so much

    [workload]                 # see `workload.Workload`
    rate_per_s = 20

    [link]                     # every way between two nodes: see `network.Link`
    loss = 0.01

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
import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec

from muster.sim.cluster import SIZE_MAX
from muster.sim.faults import AnyFault
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
    for_s: Annotated[float, msgspec.Meta(gt=0, le=86_400 * 30)] = 60.0
    recover_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 60.0
    workload: Workload = Workload()
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
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error
    scenario = _converted(tables, Scenario, f"{path}")
    link = _link(scenario.link, path)
    faults = [
        timed
        for number, table in enumerate(scenario.fault, start=1)
        for timed in _timed(table, f"{path}: fault {number}")
    ]
    return Plan(
        seed=seed,
        name=scenario.name or Path(path).stem,
        nodes=scenario.nodes,
        for_s=scenario.for_s,
        recover_s=scenario.recover_s,
        link=link,
        clock_ppm=scenario.clock_ppm,
        workload=scenario.workload,
        faults=tuple(sorted(faults, key=lambda timed: timed.at_s)),
    )


def _timed(table: dict[str, Any], where: str) -> list[Timed]:
    rest = dict(table)
    if "at_s" not in rest:
        raise UsageError(f"{where}: at_s is missing: when does it begin?")
    instants = rest.pop("at_s")
    fault = _converted(rest, AnyFault, where)
    several = instants if isinstance(instants, list) else [instants]
    return [
        Timed(at_s=_converted(instant, Instant, f"{where}: at_s"), fault=fault)
        for instant in several
    ]


def _link(values: dict[str, float | str], path: str) -> Link:
    known = [field.name for field in dataclasses.fields(Link)]
    unknown = [name for name in values if name not in known]
    if unknown:
        raise UsageError(f"{path}: link: there is no {unknown[0]!r}; one of {', '.join(known)}")
    link: Link = _converted(values, Link, f"{path}: link")
    return link


def _converted(value: Any, kind: Any, where: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {error}") from error
