"""The text generator behind the embedded server."""
