"""Measurements by phones: asked through adb, by a conversation that a stand-in replays, and sent as a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dfkit.benchmarks.adb import ACTIVITY, Adb, Request, choose_phone, find_adb, measure_on_phone
from dfkit.benchmarks.bench import PhoneSource, bench
from dfkit.benchmarks.phone import read_phone_file
from dfkit.benchmarks.rows import phone_rows
from dfkit.errors import DfkitError, PhoneError
from dfkit.runtime.bundle import Bundle
from tests.benchmarks.phone_runs import phone_answer

HERE = Path(__file__).parent
Calls = list[dict[str, Any]]


def recorded() -> Calls:
    """The conversation of a measurement that goes well."""
    return json.loads((HERE / "adb_conversation.json").read_text(encoding="utf-8"))


def fake_adb(folder: Path, calls: Calls, answer: Any = None) -> Adb:
    """An adb that replays a conversation, each call in a process of its own."""
    path = folder / "conversation.json"
    path.write_text(json.dumps({"answer": answer, "calls": calls}), encoding="utf-8")
    return Adb((sys.executable, str(HERE / "fake_adb.py"), str(path)))


def num_calls(folder: Path) -> int:
    return len((folder / "conversation.log").read_text(encoding="utf-8").splitlines())


def ask(bundle: Bundle, folder: Path, calls: Calls, answer: Any = None, **options: Any) -> Any:
    adb = fake_adb(folder, calls, phone_answer(bundle) if answer is None else answer)
    return measure_on_phone(bundle, Request(), adb=adb, wait=lambda seconds: None, **options)


def test_a_phone_is_asked_and_cleaned_up(tiny_bundle: Bundle, tmp_path: Path) -> None:
    run = ask(tiny_bundle, tmp_path, recorded())
    assert run.stages["clip"].p90_ms == 45.5
    assert run.title == "<Maker> One, Android 14"
    assert num_calls(tmp_path) == len(recorded())
    (row,) = phone_rows([run])
    assert row[1] == "40.0 / 45.5 / 60.0 ms" and row[3:5] == ("310 + 95 + 55 ms", "120 MB")
    assert row[5] == "10 min: p50 40.0 to 44.0 ms, thermal state moderate, battery 38 °C"


def test_an_emulator_is_called_one(tiny_bundle: Bundle, tmp_path: Path) -> None:
    answer = phone_answer(tiny_bundle)
    answer["device"]["abi"] = "x86_64"
    assert "emulator" in ask(tiny_bundle, tmp_path, recorded(), answer).title


def without_app(calls: Calls) -> None:
    calls[1] |= {"stdout": "", "code": 1}


def full_phone(calls: Calls) -> None:
    calls[2] |= {"stdout": "", "stderr": "adb: error: failed to copy: remote No space left on device", "code": 1}
    del calls[3:10]


def old_app(calls: Calls) -> None:
    calls[5]["stdout"] = f"Error type 3\nError: Activity class {{{ACTIVITY}}} does not exist."
    del calls[6:10]


def crash(calls: Calls) -> None:
    calls[6] |= {"stdout": "", "code": 1}
    del calls[8:10]


def unplugged(calls: Calls) -> None:
    calls[7] |= {"stderr": "error: device 'R5CT1234567' not found"}
    calls[6] |= {"stdout": "", "stderr": "error: device 'R5CT1234567' not found", "code": 1}
    del calls[8:10]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (without_app, "is not installed"),
        (full_phone, "No space left on device"),
        (old_app, "could not be started"),
        (crash, "the app ended before it had measured"),
        (unplugged, "device 'R5CT1234567' not found"),
    ],
)
def test_what_goes_wrong_on_the_phone_is_said_and_cleaned_up(
    tiny_bundle: Bundle, tmp_path: Path, change: Callable[[Calls], None], expected: str
) -> None:
    calls = recorded()
    change(calls)
    with pytest.raises(PhoneError, match="Fix: ") as caught:
        ask(tiny_bundle, tmp_path, calls)
    assert expected in str(caught.value)
    # Without the app nothing was pushed yet.
    assert num_calls(tmp_path) == (2 if change is without_app else len(calls))


def test_what_the_app_says_of_a_fault_is_the_message(tiny_bundle: Bundle, tmp_path: Path) -> None:
    answer = {"schema_version": 1, "error": "model.tflite was changed"}
    with pytest.raises(PhoneError, match="the app measured nothing: model"):
        ask(tiny_bundle, tmp_path, recorded(), answer)


def test_a_phone_that_never_answers_is_given_up(tiny_bundle: Bundle, tmp_path: Path) -> None:
    calls = recorded()
    request = Request(sustained_s=0.0, repeats=1)
    words = calls[5]["words"]
    words[words.index("seconds") + 1], words[words.index("repeats") + 1] = "0", "1"
    waiting = [calls[6], calls[7]]
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:  # the rest of the wait goes by at once
            object.__setattr__(request, "sustained_s", -1e6)

    adb = fake_adb(tmp_path, [*calls[:6], *waiting, *waiting, *calls[10:]])
    with pytest.raises(PhoneError, match="did not answer"):
        measure_on_phone(tiny_bundle, request, adb=adb, wait=wait)
    assert num_calls(tmp_path) == 12


@pytest.mark.parametrize(
    ("listed", "serial", "expected"),
    [
        ("", None, "no phone is connected"),
        ("A  unauthorized usb:1-1 transport_id:1", None, "A is not ready: unauthorized"),
        ("A  no permissions (missing udev rules?); see [http://x] usb:1-1", None, "not ready: no permissions (missing"),
        ("A  device usb:1-1\nB  device usb:1-2", None, "several phones are connected: A (device), B (device)"),
        ("A  device usb:1-1", "C", "C is not connected, but A (device)"),
        ("A  offline", "A", "A is not ready: offline"),
    ],
)
def test_which_phone_is_meant_has_to_be_clear(tmp_path: Path, listed: str, serial: str | None, expected: str) -> None:
    calls = [{"words": ["devices", "-l"], "stdout": f"List of devices attached\n{listed}\n"}]
    with pytest.raises(PhoneError, match="Fix: ") as caught:
        choose_phone(fake_adb(tmp_path, calls), serial)
    assert expected in str(caught.value)


def test_without_adb_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("ANDROID_HOME", raising=False)
    monkeypatch.delenv("ANDROID_SDK_ROOT", raising=False)
    with pytest.raises(PhoneError, match="platform-tools"):
        find_adb()
    with pytest.raises(PhoneError, match="cannot be started"):
        choose_phone(Adb((str(tmp_path / "adb"),)), None)


def test_adb_is_found_in_the_sdk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "platform-tools" / ("adb.exe" if sys.platform == "win32" else "adb")
    program.parent.mkdir()
    program.write_bytes(b"")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path))
    assert find_adb() == (str(program),)


def change_of(*keys: str | int, to: Any) -> Callable[[Any], None]:
    def change(tree: Any) -> None:
        for key in keys[:-1]:
            tree = tree[key]
        tree[keys[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (change_of("schema_version", to=2), ["schema_version 2, this dfkit reads 1", "update dfkit"]),
        (change_of("schema_version", to="1"), ['schema_version "1"']),
        (change_of("measured_by", to="desktop"), ["measured_by"]),
        (change_of("extra", to=1), ["extra: Extra inputs"]),
        (change_of("device", "api", to=-1), ["device.api"]),
        (change_of("latency_ms", "tflite mixed_int8", "clip", to={}), ["clip.p50_ms: Field required"]),
        (change_of("latency_ms", "tflite mixed_int8", to={}), ["lacks clip, encode_clip"]),
        (change_of("sustained", 0, "clip", "p90_ms", to=1.0), ["do not rise"]),
        (change_of("sustained", 0, "clip", "p50_ms", to=float("nan")), ["p50_ms"]),
        (change_of("files", "model.tflite", to="0" * 64), ["model.tflite has SHA-256 0000"]),
        (change_of("files", to={"x.tflite": "0"}), ["model.tflite was not measured", "x.tflite is not in the bundle"]),
        (change_of("golden", "passed", to=False), ["calculates differently"]),
    ],
)
def test_a_file_that_is_off_is_refused_and_says_why(
    tiny_bundle: Bundle, tmp_path: Path, change: Callable[[Any], None], expected: list[str]
) -> None:
    answer = phone_answer(tiny_bundle)
    change(answer)
    path = tmp_path / "phone.json"
    path.write_text(json.dumps(answer), encoding="utf-8")
    with pytest.raises(PhoneError, match="Fix: ") as caught:
        read_phone_file(path, tiny_bundle)
    assert all(part in str(caught.value) for part in expected), caught.value


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff\xfe", b'{"schema_version": 1', b"[" * 100_000])
def test_a_file_of_another_kind_is_refused(tiny_bundle: Bundle, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "phone.json"
    path.write_bytes(content)
    with pytest.raises(PhoneError):
        read_phone_file(path, tiny_bundle)
    with pytest.raises(PhoneError, match="cannot be read"):
        read_phone_file(tmp_path / "none.json", tiny_bundle)


def test_files_that_were_sent_are_read(tiny_bundle: Bundle, tmp_path: Path) -> None:
    sent = [tmp_path / "one.json", tmp_path / "two.json"]
    for path in sent:
        path.write_text(json.dumps(phone_answer(tiny_bundle)), encoding="utf-8")
    runs = PhoneSource(imports=tuple(sent)).read(tiny_bundle, repeats=3, num_threads=1)
    assert [run.device.model for run in runs] == ["One", "One"]


def test_a_phone_is_asked_before_anything_is_measured_here(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("ANDROID_HOME", raising=False)
    monkeypatch.delenv("ANDROID_SDK_ROOT", raising=False)
    with pytest.raises(DfkitError, match="adb is not installed"):
        bench(tiny_folder, out_dir=tmp_path / "out", phones=PhoneSource(is_asked=True))
    assert not (tmp_path / "out").exists()
