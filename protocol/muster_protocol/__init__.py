"""The pure half of muster: wire formats and the state machines that decide.

Nothing below this package reads a clock, a socket, a file or a random source; time and chance
come in as arguments, and what should happen goes out as effects (`muster_protocol.effects`).
"""
