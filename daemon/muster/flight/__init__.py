"""What a node writes down of its machines, so that they can be run again: see `docs/adr/008`."""
