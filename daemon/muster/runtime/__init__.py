"""The agent runtime: agents and what keeps them alive on one node."""
