"""Agents as bare machines: no runtime, no trio."""

# ruff: noqa: RUF012 (what an agent declares is only read)

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from muster.runtime.actions import ActionContext, action
from muster.runtime.agent import Agent, EmptyState, Every, StateInvalid, UnknownEvent
from muster.runtime.directives import (
    ActionFailed,
    ActionSucceeded,
    Asked,
    Fail,
    Invoke,
    Reply,
    RunAction,
    Schedule,
    Sensed,
    Started,
)
from muster.runtime.skills import Skill
from muster_protocol.effects import DeadlineReached, Effect, Emit, Notify
from muster_protocol.errors import Refused, UsageError
from muster_protocol.signals.signal import Signal


class Loads(msgspec.Struct, frozen=True):
    total: float = 0.0
    history: tuple[float, ...] = ()


class Load(msgspec.Struct, frozen=True):
    load: float


@action(name="Record", params=Load)
def record(state: Loads, params: Load, context: ActionContext) -> tuple[Loads, tuple[Effect, ...]]:
    return Loads(state.total + params.load, (*state.history, params.load)), (
        Emit("load.recorded", {"total": state.total + params.load}),
    )


@action(name="Refuse")
def refuse(state: Loads, params: Any, context: ActionContext) -> tuple[Loads, tuple[Effect, ...]]:
    raise Refused("full", "no room")


@action(name="Break")
def broken(state: Loads, params: Any, context: ActionContext) -> tuple[Any, tuple[Effect, ...]]:
    return EmptyState(), ()


@action(name="Fetch", params=Load)
async def fetch(state: Loads, params: Load, context: ActionContext) -> dict[str, float]:
    return {"load": 1.0}


class Recorder(Agent):
    state_schema = Loads
    routes = {"load.*": record, "load.refused": refuse, "load.fetched": fetch}
    actions = (broken,)
    outcomes = {"Fetch": record}
    readings = {"LoadSensor": record}


def a_signal(signal_type: str = "load.reported", **data: Any) -> Signal:
    return Signal(id="1", source="n/a", type=signal_type, time=0.0, data=data)


def recorded(total: float) -> Emit:
    return Emit("load.recorded", {"total": total})


def test_a_signal_is_routed_to_its_action_and_changes_the_state() -> None:
    agent = Recorder()
    assert agent.handle(a_signal(load=0.5), now=1.0) == (recorded(0.5),)
    assert agent.state == Loads(0.5, (0.5,))


def test_an_agent_is_called_like_its_class_unless_it_says_otherwise() -> None:
    assert Recorder().name == "Recorder"
    assert Recorder(name="x").name == "x"


def test_a_signal_of_several_routes_goes_to_each_action_in_order() -> None:
    agent = Recorder()
    effects = agent.handle(a_signal("load.refused", load=1.0), now=0.0)
    assert [type(effect) for effect in effects] == [Notify, Emit]


def test_a_signal_that_does_not_fit_is_a_notice_and_changes_nothing() -> None:
    agent = Recorder()
    (notice,) = agent.handle(a_signal(load="high"), now=0.0)
    assert isinstance(notice, Notify)
    assert "parameter 'load'" in notice.fields["error"]
    assert agent.state == Loads()


def test_a_signal_from_a_newer_member_may_carry_more() -> None:
    agent = Recorder()
    assert agent.handle(a_signal(load=1.0, unit="%"), now=0.0) == (recorded(1.0),)


def test_a_refusal_of_an_action_is_a_notice() -> None:
    (notice, _) = Recorder().handle(a_signal("load.refused", load=1.0), now=0.0)
    assert isinstance(notice, Notify)
    assert notice.event == "agent.action.refused"


def test_an_effectful_action_becomes_an_effect() -> None:
    effects = Recorder().handle(a_signal("load.fetched", load=1.0), now=0.0)
    assert RunAction("Fetch", {"load": 1.0}) in effects


def test_the_result_of_an_effectful_action_goes_to_the_action_named_for_it() -> None:
    agent = Recorder()
    outcome = ActionSucceeded("Fetch", {"load": 2.0}, request=7)
    effects = agent.handle(outcome, now=0.0)
    assert effects == (recorded(2.0), Reply(7, {"load": 2.0}))


def test_an_outcome_that_nobody_named_is_no_error() -> None:
    assert Recorder().handle(ActionSucceeded("Other", None), now=0.0) == ()


