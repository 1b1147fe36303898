"""docs/scenarios.md tells of every fault and field that there is, and of no other."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import msgspec
import pytest

from muster.sim.checkers.expectations import Expected
from muster.sim.faults import KINDS, Fault
from muster.sim.links import Link
from muster.sim.workload import Workload

TEXT = (Path(__file__).parents[4] / "docs" / "scenarios.md").read_text()
ROWS = dict(re.findall(r"^\| `([a-z-]+)` \| (.*)$", TEXT, re.MULTILINE))
LINK = [field.name for field in dataclasses.fields(Link)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_is_told_with_all_its_fields_and_defaults(kind: str) -> None:
    told, _, _ = ROWS[kind].partition(" | ")
    known = {field.name: field for field in msgspec.structs.fields(KINDS[kind])}
    for name in Fault.__struct_fields__:
        del known[name]
    if "other fields of `[link]`" in told:
        assert set(LINK) <= known.keys()
        known = {name: field for name, field in known.items() if f"`{name}`" in told}
    assert re.findall(r"`([a-z_]+)`", told.replace("`[link]`", "")) == list(known)
    for name, field in known.items():
        if not field.required:
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            plain = msgspec.json.encode(default).decode().replace('","', '", "')
            assert f"`{name}` ({plain.removesuffix('.0')})" in told


def test_no_fault_is_told_of_that_there_is_not() -> None:
    assert [word for word in ROWS if "-" in word and word not in KINDS] == []


@pytest.mark.parametrize(
    ("table", "fields"),
    [
        ("workload", Workload.__struct_fields__),
        ("link", tuple(LINK)),
        ("expect", Expected.__struct_fields__),
    ],
)
def test_a_table_is_told_with_all_its_fields(table: str, fields: tuple[str, ...]) -> None:
    _, _, rest = TEXT.partition(f"| `[{table}]`")
    rows, _, _ = rest.partition("\n\n")
    told = "\n".join(re.findall(r"^\| (`.*?) \|", rows, re.MULTILINE))
    assert re.findall(r"`([a-z_]+)`", told) == list(fields)
