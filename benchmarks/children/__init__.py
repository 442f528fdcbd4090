"""Functions that run in a process of their own, found by a name such as ``calls:small``."""
