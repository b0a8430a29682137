"""All checks, in the order in which one thing rests on another."""

from __future__ import annotations

from pathlib import Path

from dfkit.doctor.checks import DoctorReport, user_home, user_name, without_names
from dfkit.doctor.golden_clip import golden_checks
from dfkit.doctor.machine import decoder_checks, place_checks, processor_checks
from dfkit.doctor.versions import extra_checks, version_checks
from dfkit.errors import DataError
from dfkit.measures.environment import read_environment
from dfkit.workspace import Workspace


def examine(workspace: Path) -> DoctorReport:
    """Looks at installation, machine and workspace; writes nothing that stays.

    Args:
        workspace: Its newest bundle is replayed; need not be there yet.
    """
    try:
        bundle = Workspace(workspace).newest_export()
    except (DataError, OSError):
        bundle = None
    checks = [
        *version_checks(),
        *extra_checks(),
        *processor_checks(),
        *decoder_checks(),
        *place_checks(workspace),
        *golden_checks(bundle),
    ]
    home, user = user_home(), user_name()
    return DoctorReport(tuple(without_names(check, home=home, user=user) for check in checks), read_environment())
