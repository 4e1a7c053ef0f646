"""For engineers, never shipped: the miniature, the harness of a real host, measurements and tools."""
