"""Which student? Sizes, stems, widths and losses of distillation held against each other on the same clips."""
