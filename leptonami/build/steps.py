"""The provisioning steps: what each one declares, whether a plan uses them rightly, and the scripts that they become.

A step is one shell file in `leptonami/build/scripts/`. Its first comment lines declare what the plan may say about it:

```
# leptonami-step: nvidia-driver
# summary: install a pinned NVIDIA driver whose module fits the kernel
# order: 30
# needs: settle
# families: ubuntu-eks
# timeout: 30m
# option branch: string required match=[0-9]{3} -- driver branch, such as "535"
# option modules: precompiled|dkms default=precompiled -- where the kernel module comes from
```

`needs` may be limited to a family: `nvidia-driver[ubuntu-eks]`. An option's kind is `string`, `integer`, `boolean`,
`path` (of a file beside the plan, which the plan resolves) or a choice `a|b`. The step `script` has no order of its
own: it runs after the step that its option `after` names.
"""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leptonami.errors import InputError

if TYPE_CHECKING:
    from leptonami.imagelist import Image

__all__ = ["Context", "Step", "StepOption", "StepUse", "arrange", "catalogue", "render"]

SCRIPTS = Path(__file__).parent / "scripts"
# The SSM API takes 64 KiB for a whole SendCommand with its JSON escapes; the caller wraps the script in a few lines.
# https://docs.aws.amazon.com/general/latest/gr/ssm.html (Systems Manager quotas)
MAX_SCRIPT_BYTES = 48 * 1024
# A plan's own script goes into a rendered one, whose other lines need less than this.
MAX_OWN_BYTES = MAX_SCRIPT_BYTES - 8 * 1024
DURATION = re.compile(r"([0-9]+)(s|m|h)")
SECONDS = {"s": 1, "m": 60, "h": 3600}
KINDS = ("string", "integer", "boolean", "path")
OPTION = re.compile(r"option (?P<name>[a-z][a-z0-9_]*): (?P<kind>\S+)(?P<rest>(?: \S+)*?) -- (?P<help>.+)")
NEED = re.compile(r"(?P<step>[a-z][a-z0-9-]*)(?:\[(?P<families>[a-z0-9,-]+)\])?")
SCRIPT = "script"
NOT_STEPS = ("lib", "verify")
# What may follow the version record: nothing that changes what it records.
LAST = ("versions", "hygiene")


@dataclass(frozen=True)
class StepOption:
    """One option of a step.

    Attributes
    ----------
    name
        As the plan writes it; the script reads it as `OPT_NAME`.
    kind
        `string`, `integer`, `boolean`, `path` or `choice`.
    required, default
        Either the plan must give it, or this is what holds otherwise (None: empty in the script).
    choices
        The values of a `choice`.
    pattern
        A regular expression that the whole value must match.
    help
        What it is for.
    """

    name: str
    kind: str
    required: bool
    default: str | int | bool | None
    choices: tuple[str, ...]
    pattern: str | None
    help: str

    def wrong(self, value: object) -> str | None:
        """Say what is wrong with a value; None if it will do."""
        allowed: dict[str, type | tuple[type, ...]] = {"integer": int, "boolean": bool}
        kind = allowed.get(self.kind, str)
        said = repr(str(value) if isinstance(value, Path) else value)
        if self.kind == "path" and isinstance(value, Path):
            value = str(value)
        if not isinstance(value, kind) or (self.kind == "integer" and isinstance(value, bool)):
            name = {"integer": "a whole number", "boolean": "true or false"}.get(self.kind, "text")
            quotes = ' (put it in quotes: "..."), or it loses what looks like trailing zeros' if kind is str else ""
            return f"{said} is not {name}{quotes}"
        if self.choices and value not in self.choices:
            return f"{said} is not one of {', '.join(self.choices)}"
        if self.kind == "integer" and isinstance(value, int) and value < 0:
            return f"{said} is negative"
        if isinstance(value, str):
            if not value.isprintable():
                return f"{said} has characters that are not printable"
            if self.pattern is not None and re.fullmatch(self.pattern, value) is None:
                return f"{said} does not match {self.pattern}"
        return None


