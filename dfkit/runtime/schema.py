"""The manifest's JSON Schema, for readers that are not Python: `python -m dfkit.runtime.schema` writes it anew.

It says what `dfkit.runtime.manifest` says in types; what reaches across fields (hashes, names of graphs, order of
thresholds) is checked by `dfkit.runtime.bundle`. The meaning of a field is the docstring under it, read here out of the
source: pydantic's `use_attribute_docstrings` does so at each import, which was a tenth of the runtime's start.
"""

from __future__ import annotations

import ast
import inspect
import json
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

from dfkit.measures import decision, familiarity
from dfkit.runtime import contract, manifest
from dfkit.runtime.manifest import MANIFEST_VERSION, Manifest

SCHEMA_FILE = "manifest.schema.json"
SHIPPED = Path(__file__).with_name(SCHEMA_FILE)
"""The file that the package and every bundle hold."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"
DOCUMENTED = (manifest, contract, decision, familiarity)
"""Modules whose models' fields have docstrings."""


def manifest_schema() -> dict[str, Any]:
    """The schema as pydantic derives it from `Manifest`, with the meaning of each field.

    Source: JSON Schema, draft 2020-12.
    """
    title = f"dfkit bundle manifest, version {MANIFEST_VERSION}"
    schema = Manifest.model_json_schema()
    meanings = {name: fields for module in DOCUMENTED for name, fields in field_meanings(module).items()}
    for model, part in {**schema["$defs"], Manifest.__name__: schema}.items():
        for field, meaning in meanings.get(model, {}).items():
            part["properties"][field]["description"] = meaning
    return {"$schema": DIALECT, **schema, "title": title}


def field_meanings(module: ModuleType) -> dict[str, dict[str, str]]:
    """Docstrings under the fields of a module's classes, by class and field; a class has those of its bases, too."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ClassDef):
            inherited = [found.get(base.id, {}) for base in node.bases if isinstance(base, ast.Name)]
            found[node.name] = {field: text for fields in inherited for field, text in fields.items()}
            found[node.name] |= _meanings_in(node)
    return found


def _meanings_in(node: ast.ClassDef) -> dict[str, str]:
    meanings = {}
    for field, below in pairwise(node.body):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            meanings[field.target.id] = inspect.cleandoc(below.value.value)
    return meanings


def schema_text() -> str:
    """The schema as the text of `manifest.schema.json`."""
    return json.dumps(manifest_schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    SHIPPED.write_text(schema_text(), encoding="utf-8")
