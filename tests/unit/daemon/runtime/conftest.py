"""The fixture of the runtime's tests. They also ask for `autojump_clock`: pytest-trio runs a test
on a virtual clock only if the test itself takes one."""

from __future__ import annotations

import pytest

from testkit.runtime_node import NodeUnderTest


@pytest.fixture
async def node() -> NodeUnderTest:
    return NodeUnderTest()
