"""The manifest's JSON Schema, for readers that are not Python: `python -m dfkit.runtime.schema` writes it anew.

It says what `dfkit.runtime.manifest` says in types; what reaches across fields (hashes, names of graphs, order of
thresholds) is checked by `dfkit.runtime.bundle`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dfkit.runtime.manifest import MANIFEST_VERSION, Manifest

SCHEMA_FILE = "manifest.schema.json"
SHIPPED = Path(__file__).with_name(SCHEMA_FILE)
"""The file that the package and every bundle hold."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def manifest_schema() -> dict[str, Any]:
    """The schema as pydantic derives it from `Manifest`, with the meaning of each field.

    Source: JSON Schema, draft 2020-12.
    """
    title = f"dfkit bundle manifest, version {MANIFEST_VERSION}"
    return {"$schema": DIALECT, **Manifest.model_json_schema(), "title": title}


def schema_text() -> str:
    """The schema as the text of `manifest.schema.json`."""
    return json.dumps(manifest_schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    SHIPPED.write_text(schema_text(), encoding="utf-8")
