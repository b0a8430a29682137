"""Evaluation: what a detector is worth on prepared data, with what the number rests on."""
