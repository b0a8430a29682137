"""Lets a phone that is connected measure a bundle: the app's benchmark, started and read through adb.

The bundle goes to where any app may read what the shell put there, the app is started by an intent, and its answer is
read from the app's folder below Android/media, which the shell may read on all phones. Both are removed at the end.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dfkit.benchmarks.phone import PhoneRun, measured_files, read_phone_run
from dfkit.console import note
from dfkit.errors import PhoneError
from dfkit.runtime.bundle import Bundle
from dfkit.runtime.manifest import MANIFEST_FILE

APP = "dfkit.demo"
ACTIVITY = f"{APP}/.BenchActivity"
PUSHED = "/data/local/tmp/dfkit-bench-{run}.zip"
ANSWER = f"/sdcard/Android/media/{APP}/bench-{{run}}.json"
SDK_VARIABLES = ("ANDROID_HOME", "ANDROID_SDK_ROOT")
CALL_S = 120
"""After this a single call of adb counts as hung."""
POLL_S = 5.0
CLIP_S = 5.0
"""A phone that needs longer for a clip is given up."""
START_S = 180.0
"""For loading and checking the bundle, on the slowest of phones."""
FIX_ADB = (
    "install Android's platform-tools (developer.android.com/tools/releases/platform-tools;"
    " Debian: apt-get install adb)"
)
FIX_CONNECT = (
    "connect a phone by USB, switch on USB debugging in its developer options, and accept the computer on its screen; "
    "or measure in the app ('Measure this phone'), and give what it shares to dfkit bench --import"
)
FIX_INSTALL = "make android, then adb install -r android_demo/build/dfkit-demo.apk"


@dataclass(frozen=True)
class Request:
    """What a phone is asked to measure."""

    sustained_s: float = 600.0
    """Work without a pause, behind the single clips."""
    repeats: int = 100
    """Timed clips."""
    num_threads: int = 1

    @property
    def limit_s(self) -> float:
        """After this a phone that says nothing is given up."""
        return START_S + self.repeats * CLIP_S + 1.5 * self.sustained_s


class Adb:
    """Android's debug bridge; every call is a process of its own, without a shell."""

    def __init__(self, command: Sequence[str], serial: str = "") -> None:
        """Names the program.

        Args:
            command: The program, such as `("adb",)`.
            serial: Of the phone that is meant; empty before one was chosen.
        """
        self._command = list(command)
        self._serial = serial

    def of(self, serial: str) -> Adb:
        """The same, for one phone."""
        return Adb(self._command, serial)

    def try_run(self, *words: str) -> tuple[int, str]:
        """Runs a command.

        Returns:
            Exit code, and what it printed: standard output, then errors.
        Raises:
            PhoneError: adb cannot be started, or does not end.
        """
        command = [*self._command, *(("-s", self._serial) if self._serial else ()), *words]
        try:
            done = subprocess.run(command, capture_output=True, timeout=CALL_S, check=False)
        except OSError as error:
            raise PhoneError(f"{command[0]} cannot be started: {error.strerror}", fix=FIX_ADB) from error
        except subprocess.TimeoutExpired as error:
            raise PhoneError(f"adb {words[0]} did not end within {CALL_S} s", fix="adb kill-server") from error
        said = b"\n".join(part for part in (done.stdout.strip(), done.stderr.strip()) if part)
        return done.returncode, said.decode("utf-8", "replace")

    def run(self, *words: str, fix: str = "look at the phone's screen, and run it again") -> str:
        """Runs a command that has to succeed.

        Raises:
            PhoneError: It failed; what adb said is in the message.
        """
        code, said = self.try_run(*words)
        if code != 0:
            raise PhoneError(f"adb {' '.join(words[:3])} failed: {said or f'code {code}'}", fix=fix)
        return said


def find_adb() -> tuple[str, ...]:
    """The program: on the path, or in the SDK that `ANDROID_HOME` names.

    Raises:
        PhoneError: There is none.
    """
    folders = [Path(os.environ[name]) / "platform-tools" for name in SDK_VARIABLES if os.environ.get(name)]
    for folder in (None, *map(str, folders)):
        found = shutil.which("adb", path=folder)
        if found:
            return (found,)
    raise PhoneError("adb is not installed, through which a phone is asked", fix=FIX_ADB)


