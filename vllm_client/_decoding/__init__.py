"""Bodies → answers and events. Knows nothing of HTTP."""
