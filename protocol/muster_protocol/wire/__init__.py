"""Bytes and values: framing, codec, packet bodies, stream hellos."""
