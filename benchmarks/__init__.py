"""One module per question about speed, `python -m benchmarks.<name>`; answers are kept on dated pages."""