@dataclass(frozen=True)
class Step:
    """What a step declares.

    Attributes
    ----------
    name, summary
        Its name, and what it does in half a line.
    order
        Steps run in ascending order; None for `script`, which runs after the step it names.
    needs
        Pairs of a step that must be in the plan too, and the families for which that holds (empty: all).
    families
        Families of the catalog it works on.
    timeout
        Seconds that it may take unless the plan says otherwise.
    options
        What the plan may set.
    path
        Its file.
    """

    name: str
    summary: str
    order: int | None
    needs: tuple[tuple[str, tuple[str, ...]], ...]
    families: tuple[str, ...]
    timeout: int
    options: tuple[StepOption, ...]
    path: Path

    def option(self, name: str) -> StepOption | None:
        """Give an option by its name."""
        return next((each for each in self.options if each.name == name), None)

    def needed(self, family: str) -> tuple[str, ...]:
        """Give the steps that this one needs on a family."""
        return tuple(step for step, families in self.needs if not families or family in families)


@dataclass(frozen=True)
class StepUse:
    """A step as a plan uses it.

    Attributes
    ----------
    name
        The step.
    options
        What the plan sets. Paths are resolved: absolute, or relative to the working directory.
    timeout
        Seconds that it may take; None for the step's own.
    where
        The place in the plan, for messages: `plans/x.yaml:14: steps.2`.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    timeout: int | None = None
    where: str = "steps"


@dataclass(frozen=True)
class Context:
    """What scripts are rendered with, besides the options of their step.

    Attributes
    ----------
    images
        What `prefetch` pulls, for the architecture.
    expected
        Further facts for the image's version record, such as the base image's id.
    """

    plan_name: str
    run_id: str
    family: str
    os: str
    kubernetes: str
    architecture: str
    region: str
    images: tuple[Image, ...] = ()
    expected: Mapping[str, str] = field(default_factory=dict)


def seconds(text: str) -> int:
    """Read a duration such as `90s`, `10m` or `2h`.

    Raises
    ------
    ValueError
        If it is none.
    """
    match = DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"not a duration: {text!r}")
    return int(match[1]) * SECONDS[match[2]]


def _option(line: str) -> StepOption:
    match = OPTION.fullmatch(line)
    if match is None:
        raise ValueError(f"not an option: {line!r}")
    kind = match["kind"]
    choices: tuple[str, ...] = ()
    if kind not in KINDS:
        kind, choices = "choice", tuple(kind.split("|"))
        if len(choices) < 2:
            raise ValueError(f"not a kind of option: {match['kind']!r}")
    required, default, pattern = False, None, None
    for word in match["rest"].split():
        key, _, value = word.partition("=")
        if word == "required":
            required = True
        elif key == "default" and value:
            default = value
        elif key == "match" and value:
            pattern = value
        else:
            raise ValueError(f"not a property of an option: {word!r}")
    typed: str | int | bool | None = default
    if default is not None and kind == "integer":
        typed = int(default)
    elif default is not None and kind == "boolean":
        typed = {"true": True, "false": False}[default]
    option = StepOption(match["name"], kind, required, typed, choices, pattern, match["help"])
    if typed is not None and (wrong := option.wrong(typed)):
        raise ValueError(f"the default {wrong}")
    return option


def read(path: Path) -> Step:
    """Read what a step's file declares.

    Raises
    ------
    ValueError
        If the declaration is not complete and right: a mistake in leptonami, found by its tests.
    """
    fields: dict[str, str] = {}
    options: list[StepOption] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# "):
            break
        text = line.removeprefix("# ").strip()
        if text.startswith("option "):
            options.append(_option(text))
            continue
        key, colon, value = text.partition(": ")
        if colon and key in ("leptonami-step", "summary", "order", "needs", "families", "timeout"):
            fields[key] = value
    name = fields["leptonami-step"]
    if name != path.stem:
        raise ValueError(f"{path.name} declares {name!r}")
    needs: list[tuple[str, tuple[str, ...]]] = []
    for word in fields.get("needs", "").split():
        match = NEED.fullmatch(word)
        if match is None:
            raise ValueError(f"not a need: {word!r}")
        needs.append((match["step"], tuple(match["families"].split(",")) if match["families"] else ()))
    return Step(
        name=name,
        summary=fields["summary"],
        order=int(fields["order"]) if "order" in fields else None,
        needs=tuple(needs),
        families=tuple(fields["families"].split()),
        timeout=seconds(fields["timeout"]),
        options=tuple(options),
        path=path,
    )


@functools.cache
def catalogue() -> dict[str, Step]:
    """Give all steps by name, in the order in which they run."""
    found = [read(path) for path in SCRIPTS.glob("*.sh") if path.stem not in NOT_STEPS]
    return {step.name: step for step in sorted(found, key=lambda step: (step.order is None, step.order, step.name))}


def _close(word: str, known: Iterable[str]) -> str:
    import difflib

    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"


def check(use: StepUse) -> Step:
    """Check the name and the options of one use; give its step.

    Raises
    ------
    InputError
        Naming the place in the plan.
    """
    steps = catalogue()
    step = steps.get(use.name)
    if step is None:
        raise InputError(f"there is no step {use.name!r}", resource=use.where, hint=_close(use.name, steps))
    for name, value in use.options.items():
        option = step.option(name)
        if option is None:
            known = [each.name for each in step.options]
            hint = _close(name, known) if known else f"{step.name} takes no options"
            raise InputError(f"{step.name} has no option {name!r}", resource=use.where, hint=hint)
        if wrong := option.wrong(value):
            raise InputError(f"{step.name}.{name}: {wrong}", resource=use.where, hint=option.help)
    for option in step.options:
        if option.required and option.name not in use.options:
            raise InputError(f"{step.name} needs the option {option.name!r}", resource=use.where, hint=option.help)
    branch, version = use.options.get("branch"), use.options.get("version")
    if branch is not None and version is not None and not str(version).startswith(f"{branch}."):
        raise InputError(
            f"{step.name}: version {version!r} is not of branch {branch!r}",
            resource=use.where,
            hint=f"a version of this branch begins with {branch}.",
        )
    if use.timeout is not None and use.timeout <= 0:
        raise InputError(f"{step.name}: a timeout of {use.timeout} s", resource=use.where, hint="leave it out")
    return step


def arrange(uses: Sequence[StepUse], *, family: str, architecture: str) -> tuple[StepUse, ...]:
    """Check how a plan uses the steps, and put them in the order in which they run.

    The plan must list them in their declared order, so that it reads as it runs; only a `script` is moved to where its
    option `after` says, behind other scripts that go there.

    Parameters
    ----------
    uses
        As the plan lists them.
    family, architecture
        The plan's.

    Raises
    ------
    InputError
        With the place in the plan as its resource: an unknown step or option, a value that will not do, a step that
        does not work on the family, is there twice, out of order, or without what it needs.
    """
    if architecture not in ("amd64", "arm64"):
        raise InputError(f"{architecture!r} is neither amd64 nor arm64", resource="architecture")
    steps = catalogue()
    placed: list[StepUse] = []
    seen: dict[str, StepUse] = {}
    for use in uses:
        step = check(use)
        if family not in step.families:
            can = [each.name for each in steps.values() if family in each.families]
            raise InputError(
                f"{step.name} does not work on {family}, only on {', '.join(step.families)}",
                resource=use.where,
                hint=f"on {family} there are {', '.join(can)}" if can else f"{family} images cannot be provisioned",
            )
        if use.name == SCRIPT:
            placed.append(use)
            continue
        if use.name in seen:
            raise InputError(f"{use.name} is there twice", resource=use.where, hint=f"first in {seen[use.name].where}")
        for earlier in seen.values():
            before = steps[earlier.name].order
            if before is not None and step.order is not None and before > step.order:
                raise InputError(
                    f"{use.name} (order {step.order}) comes after {earlier.name} (order {before})",
                    resource=use.where,
                    hint=f"list {use.name} before {earlier.name}",
                )
        seen[use.name] = use
        placed.append(use)
    for use in seen.values():
        for need in steps[use.name].needed(family):
            if need not in seen:
                raise InputError(
                    f"{use.name} needs the step {need}", resource=use.where, hint=f"add {need} before {use.name}"
                )
    return _with_scripts(placed, seen)


def _with_scripts(placed: Sequence[StepUse], seen: Mapping[str, StepUse]) -> tuple[StepUse, ...]:
    """Move each script behind the step that it names."""
    result = [use for use in placed if use.name != SCRIPT or "after" not in use.options]
    for use in placed:
        if use.name != SCRIPT or "after" not in use.options:
            continue
        after = use.options["after"]
        if after not in seen:
            raise InputError(
                f"script.after: {after!r} is not a step of this plan", resource=use.where, hint=_close(after, seen)
            )
        place = next(index for index, each in enumerate(result) if each.name == after) + 1
        while place < len(result) and result[place].name == SCRIPT and result[place].options.get("after") == after:
            place += 1
        result.insert(place, use)
    last: str | None = None
    for use in result:
        if use.name in LAST:
            last = use.name
        elif use.name == SCRIPT and last is not None:
            raise InputError(
                f"a script after {last} would change what has been recorded and cleaned",
                resource=use.where,
                hint=f"let it run earlier, for instance after: {_before_last(result)}",
            )
    return tuple(result)


def _before_last(uses: Sequence[StepUse]) -> str:
    names = [use.name for use in uses if use.name not in (*LAST, SCRIPT)]
    return names[-1] if names else "settle"


def values(use: StepUse) -> dict[str, str | int | bool | None]:
    """Give all options of a use with what holds for them: the plan's value or the default."""
    step = catalogue()[use.name]
    return {option.name: use.options.get(option.name, option.default) for option in step.options}