def choose_phone(adb: Adb, serial: str | None) -> str:
    """Serial of the phone that is meant.

    Args:
        adb: Of no phone yet.
        serial: As asked for; None takes the only one.
    Raises:
        PhoneError: None is connected or ready, several are and none was named, or the named one is not there.
    """
    states = _states(adb.run("devices", "-l", fix=FIX_ADB))
    if not states:
        raise PhoneError("no phone is connected", fix=FIX_CONNECT)
    listed = ", ".join(f"{name} ({state})" for name, state in states.items())
    if serial is None and len(states) > 1:
        raise PhoneError(f"several phones are connected: {listed}", fix=f"--serial {next(iter(states))}")
    chosen = serial or next(iter(states))
    if chosen not in states:
        raise PhoneError(f"phone {chosen} is not connected, but {listed}", fix="name one of these with --serial")
    if states[chosen] != "device":
        raise PhoneError(f"phone {chosen} is not ready: {states[chosen]}", fix=FIX_CONNECT)
    return chosen


def _states(said: str) -> dict[str, str]:
    """State of each phone by serial, `device` of one that is ready, out of what `adb devices -l` prints."""
    _, _, listed = said.partition("List of devices attached")
    pattern = re.compile(r"(?P<serial>\S+)\s+(?P<state>.+?)(\s+(usb|product|transport_id):|$)")
    found = (pattern.match(line) for line in listed.splitlines())
    return {match["serial"]: match["state"] for match in found if match and match["serial"] != "*"}


def measure_on_phone(
    bundle: Bundle,
    request: Request,
    *,
    serial: str | None = None,
    adb: Adb | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> PhoneRun:
    """Pushes a bundle to the app, lets it measure, and reads its answer.

    Args:
        bundle: Verified.
        request: What is measured.
        serial: Of the phone; None takes the only one.
        adb: None finds the program.
        wait: Sleeps, s.
    Raises:
        PhoneError: No adb, no phone, no app, or the app ended without an answer, or one that cannot be used.
    """
    measured_files(bundle)  # refuses a bundle without graphs for a phone before a phone is asked
    anyone = adb or Adb(find_adb())
    chosen = choose_phone(anyone, serial)
    phone = anyone.of(chosen)
    if phone.try_run("shell", "pm", "path", APP)[0] != 0:
        raise PhoneError(f"the app {APP} is not installed on phone {chosen}", fix=FIX_INSTALL)
    run = secrets.token_hex(4)
    try:
        with _as_archive(bundle) as archive:
            phone.run("push", str(archive), PUSHED.format(run=run))
        phone.run("shell", "chmod", "644", PUSHED.format(run=run))
        _start(phone, request, run)
        note(f"phone {chosen} measures for some {request.sustained_s / 60 + 1:.0f} minutes; leave it alone meanwhile")
        answer = _await_answer(phone, request, run, wait)
    finally:
        # Nothing is left behind; a phone that was unplugged keeps it until it is restarted.
        with suppress(PhoneError):
            phone.try_run("shell", "am", "force-stop", APP)
            phone.try_run("shell", "rm", "-f", PUSHED.format(run=run), ANSWER.format(run=run))
    return read_phone_run(answer.encode(), f"the answer of phone {chosen}", bundle)


@contextmanager
def _as_archive(bundle: Bundle) -> Iterator[Path]:
    """The bundle as one file."""
    if bundle.path.is_file():
        yield bundle.path
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(MANIFEST_FILE, bundle.source.read(MANIFEST_FILE, max_bytes=bundle.manifest_bytes))
            for name in bundle.manifest.files:
                archive.writestr(name, bundle.read(name))
        yield path


def _start(phone: Adb, request: Request, run: str) -> None:
    # A phone that sleeps runs on its slow cores.
    phone.run("shell", "input", "keyevent", "KEYCODE_WAKEUP")
    extras = ["--es", "run", run, "--es", "bundle", PUSHED.format(run=run)]
    numbers = {"seconds": f"{request.sustained_s:.0f}", "repeats": request.repeats, "threads": request.num_threads}
    for name, number in numbers.items():
        extras += ["--ei", name, str(number)]
    said = phone.run("shell", "am", "start", "-S", "-W", "-n", ACTIVITY, *extras, fix=FIX_INSTALL)
    if "Error" in said or "Exception" in said:
        raise PhoneError(f"the app's benchmark could not be started: {said}", fix=FIX_INSTALL)


def _await_answer(phone: Adb, request: Request, run: str, wait: Callable[[float], None]) -> str:
    waited_s = 0.0
    while waited_s < request.limit_s:
        wait(POLL_S)
        waited_s += POLL_S
        # In this order: an app that answers and ends between the two calls has answered.
        is_alive = phone.try_run("shell", "pidof", APP)[0] == 0
        code, said = phone.try_run("shell", "cat", ANSWER.format(run=run))
        if code == 0:
            return said
        if not is_alive:
            raise PhoneError(f"the app ended before it had measured: {said}", fix="adb logcat -d -b crash says why")
    raise PhoneError(f"the phone did not answer within {request.limit_s:.0f} s", fix="look at the app's screen")
