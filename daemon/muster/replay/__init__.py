"""A flight record through the machines again: see `docs/adr/008`."""
