"""The network behind small protocols: packets, byte streams, and streams between nodes."""
