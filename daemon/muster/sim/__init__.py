"""The simulated world: every seam of a node without a host, deterministic under one seed."""