def test_a_failed_action_is_told_to_the_operator_and_to_who_waits() -> None:
    error = OSError("gone")
    notice, answer = Recorder().handle(ActionFailed("Fetch", error, request=7), now=0.0)
    assert isinstance(notice, Notify)
    assert answer == Fail(7, error)
    assert len(Recorder().handle(ActionFailed("Fetch", error), now=0.0)) == 1


def test_a_reading_goes_to_the_action_named_for_its_sensor() -> None:
    agent = Recorder()
    assert agent.handle(Sensed("LoadSensor", Load(0.25)), now=0.0) == (recorded(0.25),)
    with pytest.raises(UnknownEvent):
        agent.handle(Sensed("OtherSensor", {}), now=0.0)


def test_a_called_action_answers() -> None:
    agent = Recorder()
    effects = agent.handle(Asked(3, Invoke("Record", {"load": 1.0})), now=0.0)
    assert effects == (recorded(1.0), Reply(3))


def test_an_action_that_answers_itself_is_not_answered_for() -> None:
    @action(name="Total")
    def total(state: Loads, params: Any, context: ActionContext) -> tuple[Loads, tuple[Reply]]:
        assert context.request is not None
        return state, (Reply(context.request, state.total),)

    class Asked2(Agent):
        state_schema = Loads
        actions = (total,)

    agent = Asked2(state=Loads(4.0))
    assert agent.handle(Asked(3, Invoke("Total")), now=0.0) == (Reply(3, 4.0),)


def test_a_called_effectful_action_answers_when_it_ends() -> None:
    effects = Recorder().handle(Asked(3, Invoke("Fetch", {"load": 1.0})), now=0.0)
    assert effects == (RunAction("Fetch", {"load": 1.0}, request=3),)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (Invoke("Record", {"load": "x"}), "parameter 'load'"),
        (Invoke("Record", {"load": 1.0, "unit": "%"}), "unknown parameter 'unit'"),
        (Invoke("Refuse"), "no room"),
        (Invoke("Recrod"), "no action 'Recrod'; it has: Break, Record"),
        ("status", "does not know str"),
    ],
)
def test_a_call_that_is_refused_says_why_and_changes_nothing(command: Any, reason: str) -> None:
    agent = Recorder()
    (answer,) = agent.handle(Asked(3, command), now=0.0)
    assert isinstance(answer, Fail)
    assert reason in str(answer.error)
    assert agent.state == Loads()


def test_a_refusal_raised_for_a_command_of_ones_own_is_an_answer() -> None:
    class Refusing(Agent):
        def handle_request(self, asked: Asked, *, now: float) -> tuple[Effect, ...]:
            raise Refused("not-now", "not now")

    (answer,) = Refusing().handle(Asked(3, "status"), now=0.0)
    assert isinstance(answer, Fail)
    assert isinstance(answer.error, Refused)


def test_a_state_of_another_type_is_a_bug() -> None:
    with pytest.raises(StateInvalid, match="Break"):
        Recorder().handle(Asked(3, Invoke("Break")), now=0.0)


def test_the_first_state_is_validated() -> None:
    assert Recorder(state={"total": 1.0}).state == Loads(1.0)
    with pytest.raises(StateInvalid, match=r"\$\.total"):
        Recorder(state={"total": "x"})
    with pytest.raises(StateInvalid):
        Recorder(state=Loads("x"))  # type: ignore[arg-type]


def test_a_whole_state_can_be_validated_at_any_time() -> None:
    agent = Recorder()
    agent.state = Loads("x")  # type: ignore[arg-type]
    with pytest.raises(StateInvalid):
        agent.validate_state()


def test_an_event_that_nobody_knows_is_an_error_but_a_deadline_is_not() -> None:
    assert Recorder().handle(DeadlineReached(), now=0.0) == ()
    with pytest.raises(UnknownEvent, match="object"):
        Recorder().handle(object(), now=0.0)


def test_a_subclass_feeds_its_machine_with_the_other_events() -> None:
    class Wrapper(Recorder):
        def handle_event(self, event: Any, *, now: float) -> tuple[Effect, ...]:
            return (Notify("fed", fields={"event": event, "now": now}),)

    effects = Wrapper().handle(b"packet", now=3.0)
    assert effects == (Notify("fed", fields={"event": b"packet", "now": 3.0}),)


