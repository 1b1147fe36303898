"""Histories with known verdicts: those of others, where they are at hand, and a few of our own."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from muster.sim.checkers.explanation import Explanation
from muster.sim.checkers.judgement import Judgement, judge
from muster.sim.checkers.vocabulary import Verdict
from muster.sim.histories.reading import read_history

ROOT = Path(__file__).parents[5]
OWN = Path(__file__).parent / "histories"
FOREIGN = Path(os.environ.get("MUSTER_HISTORIES", ROOT.parent / "shared" / "data" / "histories"))
REASON = f"no histories at {FOREIGN}; MUSTER_HISTORIES says where they are"


def verdicts() -> dict[str, str]:
    """File -> verdict, from the table beside the files."""
    table = FOREIGN / "README.md"
    text = table.read_text(encoding="utf-8") if table.is_file() else ""
    return dict(re.findall(r"^\| (\S+\.(?:log|txt)) \| (.+) \|$", text, flags=re.MULTILINE))


def judged(path: Path) -> Judgement:
    return judge(read_history(str(path)))


def shown(judgement: Judgement) -> Explanation:
    assert judgement.explanation is not None
    return judgement.explanation


@pytest.mark.skipif(not verdicts(), reason=REASON)
def test_all_histories_of_others_have_their_verdict() -> None:
    expected = verdicts()
    assert len(expected) == 56
    assert {name: str(judged(FOREIGN / name).verdict) for name in expected} == expected


@pytest.mark.skipif(not verdicts(), reason=REASON)
def test_what_is_wrong_with_those_of_others_fits_a_screen() -> None:
    """Of 80 to 400 operations, at most a dozen are shown."""
    for name, verdict in verdicts().items():
        if verdict == "not linearizable":
            explanation = shown(judged(FOREIGN / name))
            assert explanation.is_smallest
            assert len(explanation.operations) <= 12, name


@pytest.mark.parametrize(
    "name", ["contended.jsonl", "unknown-seen-later.jsonl", "etcd-right.log", "text-right.edn"]
)
def test_ours_is_linearizable(name: str) -> None:
    assert judged(OWN / name) == Judgement(Verdict.LINEARIZABLE)


@pytest.mark.parametrize(
    ("name", "count", "why"),
    [
        ("stale-read.jsonl", 3, "returned 'red', after put colour 'blue' by client c2 was done"),
        ("failed-write-read.jsonl", 1, "returned 'green', which nothing wrote"),
        ("lost-update.jsonl", 3, "No order gives all of these their results"),
        ("etcd-wrong.log", 3, "returned '1', after put register '2' by client 1 was done"),
        ("text-wrong.edn", 3, "without append 7 'b'"),
    ],
)
def test_ours_is_not_linearizable(name: str, count: int, why: str) -> None:
    judgement = judged(OWN / name)
    assert judgement.verdict is Verdict.NOT_LINEARIZABLE
    assert why in shown(judgement).why
    assert len(shown(judgement).operations) == count
