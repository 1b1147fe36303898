"""Clients of a daemon on this host: `blocking` without trio, `aio` for trio programs."""
