"""The router by examples; `tests/property/test_router_properties.py` has the rest."""

from __future__ import annotations

import pytest

from muster_protocol.errors import UsageError
from muster_protocol.signals.router import Router, check_pattern


def a_router(*patterns: str) -> Router[str]:
    router: Router[str] = Router()
    for pattern in patterns:
        router.add(pattern, pattern)
    return router


def test_a_star_is_exactly_one_segment() -> None:
    router = a_router("cluster.*.failed")
    assert router.match("cluster.node.failed") == ["cluster.*.failed"]
    assert router.match("cluster.failed") == []
    assert router.match("cluster.node.x.failed") == []


def test_a_double_star_is_any_number_of_segments() -> None:
    router = a_router("cluster.**", "**.failed")
    assert router.match("cluster") == ["cluster.**"]
    assert router.match("cluster.node.x.failed") == ["cluster.**", "**.failed"]
    assert router.match("failed") == ["**.failed"]


def test_matches_come_by_specificity_where_priorities_are_equal() -> None:
    router = a_router("**", "a.**", "*.b.c", "a.*.c", "a.b.*", "a.b.c", "**.c", "a.b.c.**")
    assert router.match("a.b.c") == [
        "a.b.c",
        "a.b.c.**",
        "a.b.*",
        "a.*.c",
        "a.**",
        "*.b.c",
        "**.c",
        "**",
    ]


def test_priority_comes_before_specificity() -> None:
    router = a_router("a.b")
    router.add("**", "first", priority=1)
    router.add("a.b", "last", priority=-1)
    assert router.match("a.b") == ["first", "a.b", "last"]


def test_several_targets_of_one_pattern_keep_the_order_of_insertion() -> None:
    router: Router[int] = Router()
    for target in (3, 1, 2, 1):
        router.add("a.b", target)
    assert router.match("a.b") == [3, 1, 2, 1]


def test_a_removed_target_is_gone_and_the_others_stay() -> None:
    router: Router[int] = Router()
    router.add("a.b", 1)
    router.add("a.b", 2)
    router.add("a.*", 1)
    assert router.remove("a.b", 1) == 1
    assert router.match("a.b") == [2, 1]
    assert router.remove("a.b", 1) == 0
    assert router.remove("x.y", 1) == 0
    assert len(router) == 2


def test_nothing_is_left_in_the_trie_when_all_is_removed() -> None:
    router = a_router("a.**.b", "a.*.c", "a")
    for pattern in ("a.**.b", "a", "a.*.c"):
        router.remove(pattern, pattern)
    assert len(router) == 0
    assert router.routes() == []
    assert router._root.children == {}


def test_a_type_that_looks_like_a_wildcard_matches_only_wildcards() -> None:
    router = a_router("a.*", "a.b", "a.**")
    assert router.match("a.*") == ["a.*", "a.**"]
    assert router.match("a.**") == ["a.*", "a.**"]


@pytest.mark.parametrize(
    "pattern",
    ["", "a..b", ".a", "a.", "a.b*", "*a", "a.***", "a b", "a.**.**", "ä.b", "a." * 16 + "a"],
)
def test_a_bad_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="pattern"):
        check_pattern(pattern)
    with pytest.raises(UsageError):
        a_router(pattern)


@pytest.mark.parametrize("priority", [-101, 101])
def test_a_priority_out_of_range_is_refused(priority: int) -> None:
    with pytest.raises(UsageError, match="priority"):
        Router[int]().add("a.b", 1, priority=priority)


def test_many_double_stars_do_not_make_matching_exponential() -> None:
    router = a_router(".".join(["**", "a"] * 8))
    assert router.match(".".join(["a"] * 15 + ["b"])) == []
    assert router.match(".".join(["a"] * 16)) == [".".join(["**", "a"] * 8)]
