"""The disk: files behind a seam, the journal and the snapshots built on them."""
