"""What the cluster secret is good for: key ids, sealed packets, the cluster's certificates."""
