"""Builds the APK around what Maven compiles: resources before, packing and signing behind. The app's pom calls it.

    python apk.py resources --app android_demo/app --bundle BUNDLE --android ANDROID_ALL.jar
    python apk.py package   --app android_demo/app --android ... --r8 ... --natives ... --classes ... --out demo.apk

Only the standard library: it runs with any Python 3.11. aapt2, zipalign and apksigner are Debian's.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterable
from pathlib import Path

MIN_SDK, TARGET_SDK = 26, 34
MAIN_ABI = "arm64-v8a"
"""Of phones; the APK of another one has its name behind that of the app."""
PROPERTIES = {
    abi: f"org/bytedeco/javacpp/properties/android-{name}.properties"
    for abi, name in ((MAIN_ABI, "arm64"), ("x86_64", "x86_64"))
}
"""JavaCPP's loader reads it on the phone; the dexer drops what is no class."""
NATIVES = "lib/"
KEY_ALIAS, KEY_PASSWORD = "dfkit", "dfkit-demo"
"""Of a key that is made here and kept nowhere else: whoever publishes the app signs it with a key of their own."""


def link_resources(app: Path, bundle: Path, android: Path, aar: list[Path]) -> None:
    """Compiles the resources and links them with the bundle as assets: `target/base.apk` and `target/generated`.

    Args:
        app: Folder of the app's module.
        bundle: Folder of the bundle that goes into the APK.
        android: The framework with its resources.
        aar: Android's archives whose classes the tests need, in which Maven does not look: to `target/aar`.
    """
    target, sources = app / "target", app / "src" / "main"
    assets, generated = target / "assets", target / "generated"
    for folder in (assets, generated):
        shutil.rmtree(folder, ignore_errors=True)
    generated.mkdir(parents=True)
    shutil.copytree(bundle, assets / "bundle")
    (target / "aar").mkdir(exist_ok=True)
    for path in aar:
        with zipfile.ZipFile(path) as archive:
            (target / "aar" / path.with_suffix(".jar").name).write_bytes(archive.read("classes.jar"))
    _run("aapt2", "compile", "--dir", sources / "res", "-o", target / "res.zip")
    # With "tflite" in place of ".tflite" the models are deflated without a word.
    linked = ["-o", target / "base.apk", "-I", android, "--manifest", sources / "AndroidManifest.xml"]
    made = ["--java", generated, "-A", assets, "-0", ".tflite"]
    sdk = ["--min-sdk-version", MIN_SDK, "--target-sdk-version", TARGET_SDK]
    _run("aapt2", "link", *linked, *made, *sdk, target / "res.zip", quiet="Unknown chunk type '200'")


def package(
    app: Path,
    android: Path,
    oldest: Path,
    r8: Path,
    natives: list[tuple[str, Path]],
    properties: Path,
    classes: list[Path],
    libraries: list[Path],
    out: Path,
) -> None:
    """Dexes, then packs, aligns and signs an APK for each ABI.

    Args:
        app: Folder of the app's module.
        android: The framework.
        oldest: The framework of the oldest phones.
        r8: The dexer.
        natives: ABI and an archive with `lib/<ABI>/*.so`, several for each.
        properties: Archive with `PROPERTIES`.
        classes: Archives, or folders of compiled classes: the app's own.
        libraries: Archives of what it uses.
        out: The APK for phones, which is written last.
    """
    target = app / "target"
    dex = target / "dex"
    own = [path if path.is_file() else _pack(path, target / "classes.jar") for path in classes]
    digest, known = _digest([*own, *libraries], app / "rules.pro"), dex / "inputs.sha256"
    if not known.exists() or known.read_text() != digest:
        _refuse_newer_calls(oldest, r8, own, libraries)
        _shrink(dex, app / "rules.pro", android, r8, [*own, *libraries])
        known.write_text(digest)
    for abi in sorted({abi for abi, _ in natives}, key=lambda abi: abi == MAIN_ABI):
        unsigned = target / "unsigned.apk"
        shutil.copyfile(target / "base.apk", unsigned)
        with zipfile.ZipFile(unsigned, "a", zipfile.ZIP_DEFLATED) as apk:
            for file in sorted(dex.glob("*.dex")):
                apk.write(file, file.name)
            for archive in (path for of, path in natives if of == abi):
                _copy_entries(archive, apk, f"{NATIVES}{abi}/")
            _copy_entries(properties, apk, PROPERTIES[abi])
        _run("zipalign", "-f", "4", unsigned, target / "aligned.apk")
        _sign(target / "aligned.apk", out if abi == MAIN_ABI else out.with_stem(f"{out.stem}-{abi}"))


