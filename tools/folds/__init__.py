"""Models of folds taken through distillation and export, and judged together."""