def _quoted(value: object) -> str:
    if value is None:
        return "''"
    if isinstance(value, bool):
        return "true" if value else "false"
    return shlex.quote(str(value))


def assignments(context: Context, step: str) -> list[str]:
    """Give the shell lines that every script of leptonami begins with."""
    named = {
        "LEPTONAMI_STEP": step,
        "LEPTONAMI_PLAN": context.plan_name,
        "LEPTONAMI_RUN": context.run_id,
        "LEPTONAMI_FAMILY": context.family,
        "LEPTONAMI_OS": context.os,
        "LEPTONAMI_KUBERNETES": context.kubernetes,
        "LEPTONAMI_ARCHITECTURE": context.architecture,
        "LEPTONAMI_REGION": context.region,
    }
    return [f"{name}={_quoted(value)}" for name, value in named.items()]


def array(name: str, entries: Iterable[str]) -> str:
    """Give a shell array, one entry a line."""
    return "\n".join([f"{name}=(", *(f"  {shlex.quote(entry)}" for entry in entries), ")"])


def _images(images: Sequence[Image]) -> list[str]:
    """Give the images as parallel arrays; tags of one image stand in one entry, separated by spaces."""
    return [
        array("IMAGE_REFS", (image.ref for image in images)),
        array("IMAGE_DIGESTS", (image.digest or "" for image in images)),
        array("IMAGE_MIB", ("" if image.size_mib is None else str(image.size_mib) for image in images)),
        array(
            "IMAGE_UNPACKED_MIB", ("" if image.unpacked_mib is None else str(image.unpacked_mib) for image in images)
        ),
        array("IMAGE_TAGS", (" ".join(image.also_tagged) for image in images)),
    ]


