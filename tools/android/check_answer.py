"""Holds the JSON that the app's tests measured against what `dfkit bench --import` takes.

    python -m tools.android.check_answer android_demo/build/screens/bench.json BUNDLE

Its times are those of the computer that ran the tests, and go nowhere.
"""

from __future__ import annotations

import sys
from pathlib import Path

from dfkit.benchmarks.phone import read_phone_file
from dfkit.errors import PhoneError
from dfkit.runtime.bundle import open_bundle

if __name__ == "__main__":
    answer, bundle = map(Path, sys.argv[1:])
    try:
        read_phone_file(answer, open_bundle(bundle))
    except PhoneError as error:
        raise SystemExit(str(error)) from error
    print(f"{answer.name}: dfkit bench --import takes what the app's benchmark wrote")
