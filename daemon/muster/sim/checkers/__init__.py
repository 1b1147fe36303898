"""What must hold in every run: one family of invariants in each module.

A checker knows nothing of trio, nodes or machines: it is told facts and raises `Violated` at the
first one that cannot be. So both tiers of the simulator feed the same checkers, and tests feed
them lies.
"""
