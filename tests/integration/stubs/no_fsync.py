"""Makes every sync of the process a lie: the control of the durability test, which must fail."""

import os

os.fdatasync = lambda fd: None
os.fsync = lambda fd: None
