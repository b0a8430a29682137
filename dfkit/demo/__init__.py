"""Videos for the demo: synthetic talking heads, and the eight GRID speakers where they are at hand."""
