"""What the daemons have logged, read as it grows."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Sequence
from typing import Any, Final

from muster.cli.local_cluster import LocalNode

BAD_WORDS: Final = ("Traceback", "SafetyViolation", "agent.failed", "agent.parked")


class Logs:
    """Of all nodes. `read` takes what has come since the last time."""

    def __init__(self, nodes: Sequence[LocalNode]) -> None:
        self._nodes = nodes
        self._read_bytes = dict.fromkeys((node.name for node in nodes), 0)
        self._electorates: dict[int, list[str]] = {}
        self._terms: dict[int, None] = {}
        self.bad: list[str] = []
        self.ahead_s = (0.0, 0.0)
        """How far the wall clocks by which they logged were from ours: the least and the most."""

    @property
    def elections(self) -> int:
        """How many terms had a leader."""
        return len(self._terms)

    @property
    def voters(self) -> list[str]:
        """The ids of the newest electorate."""
        return self._electorates[max(self._electorates)] if self._electorates else []

    def read(self) -> None:
        for node in self._nodes:
            if node.log_path.exists():
                self._read(node)

    def _read(self, node: LocalNode) -> None:
        with node.log_path.open("rb") as file:
            file.seek(self._read_bytes[node.name])
            lines = file.read().split(b"\n")
        self._read_bytes[node.name] += sum(len(line) + 1 for line in lines[:-1])
        for line in lines[:-1]:  # the last one is not whole yet
            text = line.decode(errors="replace")
            if any(word in text for word in BAD_WORDS):
                self.bad.append(f"{node.name} logged: {text[:200]}")
            if text.startswith("{"):
                self._take(json.loads(text))

    def _take(self, said: dict[str, Any]) -> None:
        stamp = datetime.datetime.fromisoformat(said["time"]).timestamp()
        ahead_s = stamp - time.time()
        self.ahead_s = (min(self.ahead_s[0], ahead_s), max(self.ahead_s[1], ahead_s))
        if said["event"] == "raft.role.changed" and said["role"] == "leader":
            self._terms[said["term"]] = None
        elif said["event"] == "raft.electorate.changed":
            self._electorates[said["index"]] = said["voters"]
