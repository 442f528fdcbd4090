"""``python -m vllm_client.testing``: run the embedded server until Ctrl-C."""

from __future__ import annotations

import argparse
import sys

from .serving import add_arguments, serve


def main() -> int:
    """Run the program. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m vllm_client.testing", description="Run a stand-in for a vLLM server."
    )
    add_arguments(parser)
    return serve(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
