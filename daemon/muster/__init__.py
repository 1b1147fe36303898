"""muster: a cluster daemon for a handful of machines on a LAN, and the library under it.

Nothing is imported before it is used (PEP 562): the CLI starts without trio.
"""

from __future__ import annotations

__version__ = "0.1.0"
