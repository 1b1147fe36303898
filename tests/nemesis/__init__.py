"""Real daemons under a nemesis: `make nemesis`.

Five daemons in network namespaces, clients that ask them all the time, and faults drawn from a seed:
killed, stopped, paused, cut off, deaf, without room, with a wrong clock. What the clients saw is
judged as in the simulator. A simulation proves more and misses what is outside it: the kernel's
TCP, real disks, threads, signals; this does not.
"""
