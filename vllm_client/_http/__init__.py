"""HTTP: connections, attempts, time limits and bodies; nothing of vLLM."""
