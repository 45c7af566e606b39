"""Parts of `benchmarks/logs.py`: the maker of logs, the question, and the engines that answer it."""
