"""How the ways between simulated hosts behave."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Link:
    """How the way from one host to another behaves. Chances are 0.0 to 1.0, per packet."""

    delay_s: float = 0.000_2
    jitter_s: float = 0.000_1
    loss: float = 0.0
    duplicate: float = 0.0
