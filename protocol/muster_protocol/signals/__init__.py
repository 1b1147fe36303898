"""Signals: the facts that agents tell each other, how they are routed, and how they travel."""
