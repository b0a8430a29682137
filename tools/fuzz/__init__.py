"""Fuzzing: damaged and odd inputs of every kind, each answered in a process that may die. `python -m tools.fuzz`."""
