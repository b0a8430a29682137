"""Unpacks a Java of Debian for arm64 that runs under qemu, so that the natives of linux-arm64 can be tested here.

    python -m tools.android.emulated_arm --out android_demo/build/arm64

`OUT/bin/java` is then a Java that says aarch64 of itself. Nothing is installed: packages are fetched into OUT and
unpacked there, by any user of a Debian. It proves numbers and says nothing about speed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

PACKAGES = ("openjdk-17-jre-headless", "libc6", "libstdc++6", "zlib1g", "libgcc-s1")
JAVA = "usr/lib/jvm/java-17-openjdk-arm64/bin/java"
QEMU = "qemu-aarch64"
# What is compiled twice, by Java and by qemu, should be compiled quickly.
OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
PROGRAMS = {QEMU: "qemu-user", "apt-get": "apt", "dpkg": "dpkg"}


def fetch(folder: Path) -> list[Path]:
    """Fetches the packages of the other architecture, with lists and cache of their own.

    Args:
        folder: Exists.
    Returns:
        The .deb files.
    Raises:
        SystemExit: apt cannot reach its servers, or they lack a package.
    """
    lists, cache, packages = folder / "lists", folder / "cache", folder / "packages"
    for made in (lists / "partial", cache / "archives" / "partial", packages):
        made.mkdir(parents=True, exist_ok=True)
    settings = {
        "Dir::State::lists": lists,
        "Dir::Cache": cache,
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    _run("apt-get", *options, "-qq", "update", folder=packages)
    _run("apt-get", *options, "-qq", "download", *PACKAGES, folder=packages)
    return sorted(packages.glob("*.deb"))


def make(out: Path) -> None:
    """Makes the Java.

    Args:
        out: Folder; what lies there is replaced.
    Raises:
        SystemExit: A program is missing, or one failed; what it said is the message.
    """
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        raise SystemExit(f"emulated ARM needs Debian's packages. Fix: apt-get install {' '.join(missing)}")
    out = out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    root, fetched = out / "root", out / "fetched"
    root.mkdir(parents=True)
    for package in fetch(fetched):
        _run("dpkg", "-x", package, root, folder=out)
    shutil.rmtree(fetched)
    program = out / "bin" / "java"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {QEMU} -L "{root}" "{root / JAVA}" {OPTIONS} "$@"\n', encoding="utf-8")
    program.chmod(0o755)


def _run(*command: object, folder: Path) -> None:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{done.stdout}\n{words[0]} ended with {done.returncode}: {' '.join(words)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    make(parser.parse_args().out)
