"""Run the built wheel on other processors: Debian's Python and NumPy of each, and nothing else, under qemu's user mode.

    python scripts/reference/emulate.py                            # arm64 armhf ppc64el riscv64 s390x: ten minutes
    python scripts/reference/emulate.py s390x arm64                # big-endian, and ARM
    python scripts/reference/emulate.py s390x --blas reference     # with the plain BLAS instead of OpenBLAS

Needs Debian's apt and dpkg, the network, and `pip wheel`.  Packages are unpacked below --work and used again; this
system's own packages and apt's state stay as they are.  On each processor the package tokenizes and embeds three
sentences, fills a mask, records every activation and takes fingerprints; all of it is compared with what the same wheel
gives here: float64 to 1e-12, and everything of `reproducible=True` to the last bit.  Exits with 1 where it is not so,
and with 3 where Debian's packages cannot be had.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, NoReturn, cast

ROOT = Path(__file__).parents[2]

# Debian's name: qemu's name, the folder of its libraries, and a suite: NumPy 1.24 in bookworm, 2.2 in trixie.
PROCESSORS = {
    "arm64": ("aarch64", "aarch64-linux-gnu", "trixie"),
    "armhf": ("arm", "arm-linux-gnueabihf", "bookworm"),
    "ppc64el": ("ppc64le", "powerpc64le-linux-gnu", "bookworm"),
    "riscv64": ("riscv64", "riscv64-linux-gnu", "trixie"),
    "s390x": ("s390x", "s390x-linux-gnu", "bookworm"),
}
BLAS = {"openblas": ("libopenblas0-pthread", "openblas-pthread"), "reference": ("libblas3", "blas")}

SENTENCES = ["A man is playing a guitar.", "Zoë said: “It’s 3½ °C”, twice.", "It rained."]
CLOZE = "The cat sat on the <mask>."
CLOSE = 1e-12  # of float64 on two processors.  Measured: 3e-15
CLOSE_FLOAT32 = 5e-6  # Measured: 5e-7


# --- On the processor ----------------------------------------------------------------------------------------


def probe(folder: Path) -> None:
    """What is compared, into `folder`: result.json and arrays.npz.  Imports the package and NumPy."""
    import numpy as np

    import numroberta
    from numroberta import parity

    arrays = {}
    result: dict[str, Any] = {"python": platform.python_version(), "numpy": np.__version__, "order": sys.byteorder}
    for dtype in ("float32", "float64"):
        model = numroberta.load("tiny", dtype=dtype)
        arrays[dtype] = model.encode(SENTENCES)
        exact = numroberta.load("tiny", dtype=dtype, reproducible=True)
        result[f"fingerprint {dtype}"] = parity.fingerprint(exact)
        result[f"filled {dtype}"] = exact.fill_mask(CLOZE)
        recorded = parity.trace(exact, *parity.batch(exact, SENTENCES))
        parity.save(folder / f"{dtype}.safetensors", recorded, parity.provenance(exact, SENTENCES))
        result[f"trace {dtype}"] = hashlib.sha256((folder / f"{dtype}.safetensors").read_bytes()).hexdigest()
        arrays[f"trace {dtype}"] = recorded["lm_head"]
    tokens = [model.tokenizer(text) for text in SENTENCES]
    result["tokens"] = [[encoding.ids, encoding.tokens, encoding.offsets] for encoding in tokens]
    (folder / "result.json").write_text(json.dumps(result))
    np.savez(folder / "arrays.npz", **cast(Any, arrays))


def compare(here: Path, there: Path) -> list[str]:
    """A line for each thing that differs."""
    import numpy as np

    ours, theirs = (json.loads((folder / "result.json").read_text()) for folder in (here, there))
    wrong = []
    for name, value in ours.items():
        if name not in ("python", "numpy", "order") and theirs[name] != value:
            wrong.append(f"{name}: {_shown(theirs[name])}, here {_shown(value)}")
    with np.load(here / "arrays.npz") as a, np.load(there / "arrays.npz") as b:
        for name in a.files:
            error = float(np.abs(a[name] - b[name]).max())
            most = 0.0 if name.startswith("trace") else CLOSE if name == "float64" else CLOSE_FLOAT32
            print(f"  {name}: at most {error:.1e} from here")
            if not error <= most:
                wrong.append(f"{name}: {error:.1e} from here, expected at most {most:.0e}")
    print(f"  Python {theirs['python']}, NumPy {theirs['numpy']}, {theirs['order']}-endian")
    return wrong


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 200 else f"{text[:200]}…"


# --- Here ----------------------------------------------------------------------------------------------------


def run(*command: object, **options: Any) -> str:
    """Standard output of a command; its standard error is shown if it fails."""
    found = subprocess.run([str(part) for part in command], capture_output=True, encoding="utf-8", **options)
    if found.returncode:
        sys.exit(f"{' '.join(map(str, command[:4]))} …: {found.stderr[-2000:]}")
    return found.stdout


def unpack(processor: str, suite: str, packages: list[str], folder: Path) -> Path:
    """Debian packages of a processor with all they depend on, unpacked into a folder; done once."""
    root = folder / "root"
    if (folder / "complete").exists():
        return root
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / "apt" / name).mkdir(parents=True)
    root.mkdir()
    sites = run("apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages").split()
    mirror = next((site for site in sites if site.rstrip("/").endswith("debian")), None)
    if mirror is None:
        cannot_fetch("apt knows no mirror of Debian here")
    key = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (folder / "apt" / "sources.list").write_text(f"deb [signed-by={key}] {mirror} {suite} main\n")
    (folder / "apt" / "status").touch()
    settings = {
        "APT::Architecture": processor,
        "APT::Architectures": processor,
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Dir::State": folder / "apt" / "state",
        "Dir::State::status": folder / "apt" / "status",
        "Dir::Cache": folder / "apt" / "cache",
        "Dir::Etc::sourcelist": folder / "apt" / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
    }
    options = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
    for command in (["update"], ["-y", "--no-install-recommends", "--download-only", "install", *packages]):
        found = subprocess.run(["apt-get", *options, "-q", *command], capture_output=True, encoding="utf-8")
        if found.returncode:
            cannot_fetch(found.stderr[-500:])
    for package in sorted((folder / "apt" / "cache" / "archives").glob("*.deb")):
        run("dpkg", "-x", package, root)
    shutil.rmtree(folder / "apt")
    _settle_links(root)
    (folder / "complete").touch()
    return root


def cannot_fetch(why: str) -> NoReturn:
    print(f"other processors: skipped, since their packages cannot be had: {why.strip()}", file=sys.stderr)
    sys.exit(3)


def _settle_links(root: Path) -> None:
    """Debian's /lib is a link to /usr/lib, made at installation; absolute links must not lead out of the folder."""
    for name in ("lib", "lib64", "bin", "sbin"):
        if not (root / name).exists() and (root / "usr" / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    for link in root.rglob("*"):
        if link.is_symlink() and os.readlink(link).startswith("/"):
            target = root / os.readlink(link).lstrip("/")
            link.unlink()
            link.symlink_to(os.path.relpath(target, link.parent))


def emulator(name: str, work: Path) -> Path:
    """qemu's user mode for a processor: the one that is installed, or Debian's, unpacked."""
    names = (f"qemu-{name}-static", f"qemu-{name}")
    for found in map(shutil.which, names):
        if found:
            return Path(found)
    here = run("dpkg", "--print-architecture").strip()
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    root = unpack(here, suite, ["qemu-user-static"], work / "qemu")
    return next(path for name in names if (path := root / "usr" / "bin" / name).exists())


def wheel_contents(folder: Path) -> Path:
    """The wheel, built from this checkout and unpacked: what `pip install --no-deps` would install."""
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--disable-pip-version-check", "-w", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "package")
    return folder / "package"


def main() -> int:
    if sys.argv[1:2] == ["probe"]:
        probe(Path(sys.argv[2]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("processors", nargs="*", metavar="PROCESSOR", help=f"of {', '.join(PROCESSORS)} (default: all)")
    parser.add_argument("--blas", choices=BLAS, default="openblas")
    parser.add_argument("--work", type=Path, help="keep 250 MB a processor here, to use them again")
    options = parser.parse_args()
    unknown = set(options.processors) - PROCESSORS.keys()
    if unknown:
        parser.error(f"unknown processor {', '.join(unknown)}; known are {', '.join(PROCESSORS)}")
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        print("other processors: skipped, since there is no apt-get here")
        return 0
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        package = wheel_contents(Path(temporary))
        script = shutil.copy(__file__, temporary)
        here = Path(temporary) / "here"
        here.mkdir()
        plain = {"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(package)}
        run(sys.executable, script, "probe", here, env=os.environ | plain)
        for processor in options.processors or PROCESSORS:
            name, libraries, suite = PROCESSORS[processor]
            library, own = BLAS[options.blas]
            packages = ["python3-minimal", "python3", "python3-numpy", library]
            root = unpack(processor, suite, packages, work / f"{processor}-{suite}-{options.blas}")
            there = Path(temporary) / processor
            there.mkdir()
            usr = root / "usr"
            paths = [usr / "lib" / libraries / own, usr / "lib" / libraries / "lapack", usr / "lib" / libraries]
            settings = plain | {
                "HOME": temporary,
                "PYTHONHOME": str(usr),
                "PYTHONPATH": f"{package}:{usr / 'lib/python3/dist-packages'}",
                "LD_LIBRARY_PATH": ":".join(map(str, [*paths, root / "lib" / libraries])),
            }
            inside = [part for pair in settings.items() for part in ("-E", "=".join(pair))]
            print(f"{processor} ({suite}, {options.blas})", flush=True)
            run(emulator(name, work), "-L", root, *inside, usr / "bin" / "python3", script, "probe", there, env={})
            wrong = compare(here, there)
            print("".join(f"  DIFFERS {line}\n" for line in wrong) or "  the same bits\n", end="", flush=True)
            failed += bool(wrong)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
