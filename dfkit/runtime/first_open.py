"""A graph that this user's installation has not opened before is opened in a process of its own first.

Interpreters are native code: a file that passes `graph_check`, or an .onnx, may still end the process that loads it.
What was checked and opened is remembered by the files' SHA-256, the runtime's version and the source of the check, in a
folder of the user's cache: a first start takes a second longer, a later one looks for a file and does not check again.
A folder that cannot be written means being asked again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from dfkit.errors import BundleError, DfkitError
from dfkit.files import cache_folder, write_atomically
from dfkit.measures.child_process import run_for_json
from dfkit.runtime.manifest import Backend

FOLDER = "opened"
TIMEOUT_S = 120
"""An honest file takes a second, on a machine with much else to do ten."""
PACKAGES = {"tflite": "ai-edge-litert", "onnx": "onnxruntime", "executorch": "executorch", "coreai": "coreai-core"}
CHECK_SOURCES = ("graph_check.py", "graph_operators.py", "flat_tables.py")
"""What `graph_check` is made of: a file that passed another check has to pass this one."""
CHILD = "dfkit.runtime.open_graphs"
REQUEST_FILE = "request.json"
FIX = "do not use it; copy the bundle again from where it was exported, or run dfkit export anew"

logger = logging.getLogger(__name__)


def open_first(name: str, backend: Backend, content: Mapping[str, bytes], *, where: str) -> None:
    """Makes sure that graphs pass the check, and can be opened and run without ending the process that does so.

    Args:
        name: Of the backend.
        backend: The manifest's entry.
        content: Bytes by file name.
        where: Named in errors.
    Raises:
        BundleError: They fail the check, cannot be loaded or run, or the process that tried crashed or hung.
    """
    if not opened_before(name, content):
        open_in_child(name, backend, content, where=where)
        remember(name, content)


def open_in_child(
    name: str, backend: Backend, content: Mapping[str, bytes], *, where: str, module: str = CHILD
) -> None:
    """Loads graphs and runs each signature once, in a process of its own.

    Args:
        name: Of the backend.
        backend: The manifest's entry.
        content: Bytes by file name.
        where: Named in errors.
        module: What the process runs; takes the folder that `read_request` reads.
    Raises:
        BundleError: See `open_first`.
    """
    files = f"{where}: {', '.join(sorted(content))}"
    with TemporaryDirectory(prefix="dfkit-open-") as folder:
        # By number: a name of the bundle leads nowhere.
        for number, file in enumerate(content):
            (Path(folder) / str(number)).write_bytes(content[file])
        request = {"name": name, "where": where, "backend": backend.model_dump(mode="json"), "files": list(content)}
        (Path(folder) / REQUEST_FILE).write_text(json.dumps(request), encoding="utf-8")
        try:
            answer = run_for_json(
                [sys.executable, "-m", module, folder],
                name="the process that opened it first",
                no_answer="no answer",
                timeout_s=TIMEOUT_S,
            )
        except DfkitError as error:
            raise BundleError(f"{files} cannot be opened safely: {error.found}", fix=FIX) from error
    if "found" in answer:
        raise BundleError(answer["found"], fix=answer["fix"])


def read_request(folder: Path) -> tuple[str, Backend, dict[str, bytes], str]:
    """What `open_in_child` asks for: the backend's name and entry, content by file name, and where it is from."""
    request = json.loads((folder / REQUEST_FILE).read_bytes())
    content = {file: (folder / str(number)).read_bytes() for number, file in enumerate(request["files"])}
    return request["name"], Backend.model_validate(request["backend"]), content, request["where"]


def opened_before(name: str, content: Mapping[str, bytes]) -> bool:
    """Whether this user's installation opened exactly these files with this version of the runtime."""
    place = _place(name, content)
    try:
        return place is not None and place.is_file()
    except OSError:
        return False


def remember(name: str, content: Mapping[str, bytes]) -> None:
    """Notes that they were opened; where that cannot be written, they are opened first again."""
    place = _place(name, content)
    try:
        if place is not None:
            write_atomically(place, f"{name}: {', '.join(sorted(content))}\n")
    except (OSError, DfkitError) as error:
        logger.debug("not remembered: %s", error)


def _place(name: str, content: Mapping[str, bytes]) -> Path | None:
    hashes = sorted(hashlib.sha256(data).hexdigest() for data in content.values())
    try:
        version = metadata.version(PACKAGES[name])
        folder = cache_folder(FOLDER)
        check = b"".join(Path(__file__).with_name(source).read_bytes() for source in CHECK_SOURCES)
    except (metadata.PackageNotFoundError, RuntimeError, OSError):
        return None
    named = [name, version, hashlib.sha256(check).hexdigest(), *hashes]
    return folder / hashlib.sha256("\n".join(named).encode()).hexdigest()
