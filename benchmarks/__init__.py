"""Measure what a client costs: run ``python -m benchmarks`` from the checkout."""
