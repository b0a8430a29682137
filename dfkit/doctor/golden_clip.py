"""The golden clip on its way through this machine: decoding, faces, sound, and the workspace's newest bundle.

Run as `python -m dfkit.doctor.golden_clip BUNDLE` in a process of its own, since interpreters are native code and may
end it; prints its checks as one JSON object. What decoding, faces and sound have to give stands in `reference.json`,
which `python -m tools.doctor_files` writes. A bundle brings golden values of its own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from dfkit.clip import CLIP2S
from dfkit.doctor.checks import Check
from dfkit.errors import DfkitError, one_line
from dfkit.export.golden_head import VIDEO
from dfkit.measures.child_process import run_for_json
from dfkit.media.faces import VARIANTS, FaceModels
from dfkit.runtime import video_stages
from dfkit.runtime.bundle import open_bundle
from dfkit.runtime.golden_video import VideoTolerance
from dfkit.runtime.replay_video import largest, replay_video

REFERENCE_FILE = Path(__file__).with_name("reference.json")
AREA = "golden clip"
WINDOW = 320
"""Samples of a window whose loudness is compared: 20 ms."""
SOUND_TOLERANCE = 0.01
"""Largest difference of a window's loudness against the loudest window; decoders of AAC differ by rounding, 1e-4."""
TIMEOUT_S = 300
"""Decoding, faces and sound take 3 s, a bundle's replay 10 s; a machine with much else to do ten times that."""
TOLERANCE = VideoTolerance()
FIX_PACKAGES = "pip install --force-reinstall dfkit (or the package named), and report what dfkit doctor --json says"


def golden_checks(bundle: Path | None) -> list[Check]:
    """Runs the golden clip in a process of its own.

    Args:
        bundle: The newest of the workspace; None where it has none.
    """
    command = [sys.executable, "-m", "dfkit.doctor.golden_clip", *([] if bundle is None else [str(bundle)])]
    try:
        answer = run_for_json(command, name="the golden clip's process", no_answer="no answer", timeout_s=TIMEOUT_S)
    except DfkitError as error:
        return [Check(AREA, "golden clip", "off", error.found, FIX_PACKAGES)]
    return [Check(**each) for each in answer["checks"]]


def stage_values() -> dict[str, Any]:
    """What decoding, faces and sound make of the golden clip here, as `reference.json` stores it."""
    video = video_stages.decode_grid(VIDEO, CLIP2S.fps)
    sound = video_stages.clip_sound(VIDEO, CLIP2S, first_picture_s=video.first_picture_s, starts=[0])[0]
    faces = {
        variant: video_stages.box_rows(
            video_stages.follow_faces(video, CLIP2S, FaceModels(variant)), len(video.times_s)
        ).tolist()
        for variant in VARIANTS
    }
    return {
        "times_s": [round(t, 6) for t in video.times_s],
        "planes": [list(planes) for planes in video.hashes],
        "boxes": {name: [[round(value, 3) for value in row] for row in rows] for name, rows in faces.items()},
        "sound_rms": [round(float(value), 6) for value in loudness(sound)],
    }


def loudness(sound: np.ndarray) -> np.ndarray:
    """Root mean square of each whole window, (num_samples,) float32 to (num_windows,) float64."""
    whole = sound[: len(sound) // WINDOW * WINDOW].astype(np.float64).reshape(-1, WINDOW)
    return np.asarray(np.sqrt(np.mean(whole**2, axis=1)))


def stage_checks() -> list[Check]:
    """Decoding, faces and sound against the reference."""
    stored = json.loads(REFERENCE_FILE.read_text(encoding="utf-8"))
    try:
        values = stage_values()
    except Exception as error:  # whatever a broken package raises is the finding
        found = f"{type(error).__name__}: {one_line(error)}"
        return [Check(AREA, "decoding, faces, sound", "off", found, FIX_PACKAGES)]
    return [_decoding(values, stored), *_faces(values, stored), _sound(values, stored)]


def _decoding(found: dict[str, Any], stored: dict[str, Any]) -> Check:
    same = sum(one == other for one, other in zip(found["planes"], stored["planes"], strict=False))
    number = len(stored["planes"])
    late_s = largest(np.array(found["times_s"]), np.array(stored["times_s"]))
    told = f"{same} of {number} pictures bit for bit, times within {late_s:.4f} s"
    if same == number == len(found["planes"]) and late_s <= TOLERANCE.times_s:
        return Check(AREA, "decoding", "ok", told)
    return Check(AREA, "decoding", "off", told, FIX_PACKAGES)


def _faces(found: dict[str, Any], stored: dict[str, Any]) -> list[Check]:
    checks = []
    for variant in VARIANTS:
        apart_px = largest(np.array(found["boxes"][variant]), np.array(stored["boxes"][variant]))
        told = f"boxes within {apart_px:.3f} px, {TOLERANCE.boxes_px:g} are allowed"
        fine = apart_px <= TOLERANCE.boxes_px
        checks.append(Check(AREA, f"faces ({variant})", "ok" if fine else "off", told, None if fine else FIX_PACKAGES))
    return checks


def _sound(found: dict[str, Any], stored: dict[str, Any]) -> Check:
    ours, theirs = np.array(found["sound_rms"]), np.array(stored["sound_rms"])
    apart = largest(ours, theirs) / float(theirs.max())
    told = f"loudness of every 20 ms within {100 * apart:.2f} %, {100 * SOUND_TOLERANCE:g} % are allowed"
    fine = apart <= SOUND_TOLERANCE
    return Check(AREA, "sound", "ok" if fine else "off", told, None if fine else FIX_PACKAGES)


def model_check(bundle: str | None) -> Check:
    """The bundle's own golden video through its graphs."""
    if bundle is None:
        return Check(AREA, "model", "missing", "no bundle in the workspace's exports/", "dfkit export --int8")
    name, fix = f"model of {Path(bundle).name}", f"dfkit verify {bundle} says at which step; then dfkit export again"
    try:
        replayed = replay_video(open_bundle(bundle))
    except DfkitError as error:
        return Check(AREA, name, "off", error.found, error.fix or fix)
    except Exception as error:  # whatever a broken package raises is the finding
        return Check(AREA, name, "off", f"{type(error).__name__}: {one_line(error)}", fix)
    if not replayed.has_video:
        status: Any = "off" if replayed.needs_video else "missing"
        return Check(AREA, name, status, replayed.summary()[0], "dfkit export again, from a model under clip2s")
    failed = [row.name for row in replayed.rows if not row.passed]
    if failed or not replayed.rows:
        found = f"{len(failed)} of {len(replayed.rows)} steps depart, the first is {failed[0] if failed else 'none'}"
        return Check(AREA, name, "off", found, fix)
    return Check(AREA, name, "ok", f"all {len(replayed.rows)} steps from file to verdict within their tolerances")


def main(arguments: list[str]) -> None:
    """Prints the checks."""
    checks = [*stage_checks(), model_check(arguments[0] if arguments else None)]
    print(json.dumps({"checks": [vars(check) for check in checks]}))


if __name__ == "__main__":
    main(sys.argv[1:])
