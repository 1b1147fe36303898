"""Finding nodes: hints where to look, never membership."""
