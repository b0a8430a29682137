"""Widths of a student from what its exported INT8 graph weighs and how long it takes."""
