"""Every bound of the wire, and those that several parts share, each with its unit in the name and
its reason.

Bounds that belong to one machine alone stand beside that machine.
"""

from __future__ import annotations

from typing import Final

PACKET_BYTES_MAX: Final = 1_400
"""A sealed packet. Ethernet carries 1,500; 100 are left for IPv6, UDP, VLAN and tunnel headers, so
that no packet is fragmented (memberlist and foca use the same number)."""

META_BYTES_MAX: Final = 512
"""A member's metadata, which rides in gossip: memberlist's limit; two updates fit in a packet."""

PACKET_MESSAGES_MAX: Final = 64
"""Messages in one packet. The smallest takes about 20 bytes, so 1,400 bytes cannot hold more."""

FRAME_BYTES_MAX: Final = 4 * 1024 * 1024
"""One frame of a stream between nodes: the largest batch of log entries (1 MiB) with room for what
one append may add to it, and a push-pull of 10,000 members."""

CONTROL_FRAME_BYTES_MAX: Final = 1024 * 1024
"""One frame on the control socket: the largest value with its key, and a long listing's page."""

HELLO_FRAME_BYTES_MAX: Final = 4 * 1024
"""The first frame of a stream, read before the peer is known to be one of us."""

KEY_BYTES_MAX: Final = 1_024
"""A key of the store, UTF-8. etcd advises the same order of magnitude; listings stay readable."""

VALUE_BYTES_MAX: Final = 256 * 1024
"""A value of the store. Consul allows 512 KiB. One log entry must hold it with its key and stay
below the engine's append batch size, near which pysyncobj 0.3.17 never replicates an entry."""

LIST_KEYS_MAX: Final = 1_000
"""Keys in one page of a listing; a page is also cut at half a control frame."""

BATCH_BYTES_MAX: Final = 640 * 1024
"""One log entry, which holds all commands of one turn of the loop: two of the largest values and
their keys. Strictly below the engine's append batch size of 1 MiB."""

PUSH_PULL_MEMBERS_MAX: Final = 10_000
"""Members in one push-pull; ten times the largest cluster that the simulator runs."""

SIGNAL_BYTES_MAX: Final = 64 * 1024
"""An encoded signal of scope cluster: facts, not bulk data."""

VOTERS_MAX: Final = 7
"""Seats. More voters make every write slower and none of them safer; seven bear three losses, and
Raft's authors and etcd advise no more."""

BARRED_MAX: Final = 64
"""Nodes that an operator keeps off a seat. Each is a decision of a person; the list travels with
every change of the electorate."""

WAITING_COMMANDS_MAX: Final = 10_000
"""Commands that wait in one node, for a batch, for their commit, or for the leader's answer:
seconds of the highest rate measured. More is refused, so that a slow disk or a lost majority shows
as an error and not as memory."""

WAITING_BYTES_MAX: Final = 64 * 1024 * 1024
"""And their size: ten thousand of the largest would be 2.5 GiB. As much as makes a snapshot due."""

UNSYNCED_BYTES_MAX: Final = 64 * 1024 * 1024
"""Entries that a follower takes before they are on its disk: seconds of a busy leader's. A disk
that hangs for minutes must not become memory."""

LOG_ENTRIES_MAX: Final = 65_536
"""Entries in memory past which a voter takes no more: sixteen times what makes a snapshot due, so
only where none can be written."""

STORE_BYTES_MAX: Final = 256 * 1024 * 1024
"""Keys and values of the store, with the registry's `ENTRY_BYTES` for each. It lies in memory, and
a snapshot of it travels in one piece: a quarter of the largest that a follower accepts, so that
encoding and sessions never make one that it must refuse."""