def test_the_patterns_of_an_agent_are_those_of_its_routes() -> None:
    assert sorted(Recorder().patterns()) == ["load.*", "load.fetched", "load.refused"]


def test_a_mounted_agent_begins_its_schedules() -> None:
    class Ticking(Agent):
        state_schema = Loads
        schedules = (Every(5.0, record, {"load": 1.0}), Every(60.0, fetch, {"load": 0.0}))

        def mount(self, *, now: float) -> tuple[Effect, ...]:
            return (Notify("mounted"),)

    agent = Ticking()
    mounted, first, second = agent.handle(Started(), now=10.0)
    assert mounted == Notify("mounted")
    assert isinstance(first, Schedule)
    assert isinstance(second, Schedule)
    assert (first.delay_s, second.delay_s) == (5.0, 60.0)
    again, emitted = agent.handle(first.event, now=15.5)
    assert isinstance(again, Schedule)
    assert again.delay_s == 4.5
    assert emitted == recorded(1.0)


def test_a_late_schedule_skips_what_it_missed_and_keeps_its_phase() -> None:
    class Ticking(Agent):
        state_schema = Loads
        schedules = (Every(5.0, record, {"load": 1.0}),)

    agent = Ticking()
    (first,) = agent.handle(Started(), now=0.0)
    assert isinstance(first, Schedule)
    again, _ = agent.handle(first.event, now=17.0)
    assert isinstance(again, Schedule)
    assert again.delay_s == 3.0


# ── skills ──────────────────────────────────────────────────────────────────────────────────────


class Prediction(msgspec.Struct, frozen=True):
    last: float = 0.0


class Whole(msgspec.Struct, frozen=True):
    prediction: Prediction = Prediction()
    total: float = 0.0


@action(name="Predict", params=Load)
def predict(
    state: Prediction, params: Load, context: ActionContext
) -> tuple[Prediction, tuple[Effect, ...]]:
    assert isinstance(state, Prediction)
    return Prediction(params.load), (Notify("predicted"),)


@action(name="Add", params=Load)
def add(state: Whole, params: Load, context: ActionContext) -> tuple[Whole, tuple[Effect, ...]]:
    return msgspec.structs.replace(state, total=state.total + params.load), (Notify("added"),)


PREDICTION = Skill(
    name="LoadPrediction",
    actions=(predict,),
    routes={"load.reported": predict},
    state_key="prediction",
    state_schema=Prediction,
)


class Balancer(Agent):
    state_schema = Whole
    routes = {"load.**": add}
    skills = (PREDICTION,)


def test_a_skill_sees_and_changes_its_own_slice_of_the_state_only() -> None:
    agent = Balancer()
    agent.handle(a_signal(load=0.5), now=0.0)
    assert agent.state == Whole(Prediction(0.5), 0.5)
    assert agent.view_for(predict) == Prediction(0.5)
    assert agent.view_for(add) == agent.state


def test_the_routes_of_an_agent_come_before_those_of_its_skills() -> None:
    """Even where the skill's pattern is the more specific one."""
    effects = Balancer().handle(a_signal(load=0.5), now=0.0)
    assert effects == (Notify("added"), Notify("predicted"))


def test_a_skill_whose_slice_the_agent_does_not_have_is_refused() -> None:
    class Wrong(Agent):
        state_schema = Loads
        skills = (PREDICTION,)

    with pytest.raises(UsageError, match="prediction"):
        Wrong()


def test_two_actions_of_one_name_are_refused() -> None:
    other = action(name="Record")(lambda state, params, context: (state, ()))

    class Doubled(Agent):
        state_schema = Loads
        actions = (record, other)

    with pytest.raises(UsageError, match="two actions named 'Record'"):
        Doubled()


def test_two_claims_to_one_outcome_are_refused() -> None:
    class Doubled(Agent):
        state_schema = Loads
        outcomes = {"Fetch": record}
        skills = (Skill(name="s", outcomes={"Fetch": record}),)

    with pytest.raises(UsageError, match="claimed twice"):
        Doubled()


def test_agents_of_one_class_share_no_state() -> None:
    first, second = Recorder(), Recorder()
    first.handle(a_signal(load=1.0), now=0.0)
    assert second.state == Loads()
