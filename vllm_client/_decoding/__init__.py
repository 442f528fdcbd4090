"""Bodies of responses → completions and events. Knows nothing of HTTP."""
