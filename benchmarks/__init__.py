"""What a client costs, measured: run as ``python -m benchmarks`` from the checkout."""
