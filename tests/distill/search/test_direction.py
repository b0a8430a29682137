"""Search stands above export and distillation; neither knows of it, and distillation not of export."""

from __future__ import annotations

import subprocess
import sys

CHECK = """
import sys
import dfkit.distill.distill, dfkit.distill.quantization_aware
print(sorted(name for name in sys.modules if name.startswith(("dfkit.export", "dfkit.distill.search"))))
"""


def test_distillation_imports_no_export() -> None:
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
