"""The replicated state and how a cluster is founded; knows nothing of the engine underneath."""
