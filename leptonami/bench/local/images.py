"""Container images made here, without a network.

What they are made of is like what real images are made of:

- Images of at least 256 MiB have the machine's own interpreter with numpy and scipy, moved to /opt/python: 213 MiB in
  2,000 files here, small ones and large libraries. Their sizes and how far they compress (3.0) are real.
- Further small files have log-normal sizes (median 4 KiB) and words by Zipf's law: they compress about as far (3.8).
- Large files hold normal deviates in bfloat16, as a model's weights do, and compress as little (1.3).

The application (busybox, static) reads a share of the small and large files, imports numpy and scipy if they are there,
and then prints READY, its first output. The share is 6.4 % of the bytes: what containers read at start on average
(Harter and others, Slacker, FAST '16).

The same specification on the same machine gives the same digests; those with Python depend on what is installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from leptonami.bench.local.oci import Built, File, Layout
from leptonami.errors import InputError

__all__ = ["APP", "PAUSE", "Spec", "build"]

PAUSE, APP = "pause", "app"
MIB = 1024 * 1024
PYTHON_FROM_MIB = 256
MEDIAN, SIGMA = 4096, 1.5  # of the small files' log-normal sizes
LEFT_OUT = re.compile(
    r"(^|/)(__pycache__|tests?|idlelib|tkinter|ensurepip|site-packages|dist-packages|config-\d.*)(/|$)"
)
IMPORTS = "import numpy, scipy.linalg"
RUN = """#!/bin/busybox sh
cd /app && /bin/busybox xargs -r /bin/busybox cat <reads | /bin/busybox sha256sum >/dev/null
if [ -x /opt/python/bin/python3 ]; then
  /opt/python/bin/python3 -c '@IMPORTS@; scipy.linalg.inv(numpy.eye(64) + 1)' || exit 1
fi
echo READY
exec /bin/busybox sleep 2147483647
""".replace("@IMPORTS@", IMPORTS)


@dataclass(frozen=True)
class Spec:
    """What an image is made of.

    Attributes
    ----------
    unpacked_mib
        Size of all files (MiB); at least as much as comes with Python, if that does.
    small_files, large_files
        How many. The small ones take half of the size at most, the large ones share the rest.
    layers, compression
        How many layers, and how they are compressed.
    seed
        Of the content.
    reads
        Share of the bytes that the application reads, besides importing numpy and scipy.
    """

    unpacked_mib: int
    small_files: int = 10_000
    large_files: int = 4
    layers: int = 4
    compression: Literal["gzip", "zstd", "none"] = "gzip"
    seed: int = 1
    reads: float = 0.064

    @property
    def python(self) -> bool:
        """Whether it has the interpreter with numpy and scipy."""
        return self.unpacked_mib >= PYTHON_FROM_MIB


def busybox() -> File:
    """Give a busybox that runs without any library."""
    found = shutil.which("busybox")
    # An interpreter in the ELF header means that it is linked dynamically.
    if found is None or b"/ld-linux" in Path(found).read_bytes()[:4096]:
        raise InputError("there is no static busybox", resource="busybox", hint="apt-get install busybox-static")
    return File("bin/busybox", Path(found).resolve(), 0o755)


def python_files() -> Iterator[File]:
    """Give the interpreter that runs this, its library, numpy and scipy, and the system's libraries that they need."""
    standard = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}))
    home = f"opt/python/lib/{standard.name}"
    interpreter = Path(sys.executable).resolve()
    found = [File("opt/python/bin/python3", interpreter, 0o755), *_tree(standard, home, LEFT_OUT)]
    for package in ("numpy", "scipy"):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise InputError(
                f"there is no {package} here", resource="image", hint=f"images below {PYTHON_FROM_MIB} MiB need none"
            )
        folder = Path(spec.origin).parent
        for each in (folder, folder.with_name(f"{package}.libs")):
            found += _tree(each, f"{home}/site-packages/{each.name}", re.compile("(^|/)(__pycache__|tests)(/|$)"))
    yield from sorted(found, key=lambda file: file.path)
    # What is mapped once numpy and scipy are imported is what the application needs; ldd knows it by its right name.
    program = f"{IMPORTS}\nprint(open('/proc/self/maps').read())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    mapped = re.findall(r" (/\S+\.so[.0-9]*)$", done.stdout, re.MULTILINE)
    listed = subprocess.run(["ldd", interpreter, *sorted(set(mapped))], capture_output=True, text=True, check=False)
    needed = re.findall(r"(?:=> |^\s+)(/\S+) \(0x", listed.stdout, re.MULTILINE)
    bundled = {PurePosixPath(file.path).name for file in found}
    for line in sorted(set(needed)):
        library = Path(line)
        if library.name.startswith("libpython"):
            yield File(f"opt/python/lib/{library.name}", library.resolve(), 0o755)
        elif library.name not in bundled:
            # The linker looks for itself where the headers say, and for the others in the folders of LD_LIBRARY_PATH.
            place = line.lstrip("/") if library.name.startswith("ld-") else f"opt/python/lib/{library.name}"
            yield File(place, library.resolve(), 0o755)


