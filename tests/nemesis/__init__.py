"""Real daemons under a nemesis: `make nemesis`.

Five daemons in network namespaces, clients that ask them all the time, and faults drawn from a
seed: killed, stopped, paused, cut off, deaf, without room. What the clients saw is judged as in the
simulator. A simulation proves more, and misses what is outside it: the kernel's TCP, real disks,
threads, signals; this does not.

Not here: clocks. A wrong wall clock for one process needs a library below it that costs more than
the daemon itself (libfaketime: 30 % of a core each, and an election a second); the simulator has
steps and drift. Changes of the electorate come when it can be changed.
"""
