"""What the benchmarks run in a process of its own, found by a name such as ``calls:small``."""
