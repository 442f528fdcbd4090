"""The routes of the embedded server."""
