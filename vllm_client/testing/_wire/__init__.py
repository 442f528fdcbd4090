"""Requests as they arrive, and responses as they are sent."""
