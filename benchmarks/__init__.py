"""Benchmarks, one module each: `python -m benchmarks.<name>`. Results are on dated pages."""