def _own_script(use: StepUse) -> list[str]:
    """Give the plan's own script as a here-document, so that it can be read in `plan show` and needs no transport."""
    path = Path(use.options["path"])
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise InputError(f"cannot read the script {path}: {error.strerror}", resource=use.where) from error
    except UnicodeDecodeError as error:
        raise InputError(f"the script {path} is not UTF-8 text", resource=use.where) from error
    if "\0" in text or "\r" in text:
        raise InputError(
            f"the script {path} has NUL or carriage return characters",
            resource=use.where,
            hint="a shell would read them as part of the words: save it with Unix line ends",
        )
    if not text.strip():
        raise InputError(f"the script {path} is empty", resource=use.where)
    if not text.startswith("#!"):
        text = "#!/bin/bash\nset -euo pipefail\n" + text
    mark, number = "LEPTONAMI_SCRIPT", 0
    while f"{mark}_{number}" in text.splitlines():
        number += 1
    ending = "" if text.endswith("\n") else "\n"
    return [
        f"OWN_NAME={shlex.quote(path.name)}",
        "own_script() {",
        f"  cat <<'{mark}_{number}'",
        f"{text}{ending}{mark}_{number}",
        "}",
    ]


def body(path: Path) -> str:
    """Give a script without its first comment lines: a builder needs the code, not the declaration."""
    lines = path.read_text(encoding="utf-8").splitlines()
    while lines and (lines[0].startswith("#") or not lines[0].strip()):
        lines.pop(0)
    return "\n".join(lines)


