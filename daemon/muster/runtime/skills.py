"""Skills: bundles of actions and routes that an agent takes on. Jido 2 calls them plugins.

A skill knows nothing of the agent that has it. When it keeps state, that state is one field of the
agent's, named by `state_key`; the skill's pure actions see and return that slice only, so two
skills cannot step on each other and the agent's schema shows what they keep.

    prediction = Skill(
        name="LoadPrediction",
        state_key="prediction",
        state_schema=Prediction,
        actions=(update_predictions,),
        routes={"cluster.load.reported": update_predictions},
    )

An agent's own routes come before those of its skills, as in Jido.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from muster.runtime.actions import Action
    from muster.runtime.agent import Every, Targets

SKILL_PRIORITY: Final = -10
"""The priority of a skill's routes; an agent's own have 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """See the module. The mappings are as in `Agent`."""

    name: str
    actions: Sequence[Action] = ()
    routes: Mapping[str, Targets] = field(default_factory=dict)
    outcomes: Mapping[str, Action] = field(default_factory=dict)
    readings: Mapping[str, Action] = field(default_factory=dict)
    schedules: Sequence[Every] = ()
    state_key: str = ""
    state_schema: type[msgspec.Struct] | None = None