def _tree(folder: Path, to: str, left_out: re.Pattern[str]) -> list[File]:
    files = (path for path in folder.rglob("*") if path.is_file())
    names = ((path, path.relative_to(folder).as_posix()) for path in files)
    return [
        File(f"{to}/{name}", path, 0o755 if ".so" in name else 0o644)
        for path, name in names
        if not left_out.search(name)
    ]


def small_files(seed: int, count: int, most: int) -> list[File]:
    """Give small files of words, of `most` bytes together at most."""
    import numpy as np

    rng = np.random.default_rng([seed, 1])
    sizes = rng.lognormal(np.log(MEDIAN), SIGMA, count)
    sizes = (sizes * min(1.0, most / max(1.0, float(sizes.sum())))).astype(int)
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz_", dtype=np.uint8)
    ends = np.cumsum(rng.integers(2, 12, 40_000)).tolist()
    stream = rng.choice(letters, ends[-1]).tobytes()
    words = [stream[begin:end] for begin, end in itertools.pairwise([0, *ends])]
    length = min(4_000_000, 1_000 + int(sizes.sum()) // 4)
    text = b" ".join(map(words.__getitem__, (np.minimum(rng.zipf(1.15, length), len(words)) - 1).tolist()))
    starts = rng.integers(0, max(1, len(text) - int(max(sizes, default=0))), count)
    return [
        File(f"app/small/{number // 256:04d}/{number % 256:03d}.json", text[start : start + size])
        for number, (start, size) in enumerate(zip(starts.tolist(), sizes.tolist(), strict=True))
    ]


def large_file(seed: int, number: int, size: int) -> File:
    """Give a file with a model's weights: normal deviates in bfloat16, the upper half of a float32."""
    import numpy as np

    rng = np.random.default_rng([seed, 2, number])
    parts = []
    for begin in range(0, size // 2, 4 * MIB):
        weights = rng.standard_normal(min(4 * MIB, size // 2 - begin), dtype=np.float32) * np.float32(0.02)
        parts.append((weights.view(np.uint32) >> 16).astype("<u2").tobytes())
    return File(f"app/large/{number:04d}.bin", b"".join(parts))


def contents(spec: Spec) -> Iterator[Iterator[File]]:
    """Give the files of each layer. Python is the first layer; the others have an equal part of everything else."""
    python = list(python_files()) if spec.python else []
    left = spec.unpacked_mib * MIB - sum(file.size for file in python)
    small = small_files(spec.seed, max(0, spec.small_files - len(python)), max(0, left) // 2)
    large = max(0, left - sum(file.size for file in small)) // spec.large_files
    reads: dict[str, int] = {}
    others = spec.layers - 1 if python and spec.layers > 1 else spec.layers

    def part(layer: int) -> Iterator[File]:
        numbers = range(layer, spec.large_files, others)
        for file in (*small[layer::others], *(large_file(spec.seed, n, large) for n in numbers)):
            reads[file.path] = file.size
            yield file
        if layer == others - 1:
            yield busybox()
            yield File("app/run", RUN.encode(), 0o755)
            yield File("app/reads", "\n".join(what_is_read(reads, spec.reads)).encode())

    if others < spec.layers:
        yield iter(python)
    for layer in range(others):
        yield itertools.chain(python if others == spec.layers and not layer else (), part(layer))


def what_is_read(sizes: dict[str, int], share: float) -> list[str]:
    """Choose evenly spread files that make up about this share of the bytes."""
    wanted, seen, chosen = share * sum(sizes.values()), 0, []
    step = int(min(1 / share, len(sizes))) if share * len(sizes) > 1 else max(1, len(sizes))
    for path in [*list(sizes)[::step], *(path for n, path in enumerate(sizes) if n % step)]:
        if seen >= wanted:
            break
        chosen.append(path.removeprefix("app/"))
        seen += sizes[path]
    return chosen


def build(layout: Layout, spec: Spec, tag: str) -> tuple[Built, Built]:
    """Make the pause image and the application's image `app:TAG`, or find them made; give both.

    Raises
    ------
    InputError
        If this machine lacks what the image is made of.
    """
    key = hashlib.sha256(repr((asdict(spec), sys.version, 1)).encode()).hexdigest()[:16]
    note = layout.folder / f"{APP}-{tag}.json"
    if note.exists():
        known = json.loads(note.read_text())
        built = [Built(**{**each, "layers": tuple(each["layers"])}) for each in known["images"]]
        blobs = [digest for each in built for digest in (each.digest, *each.layers)]
        if known["key"] == key and all(layout.path(digest).exists() for digest in blobs):
            return built[0], built[1]
    pause = layout.add(
        f"{PAUSE}:1",
        {"Cmd": ["/bin/busybox", "sleep", "2147483647"]},
        [layout.layer([busybox()], spec.compression)],
    )
    layers = [layout.layer(files, spec.compression) for files in contents(spec)]
    python = {"PYTHONHOME": "/opt/python", "LD_LIBRARY_PATH": "/opt/python/lib", "OPENBLAS_NUM_THREADS": "1"}
    environment = ["PATH=/bin", *(f"{name}={value}" for name, value in python.items())]
    app = layout.add(f"{APP}:{tag}", {"Cmd": ["/app/run"], "Env": environment}, layers)
    note.write_text(json.dumps({"key": key, "images": [asdict(pause), asdict(app)]}))
    return pause, app
