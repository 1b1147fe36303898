"""Real daemons under a nemesis: `make nemesis`.

Daemons in network namespaces, clients that ask them all the time, and faults drawn from a seed:
killed, stopped, paused, cut off, deaf, without room, by wrong clocks, without seats, and silent for
so long that others get theirs. What the clients saw is judged as in the simulator. A simulation
proves more, and misses what is outside it: the kernel's TCP, real disks, threads, signals, OpenSSL;
this does not.
"""
