"""Processor, decoders, and places to write to."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import av

from dfkit.doctor.checks import Check
from dfkit.files import CACHE_VARIABLE, cache_folder
from dfkit.measures.environment import cpu_model, memory_gb, usable_cores

X86_FLAGS = {"AVX2": ("avx2",), "AVX-512 VNNI": ("avx512_vnni",), "AVX VNNI": ("avx_vnni",), "AMX": ("amx_int8",)}
"""Names in /proc/cpuinfo."""
ARM_FLAGS = {"NEON": ("asimd", "neon"), "NEON dot product": ("asimddp",), "I8MM": ("i8mm",), "SVE": ("sve",)}
MAC_KEYS = {"AVX2": "hw.optional.avx2_0", "AVX-512 VNNI": "hw.optional.avx512vnni", "NEON": "hw.optional.neon",
            "NEON dot product": "hw.optional.arm.FEAT_DotProd", "I8MM": "hw.optional.arm.FEAT_I8MM"}  # fmt: skip
WINDOWS_NUMBERS = {"AVX2": 40, "AVX-512": 41, "NEON": 19, "NEON dot product": 43}
"""Of IsProcessorFeaturePresent."""
X86 = ("x86_64", "amd64", "i386", "i686", "x86")
NEEDED = {"x86": "AVX2", "arm": "NEON"}
"""Without it the runtimes take their slowest kernels, or do not start."""
DECODERS = {
    "H.264": ("h264",),
    "HEVC": ("hevc",),
    "VP8": ("vp8", "libvpx"),
    "VP9": ("vp9", "libvpx-vp9"),
    "AV1": ("libdav1d", "av1", "libaom-av1"),
    "MPEG-4": ("mpeg4",),
    "MPEG-2": ("mpeg2video",),
    "WMV": ("wmv2",),
    "AAC": ("aac",),
    "MP3": ("mp3float", "mp3"),
    "Opus": ("opus", "libopus"),
    "Vorbis": ("vorbis", "libvorbis"),
    "AC-3": ("ac3",),
    "FLAC": ("flac",),
    "PCM": ("pcm_s16le",),
    "AMR": ("amrnb", "libopencore_amrnb"),
}
"""Names of FFmpeg's decoders, of which one is enough."""
MIN_FREE_GB = 1.0
"""A run's checkpoints, a bundle and their temporary copies of the full-width teacher take about half of that."""


def processor_checks() -> list[Check]:
    """The processor's name, and those of its features that INT8 arithmetic is fast with."""
    there, absent = processor_features()
    memory = memory_gb()
    size = "" if memory is None else f", {memory:.1f} GB of memory"
    checks = [Check("processor", "cores", "ok", f"{cpu_model()}: {usable_cores()} usable{size}")]
    if not there and not absent:
        return [*checks, Check("processor", "features", "ok", "this system does not tell them")]
    family = "x86" if platform.machine().lower() in X86 else "arm"
    found = f"{', '.join(there) or 'none of those looked for'}; not there: {', '.join(absent) or 'none'}"
    if NEEDED[family] in absent:
        fix = f"take a machine with {NEEDED[family]} (x86: since 2013); in a virtual one choose the host's processor"
        return [*checks, Check("processor", "features", "off", f"{found}; the runtimes need {NEEDED[family]}", fix)]
    return [*checks, Check("processor", "features", "ok", found)]


def processor_features() -> tuple[list[str], list[str]]:
    """Features that are there, and those that are not; both empty where the system does not tell."""
    known = _features_of_system()
    return [name for name, there in known.items() if there], [name for name, there in known.items() if not there]


def _features_of_system() -> dict[str, bool]:
    if sys.platform == "darwin":
        return {name: value for name, key in MAC_KEYS.items() if (value := _sysctl(key)) is not None}
    if sys.platform == "win32":
        is_present = ctypes.windll.kernel32.IsProcessorFeaturePresent
        names = ("AVX2", "AVX-512") if platform.machine().lower() in X86 else ("NEON", "NEON dot product")
        return {name: bool(is_present(WINDOWS_NUMBERS[name])) for name in names}
    try:
        return features_in(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return {}


def features_in(cpuinfo: str) -> dict[str, bool]:
    """Features by what Linux writes in /proc/cpuinfo; empty where it lists none."""
    found = re.search(r"^(flags|Features)\s*:(.*)$", cpuinfo, re.M)
    if found is None:
        return {}
    words, names = set(found[2].split()), X86_FLAGS if found[1] == "flags" else ARM_FLAGS
    return {name: any(flag in words for flag in flags) for name, flags in names.items()}


def _sysctl(key: str) -> bool | None:
    try:
        done = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() == "1"


def decoder_checks() -> list[Check]:
    """One line for all decoders of PyAV that are there, and one for each that is not."""
    there = [name for name, decoders in DECODERS.items() if any(_decodes(each) for each in decoders)]
    versions = f"PyAV {av.__version__}"
    checks = [Check("decoders", "PyAV", "ok", f"{versions} decodes {', '.join(there)}")]
    fix = "pip install --force-reinstall --only-binary av av; a build of one's own needs FFmpeg with it"
    return checks + [
        Check("decoders", name, "off", f"{versions} has no decoder for it", fix)
        for name in DECODERS
        if name not in there
    ]


def _decodes(name: str) -> bool:
    try:
        av.codec.Codec(name, "r")
    except (ValueError, av.error.FFmpegError):
        return False
    return True


def place_checks(workspace: Path) -> list[Check]:
    """Workspace and cache: whether files can be written there, and how much room is left."""
    checks = [_write_check("workspace", workspace, "choose another place with --workspace, or change its owner")]
    try:
        cache = cache_folder("doctor").parent
    except RuntimeError:
        checks.append(Check("places", "cache", "off", "this user has no home folder", f"set {CACHE_VARIABLE}"))
    else:
        checks.append(_write_check("cache", cache, f"set {CACHE_VARIABLE} to a folder that can be written"))
    free_gb = shutil.disk_usage(nearest_folder(workspace)).free / 1e9
    if free_gb < MIN_FREE_GB:
        found = f"{free_gb:.2f} GB are free in {workspace}, at least {MIN_FREE_GB:g} GB are needed"
        return [*checks, Check("places", "disk", "off", found, "free space, or choose another --workspace")]
    return [*checks, Check("places", "disk", "ok", f"{free_gb:.1f} GB are free in {workspace}")]


def _write_check(name: str, folder: Path, fix: str) -> Check:
    """Writes a file that is gone at once; a folder that is not there yet is tried in the nearest that is."""
    there = nearest_folder(folder)
    if folder.exists() and not folder.is_dir():
        return Check("places", name, "off", f"{folder.absolute()} is a file, not a folder", fix)
    try:
        with tempfile.TemporaryFile(dir=there, prefix=".tmp-dfkit-") as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        found = f"{folder.absolute()} cannot be written: {error.strerror or error}"
        return Check("places", name, "off", found, fix)
    made = "" if folder.exists() else ", made when it is needed"
    return Check("places", name, "ok", f"{folder.absolute()} can be written{made}")


def nearest_folder(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    absolute = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would follow links, and absolute() keeps '..'
    return next(each for each in (absolute, *absolute.parents) if each.is_dir())
