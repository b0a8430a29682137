"""The original implementation's configuration, result files and checkpoints."""
