"""HTTP for the embedded server: everything between the socket and the routes.

``requests`` reads an HTTP request from a connection, ``request_fields`` reads the fields of its
JSON body. ``replies`` sends a response or an event stream with the faults of a script,
``envelope`` writes the JSON around the choices, and ``refusals`` holds the error bodies.
``json_types`` names the types of JSON.
"""
