"""What was measured and where: the commit, the sources, the name of a machine. Imports nothing of ours."""

import hashlib
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("csrc", "s2s_kernels", "python", "benchmarks", "tests")
KINDS = (".cpp", ".cu", ".cuh", ".h", ".py", ".toml")


def commit():
    """The commit that was measured, "-dirty" where files had changed since; None outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return found.stdout.strip() or None


def sources(root=ROOT, places=FOLDERS):
    """A digest of all that is built, tested and measured: what a commit names, changes since included, and where a
    copy has no commit. ``places``: the folders and files that count."""
    paths = [*root.glob("*.py"), *root.glob("*.toml")]
    for name in places:
        place = root / name
        paths += [path for path in ([place] if place.is_file() else place.rglob("*")) if path.suffix in KINDS]
    made = hashlib.sha256()
    for path in sorted(paths):
        made.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return made.hexdigest()[:16]


def processor(described):
    """A CPU's name and its instruction set: where machines are rented, processors of one name differ in that."""
    capability = described.get("cpu_capability")
    return f"{described['cpu']} ({capability})" if capability else described["cpu"]


def slug(described, suite):
    """A folder name of a machine: its GPU for that suite, else its CPU and cores."""
    if suite == "gpu" and described["gpu"]:
        name = described["gpu"]
    else:
        name = f"{processor(described)} {described['cores']} cores"
    name = re.sub(r"\(R\)|\(TM\)|processor|cpu|@", " ", name, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
