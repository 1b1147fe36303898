"""The guard around the Raft engine: what makes pysyncobj 0.3.17 safe (see `guard`)."""