def needed(libraries: Iterable[Path], rest: str) -> list[str]:
    """Give the parts of libraries that a script needs: a script is read by people, and Run Command limits its length.

    A part is what stands between blank lines. It is left out if all it does is to define functions and constants whose
    names occur nowhere else in what is kept.
    """
    parts = [part for path in libraries for part in re.split(r"\n{2,}", body(path))]
    defines = [
        set() if re.search(r"(?m)^(set|export|shopt) ", part) else set(re.findall(r"(?m)^(\w+)(?:\(\)|=)", part))
        for part in parts
    ]
    kept = {index for index, names in enumerate(defines) if not names}
    words = set(re.findall(r"\w+", "\n".join([rest, *(parts[index] for index in kept)])))
    while more := {index for index, names in enumerate(defines) if index not in kept and names & words}:
        kept |= more
        words |= set(re.findall(r"\w+", "\n".join(parts[index] for index in more)))
    # A heading without anything below it says nothing.
    return [parts[index] for index in sorted(kept) if not parts[index].startswith("# ---") or "\n" in parts[index]]


def render(use: StepUse, context: Context) -> str:
    """Give the whole script of a step: library, values, body. It holds no secret and can be read and run alone.

    Raises
    ------
    InputError
        If the step is used wrongly, its script cannot be read, or the result is too long for Run Command.
    """
    step = check(use)
    files = {option.name for option in step.options if option.kind == "path"}
    lines = [
        "#!/bin/bash",
        f"# leptonami: {step.name}: {step.summary}",
        "# shellcheck disable=SC2016,SC2034 # values are data, and no step uses all of them",
        *assignments(context, step.name),
        # Files of the plan's machine mean nothing on the builder; what is in them comes below.
        *(f"OPT_{name.upper()}={_quoted(value)}" for name, value in values(use).items() if name not in files),
    ]
    if any(option.name == "images" for option in step.options):
        lines += _images(context.images)
    if step.name == "versions":
        lines.append(array("RECORD_MORE", (f"{key}={value}" for key, value in sorted(context.expected.items()))))
    if step.name == SCRIPT:
        lines += _own_script(use)
    text = body(step.path)
    lines += [*needed([SCRIPTS / "lib.sh"], text), "", text]
    text = "\n".join(lines) + "\n"
    return fitting(text, what=step.name, where=use.where)


def fitting(text: str, *, what: str, where: str) -> str:
    """Give a script back if Run Command takes it.

    Raises
    ------
    InputError
        If it is too long.
    """
    size = len(text.encode())
    if size > MAX_SCRIPT_BYTES:
        raise InputError(
            f"the script of {what} would have {size} bytes, Run Command takes {MAX_SCRIPT_BYTES}",
            resource=where,
            hint="split the list of images or the script in two",
        )
    return text
