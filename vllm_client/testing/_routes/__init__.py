"""The routes of the embedded server: which path sends which response.

``table`` maps paths and methods to routes and holds the small ones. ``completions``, ``chat`` and
``responses`` are those that generate text, with ``chat_output``, ``messages``, ``response_input``,
``response_output`` and ``checks`` (what vLLM refuses). ``chat_batch`` and
``tokens`` give their responses the form of two further routes; ``audio`` has canned texts.
``metrics`` writes ``GET /metrics``.

To add a route:

1. In ``table``, write a function that receives a ``RouteContext`` and returns ``json_reply(...)``
   with a canned response: fixed JSON with vLLM's keys in vLLM's order. Read the request with
   ``_read_fields`` only as far as the response depends on it.
2. Add one line for its path and method to ``_ROUTES``.
3. Add the captured traffic of a real server to ``tests/data/captures``, and its name to
   ``FAMILIES`` in ``tests/testing/test_captures.py``. That test compares the two.

``pooling`` has the routes of pooling models, whose vectors follow from the words of a text.

New routes generate no text: the word model is frozen (see ``_engine``). A test that needs another
response sets it with ``FakeServer.enqueue(json=..., path=...)``.
"""
