"""Every method and every field against a real vLLM: ``python -m tests.real``."""
