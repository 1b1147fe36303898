"""`muster`: ask the daemon on this host, and offline tools around it."""
