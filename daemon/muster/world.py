"""Everything outside a node, in one value.

`node.py` takes a configuration and a `World` and touches nothing else, so the same node runs on a
real host and, by the hundred, in the simulator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from muster.clock import Clock
    from muster.entropy import Entropy
    from muster.net.endpoints import Network
    from muster.offload import Offload
    from muster.storage.files import Files
    from muster.vitals import Vitals


@dataclass(frozen=True, slots=True)
class World:
    """The seams of one node."""

    clock: Clock
    entropy: Entropy
    network: Network
    files: Files
    offload: Offload
    vitals: Vitals
