"""What the drivers of this machine share: images, bakes, disks, and the kubelet's part of a launch.

Before a launch is requested, the variant's disk is copied and evicted from the page cache (`disks.py`). From the
request on, the node is started, and what a kubelet does is done through CRI: sandbox, pull unless the image is there,
create, start, wait for the first output, which the application prints when it has read what it needs. The first read
comes after that and on a cold cache again, so that neither touches the other.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from leptonami.bench.local import bakes, containerd, disks, images, oci, probe
from leptonami.bench.local.cri import POLL, Cri
from leptonami.bench.local.launching import Stopwatch, first_read, pod
from leptonami.bench.local.registry import Registry
from leptonami.bench.model import Bake, Check, Launch, Mark, Probe, Trial, Value, dump, load, take_along
from leptonami.errors import BuildError, InputError, LeptonamiError

if TYPE_CHECKING:
    import subprocess

    from leptonami.bench.experiment import Image, Variant
    from leptonami.bench.model import Setup
    from leptonami.runs import Journal
    from leptonami.target import Provenance

__all__ = ["LocalDriver", "Node"]

MIB = 2**20
KINDS = ("base", "no-images", "content-only", "unpacked")
BAKE_SECONDS = 3600
CONTENT = "var/lib/containerd/io.containerd.content.v1.content/blobs"
READ_FROM = {"content": (CONTENT,), "unpacked": (containerd.SNAPSHOTS,)}


class Node(Protocol):
    """A node that has been started. `containerd.Node` is one."""

    name: str
    disk_at: float

    @classmethod
    def start(cls, name: str, folder: Path, port: int, deadline: float) -> Self:
        """Start one on `folder / "disk.ext4"`."""
        ...

    @property
    def root(self) -> Path:
        """Its root folder, as this machine sees it."""
        ...

    def connect(self, deadline: float) -> Cri:
        """Connect to its containerd once that answers."""
        ...

    def script(self, text: str, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run a shell script on it."""
        ...

    def marks(self, deadline: float) -> tuple[Mark, ...]:
        """Give the marks that only this kind of node has, from its own journal."""
        ...

    def end(self) -> None:
        """Let it end cleanly."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


class LocalDriver:
    """A driver whose nodes run on this machine.

    What it makes is below `folder / "driver"` of the run: `images/` (an OCI layout), `bakes/VARIANT/IMAGE.ext4`,
    `trials/NUMBER/`. Images and bakes stay until the experiment is complete. With the run's folder in memory (tmpfs),
    disks are, too: what is measured then is the processor alone, and its times scatter least.

    A node ends with the thread that started it (`setpriv --pdeathsig`): launch from one that lives as long.
    """

    name = "process"
    provenance: Provenance = "measured"
    node: type[Node] = containerd.Node
    programs: dict[str, str] = {}  # noqa: RUF012 - never changed

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.experiment = setup.experiment
        self.folder = setup.folder.resolve() / "driver"
        (self.folder / "trials").mkdir(parents=True, exist_ok=True)
        self.layout = oci.Layout(self.folder / "images")
        self.built: dict[str, tuple[oci.Built, oci.Built]] = {}
        self._check()
        self.recover()

    def _check(self) -> None:
        for variant in self.experiment.variants:
            if variant.kind not in KINDS:
                raise InputError(
                    f"the driver {self.name} has no {variant.kind}",
                    resource=f"variant {variant.name}",
                    hint=f"it has {', '.join(KINDS)}",
                )
        for image in self.experiment.images:
            if image.ref is not None:
                raise InputError(
                    f"the driver {self.name} makes its own images",
                    resource=f"image {image.name}",
                    hint="say unpacked_mib instead of ref",
                )

    def recover(self) -> None:
        """Remove what trials of a killed process left."""
        for folder in sorted((self.folder / "trials").iterdir()):
            self._clean(folder)

    def probe(self) -> Probe:
        """Find out whether it can work here."""
        return probe.probe(self.folder, self.programs)

    def image(self, image: Image) -> tuple[oci.Built, oci.Built]:
        """Give the pause image and an image of the experiment, made when they are first needed."""
        if image.name not in self.built:
            self.setup.say(f"making the image {image.name}, {image.unpacked_mib} MiB unpacked")
            spec = images.Spec(
                unpacked_mib=image.unpacked_mib or 0,
                small_files=image.small_files,
                large_files=image.large_files,
                layers=image.layers,
                compression=image.compression,
                seed=self.experiment.seed,
            )
            self.built[image.name] = images.build(self.layout, spec, image.name)
        return self.built[image.name]

    # --- bakes ------------------------------------------------------------------------------------------------------

    def base_disk(self, path: Path, mib: int) -> None:
        """Make the disk that a bake begins with."""
        disks.create(path, mib)

    def bake(self, variant: Variant, journal: Journal) -> Bake:
        """Make the variant's disk for each image of the experiment, by the product's own pre-fetch step."""
        folder = self.folder / "bakes" / variant.name
        note = folder / "bake.json"
        if note.exists():
            return load(Bake, json.loads(note.read_text()))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        begun = time.monotonic()
        checks: list[Check] = []
        conditions: dict[str, Value] = {}
        size = 0
        with journal.action("bake", driver=self.name, variant=variant.name):
            for image in self.experiment.images:
                pause, app = self.image(image)
                disk = folder / f"{image.name}.ext4"
                self.base_disk(
                    disk, 1024 + int(1.5 * (pause.unpacked + app.packed + app.unpacked)) // MIB + app.files // 40
                )
                if variant.kind != "base":
                    self.setup.say(f"baking {variant.name} for {image.name}")
                    checks += self._fill(disk, (pause, app), variant.prefetch)
                size += disks.stored_bytes(disk)
                conditions |= {
                    f"{image.name} digest": app.digest,
                    f"{image.name} packed MiB": round(app.packed / MIB, 1),
                    f"{image.name} unpacked MiB": round(app.unpacked / MIB, 1),
                    f"{image.name} files": app.files,
                }
        made = Bake(
            variant=variant.name,
            reference=folder.name,
            seconds=round(time.monotonic() - begun, 3),
            bytes=size,
            checks=tuple(checks),
            conditions=conditions,
        )
        part = note.with_suffix(".part")
        part.write_text(json.dumps(dump(made)))
        part.rename(note)
        wrong = [check for check in checks if not check.ok]
        if wrong:
            note.unlink()
            raise BuildError(f"{wrong[0].name}: {wrong[0].detail}", resource=f"bake of {variant.name}")
        return made

    def _fill(self, disk: Path, built: tuple[oci.Built, oci.Built], store: bakes.Store) -> tuple[Check, ...]:
        """Start a node on the disk, fill its store, end it cleanly."""
        folder = self.folder / "trials" / "bake"
        self._clean(folder)
        folder.mkdir()
        disk.rename(folder / "disk.ext4")
        deadline = time.monotonic() + BAKE_SECONDS
        with Registry(self.layout) as registry:
            node = self.node.start(self._node_name(folder), folder, registry.port, deadline)
            try:
                node.connect(deadline).close()
                checks = bakes.fill(node.script, built, store, BAKE_SECONDS)
                node.end()
            finally:
                node.kill()
        (folder / "disk.ext4").rename(disk)
        if left := self._clean(folder):
            raise BuildError(f"left behind: {', '.join(left)}", resource="bake")
        return checks

    # --- launches ---------------------------------------------------------------------------------------------------

    def _node_name(self, folder: Path) -> str:
        return f"leptonami-{self.setup.run}-{folder.name}"

    def launch(self, trial: Trial, timeout: float) -> Launch:
        """Launch a node and a container on it."""
        variant = self.experiment.variant(trial.variant)
        image = self.experiment.image(trial.image)
        self.image(image)
        folder = self.folder / "trials" / f"{trial.number:05d}"
        self._clean(folder)
        folder.mkdir()
        conditions = self._prepare(folder, self.folder / "bakes" / variant.name / f"{image.name}.ext4")
        stopwatch = Stopwatch(timeout)
        try:
            own = self._measure(trial, stopwatch, folder, conditions)
        except BaseException as error:
            take_along(error, Launch(tuple(stopwatch.marks), conditions=conditions))
            if isinstance(error, LeptonamiError) and (log := folder / "node.log").exists():
                shutil.copy(log, self.folder / f"failed-{trial.number}.log")
            raise
        return Launch((*stopwatch.marks, *own), conditions=conditions)

    def _measure(
        self, trial: Trial, stopwatch: Stopwatch, folder: Path, conditions: dict[str, Value]
    ) -> tuple[Mark, ...]:
        """Launch, with marks and conditions put down as they come; give those that the node itself has at the end."""
        variant = self.experiment.variant(trial.variant)
        _, app = self.image(self.experiment.image(trial.image))
        rate = trial.bandwidth_mbit * 1e6 / 8
        with Registry(self.layout, rate, self.experiment.local.latency_ms / 1000) as registry:
            stopwatch.begin()
            node = self.node.start(self._node_name(folder), folder, registry.port, stopwatch.deadline)
            try:
                stopwatch.mark("running", "node", at=node.disk_at)
                with node.connect(stopwatch.deadline) as cri:
                    stopwatch.mark("containerd", "cri", at=time.monotonic() - POLL, resolution=POLL)
                    unpacked = variant.prefetch != "content"
                    pod(node, cri, app, stopwatch, registry=registry, unpacked=unpacked)
                    registry.settle()
                    conditions |= {"registry bytes": registry.bytes, "containerd": cri.version()}
                    own = node.marks(stopwatch.deadline)
                    if variant.is_read(self.experiment.local):
                        conditions |= first_read(
                            node.root, READ_FROM[variant.prefetch], folder / "disk.ext4", stopwatch
                        )
            finally:
                node.kill()
        return own

    def _prepare(self, folder: Path, bake: Path) -> dict[str, Value]:
        begun = time.monotonic()
        disk = folder / "disk.ext4"
        how = disks.copy(bake, disk)
        cache = "kept"
        if disks.filesystem(folder) == "tmpfs":
            cache = "the disk is in memory"
        elif self.experiment.local.page_cache == "drop":
            # The node's programs are on a disk that has just been attached, too.
            found = (shutil.which(name) for name in ("containerd", "containerd-shim-runc-v2", "runc"))
            disks.evict([disk, *(Path(path) for path in found if path)])
            cache = "evicted: disk, containerd, runc"
        return {
            "disk made by": how,
            "disk made in": round(time.monotonic() - begun, 3),
            "page cache": cache,
            "disk in page cache MiB": disks.resident_mib(disk),
            "disk": disks.filesystem(folder),
            "load before": round(os.getloadavg()[0], 2),
        }

    def _clean(self, folder: Path) -> tuple[str, ...]:
        return containerd.clean(self._node_name(folder), folder) if folder.exists() else ()

    def clean(self, trial: Trial) -> tuple[str, ...]:
        """Remove everything that a trial made."""
        return self._clean(self.folder / "trials" / f"{trial.number:05d}")

    def close(self, *, complete: bool = False) -> None:
        """Remove images and bakes once nothing needs them again; nothing else of it is there between two calls."""
        kept = [self.folder / name for name in ("images", "bakes", "trials")]
        size = sum(disks.stored_bytes(path) for each in kept for path in each.rglob("*") if path.is_file())
        if complete and size:
            for each in kept:
                shutil.rmtree(each, ignore_errors=True)
            self.setup.say(f"images and bakes removed ({size >> 20} MiB): the experiment is complete")
        elif size > MIB:
            self.setup.say(f"images and bakes ({size >> 20} MiB) stay in the run's folder for --resume")
