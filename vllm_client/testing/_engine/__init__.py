"""The text generator of the embedded server: from a prompt to tokens and their probabilities.

``engine`` is the entrance for the routes. ``model`` is a word model that learns from the text in
``text``, ``tokenizer`` maps text to token ids, ``generation`` turns sampled tokens into the text of
a choice, ``penalties`` has what looks at the tokens so far, ``logprobs`` writes log-probabilities,
``structured`` makes text that fits a constraint (with ``patterns`` and ``grammars``), and ``tools``
chooses tool calls. ``vectors`` makes
embeddings, without the word model.

The word model is frozen. It is good enough for completions and chat, and every change to it changes
the text that tests and demonstrations see. New routes therefore send canned responses; see
``_routes`` for how to add one.
"""