def _refuse_newer_calls(oldest: Path, r8: Path, own: list[Path], libraries: list[Path]) -> None:
    """Ends where a class or method is used that the oldest phones lack, guarded or not."""
    known = [word for path in (oldest, _java_home(), *libraries) for word in ("--lib", path)]
    sources = [word for path in own for word in ("--source", path)]
    _run(
        "java", "-Xmx1g", "-cp", r8, "com.android.tools.r8.tracereferences.TraceReferences", "--check", *known, *sources
    )


def _shrink(dex: Path, rules: Path, android: Path, r8: Path, program: list[Path]) -> None:
    """Dexes what is used, which takes half a minute of a core."""
    shutil.rmtree(dex, ignore_errors=True)
    dex.mkdir()
    # The framework's archive lacks java.lang.Object, which the JDK has.
    libraries = ["--lib", android, "--lib", _java_home()]
    options = ["--release", "--min-api", MIN_SDK, "--pg-conf", rules, "--output", dex]
    _run("java", "-Xmx1500m", "-cp", r8, "com.android.tools.r8.R8", *options, *libraries, *program)


def _digest(archives: list[Path], rules: Path) -> str:
    """Of all classes and the rules, whenever they were written."""
    digest = hashlib.sha256(rules.read_bytes())
    for archive in archives:
        with zipfile.ZipFile(archive) as file:
            entries = sorted((entry.filename, entry.CRC, entry.file_size) for entry in file.infolist())
        digest.update(repr(entries).encode())
    return digest.hexdigest()


def _sign(aligned: Path, out: Path) -> None:
    key = out.with_name("demo.keystore")
    out.parent.mkdir(parents=True, exist_ok=True)
    if not key.exists():
        made = ["-genkeypair", "-keystore", key, "-storetype", "PKCS12", "-keyalg", "RSA", "-keysize", 3072]
        known = ["-alias", KEY_ALIAS, "-storepass", KEY_PASSWORD, "-validity", 10000, "-dname", "CN=dfkit demo"]
        _run("keytool", *made, *known)
    part = out.with_suffix(".part")
    signed_by = ["--ks", key, "--ks-key-alias", KEY_ALIAS, "--ks-pass", f"pass:{KEY_PASSWORD}"]
    _run(
        "apksigner",
        "sign",
        *signed_by,
        "--min-sdk-version",
        MIN_SDK,
        "--v4-signing-enabled",
        "false",
        "--out",
        part,
        aligned,
    )
    part.replace(out)


def _pack(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*.class")):
            file.write(path, path.relative_to(folder).as_posix())
    return archive


def _copy_entries(archive: Path, apk: zipfile.ZipFile, prefix: str) -> None:
    with zipfile.ZipFile(archive) as source:
        for name in sorted(n for n in source.namelist() if n.startswith(prefix) and not n.endswith("/")):
            apk.writestr(name, source.read(name))


def _java_home() -> Path:
    compiler = shutil.which("javac")
    assert compiler is not None, "make looks for it first"
    return Path(os.environ.get("JAVA_HOME") or Path(compiler).resolve().parents[1])


def _run(*command: object, quiet: str = "") -> None:
    """Runs a program; where it fails, what it said is the error."""
    words = [str(word) for word in command]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    said = [line for line in done.stdout.splitlines() if line and not (quiet and quiet in line)]
    if said:
        print("\n".join(said))
    if done.returncode:
        raise SystemExit(f"{words[0]} ended with {done.returncode}: {' '.join(words)}")


def _abi_and_path(text: str) -> tuple[str, Path]:
    abi, _, path = text.partition("=")
    if abi not in PROPERTIES:
        raise argparse.ArgumentTypeError(f"'{abi}' is none of {', '.join(PROPERTIES)}")
    return abi, Path(path)


def main(arguments: Iterable[str] | None = None) -> None:
    """Parses and calls one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    resources, apk = steps.add_parser("resources"), steps.add_parser("package")
    for step in (resources, apk):
        step.add_argument("--app", type=Path, required=True)
        step.add_argument("--android", type=Path, required=True)
    resources.add_argument("--bundle", type=Path, required=True)
    resources.add_argument("--aar", type=Path, default=[], action="append")
    for name in ("--oldest", "--r8", "--properties", "--out"):
        apk.add_argument(name, type=Path, required=True)
    for name in ("--classes", "--libraries"):
        apk.add_argument(name, type=Path, required=True, action="append")
    apk.add_argument("--natives", type=_abi_and_path, required=True, action="append", help="ABI=ARCHIVE")
    values = vars(parser.parse_args(None if arguments is None else list(arguments)))
    if values.pop("step") == "resources":
        link_resources(**values)
    else:
        package(**values)


if __name__ == "__main__":
    main()
