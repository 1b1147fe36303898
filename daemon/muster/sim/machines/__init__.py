"""Bare machines on an event heap, without trio: thousands of runs while whole nodes make a few."""
