"""The starter: a small model in the package, for a first answer and for training to go on from.

Made by `tools/starter` of clips whose media may be used for it; its card says of what, and where it fails.
"""

from __future__ import annotations

from pathlib import Path

from dfkit.errors import DataError

STARTER = "starter"
"""What stands for it where a checkpoint or a bundle is named."""
FOLDER = Path(__file__).parent


def starter_teacher() -> Path:
    """Checkpoint of the starter's teacher, float16.

    Raises:
        DataError: This installation lacks it.
    """
    return _there(FOLDER / "teacher.pth")


def starter_bundle() -> Path:
    """Bundle of the starter's student.

    Raises:
        DataError: This installation lacks it.
    """
    return _there(FOLDER / "bundle")


def _there(path: Path) -> Path:
    if not path.exists():
        raise DataError(
            f"{path}: the starter is not there, so this installation of dfkit is not whole",
            fix="install dfkit again, or name a bundle or checkpoint of your own",
        )
    return path
