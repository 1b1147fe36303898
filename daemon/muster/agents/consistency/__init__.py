"""The consistency agent: founding a cluster, Raft, and the requests of clients."""
