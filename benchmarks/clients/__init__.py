"""Short programs that use skae through other libraries, as their users would: ``python -m benchmarks.clients``."""
