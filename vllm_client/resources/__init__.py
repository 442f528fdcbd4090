"""The routes of the server, grouped as ``client.…`` shows them."""
