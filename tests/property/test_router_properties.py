"""The router against the plainest matcher there is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from muster_protocol.errors import UsageError
from muster_protocol.signals.router import Router, check_pattern, specificity

segments = st.sampled_from(["a", "b", "c"])
types = st.lists(segments, min_size=1, max_size=6).map(".".join)
patterns = (
    st.lists(st.one_of(segments, st.just("*"), st.just("**")), min_size=1, max_size=6)
    .map(".".join)
    .filter(lambda pattern: "**.**" not in pattern)
)
routes = st.lists(st.tuples(patterns, st.integers(0, 3), st.integers(-2, 2)), max_size=12)


def matches(pattern: list[str], name: list[str]) -> bool:
    """The definition, one line for each case."""
    if not pattern:
        return not name
    if pattern[0] == "**":
        return matches(pattern[1:], name) or bool(name and matches(pattern, name[1:]))
    return bool(name) and pattern[0] in ("*", name[0]) and matches(pattern[1:], name[1:])


def a_router(added: list[tuple[str, int, int]]) -> Router[int]:
    router: Router[int] = Router()
    for pattern, target, priority in added:
        router.add(pattern, target, priority=priority)
    return router


@given(routes, types)
def test_the_router_finds_what_the_definition_finds(
    added: list[tuple[str, int, int]], name: str
) -> None:
    found = [(r.pattern, r.target, r.priority) for r in a_router(added).matching_routes(name)]
    expected = [r for r in added if matches(r[0].split("."), name.split("."))]
    assert sorted(found) == sorted(expected)


@given(routes, types)
def test_matches_are_ordered_by_priority_then_specificity_then_age(
    added: list[tuple[str, int, int]], name: str
) -> None:
    keys = [
        (-r.priority, [-rank for rank in specificity(r.pattern)], r.number)
        for r in a_router(added).matching_routes(name)
    ]
    assert keys == sorted(keys)


@given(routes, routes, types)
def test_removing_what_was_added_leaves_what_was_there(
    kept: list[tuple[str, int, int]], removed: list[tuple[str, int, int]], name: str
) -> None:
    router = a_router(kept)
    for pattern, target, priority in removed:
        router.add(pattern, target + 10, priority=priority)
    for pattern, target, _ in removed:
        router.remove(pattern, target + 10)
    assert len(router) == len(kept)
    assert router.match(name) == a_router(kept).match(name)
    assert {r.pattern for r in router.routes()} == {pattern for pattern, _, _ in kept}


@given(patterns)
def test_a_pattern_without_wildcards_is_the_most_specific_of_its_matches(pattern: str) -> None:
    name = pattern.replace("**", "a").replace("*", "a")
    assert specificity(name) >= specificity(pattern)


@given(st.text(alphabet="ab.*-_ \n", max_size=20))
def test_whatever_is_a_pattern_can_be_routed_and_nothing_else(text: str) -> None:
    router: Router[int] = Router()
    try:
        check_pattern(text)
    except UsageError:
        return
    router.add(text, 1)
    assert router.match(text.replace("**", "a").replace("*", "a")) == [1]
