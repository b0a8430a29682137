"""Validation errors in words for the person who wrote the file."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One line per error: the key's path, what was wrong and, for an unknown key, the valid names."""
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        line = f"  {where}: {item['msg']}"
        if item["type"] == "extra_forbidden":
            line = f"  {where}: unknown key; valid here: {', '.join(_valid_keys(model, item['loc'][:-1]))}"
        lines.append(line)
    return "\n".join(lines)


def _valid_keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    current: type[BaseModel] = model
    for part in path:
        annotation = current.model_fields[str(part)].annotation if str(part) in current.model_fields else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            current = annotation
    return sorted(current.model_fields)
