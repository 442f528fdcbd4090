"""Adapters for other programs; each needs an extra of the same name."""
