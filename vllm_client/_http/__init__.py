"""Requests and responses over HTTP. Knows nothing of vLLM's routes, fields or events."""
