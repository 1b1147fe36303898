"""The experiments that there are."""

from __future__ import annotations

import importlib
from typing import Any, Final

from muster.sim.experiments.experiment import Experiment

NAMES: Final = ("lifeguard", "starved", "rapid", "failover")
"""Each is the module of that name, loaded when it is asked for."""


def experiment_named(name: str) -> Experiment[Any, Any]:
    """One of `NAMES`."""
    module = importlib.import_module(f"muster.sim.experiments.{name}")
    found: Experiment[Any, Any] = module.EXPERIMENT
    return found
