"""Images as arrays: reading, surveying, cutting into patches and tiles, writing; no torch."""
