"""Small segments and early snapshots: what takes a daemon days takes seconds."""

from muster.agents.consistency import compaction
from muster.storage import journal

journal.SEGMENT_BYTES_MAX = 2 * 1024
compaction.SNAPSHOTS = compaction.SnapshotPolicy(every_entries=300, keep_entries=30)
