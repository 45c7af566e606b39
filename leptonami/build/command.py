"""Scripts on the builder, by SSM Run Command: live output, whole logs, deadlines, reboots and a Ctrl-C that arrives.

Run Command gives 24,000 characters of output, and only when the script has ended. So the script writes a log on the
builder; while it runs, small commands of their own read the log from where the last one stopped; and what is still
missing at the end is fetched the same way. No bucket and no log group is needed, and nothing is left on the image.

Exit code 194 means "reboot me and go on": the agent reboots and runs the same script again.
https://docs.aws.amazon.com/systems-manager/latest/userguide/send-commands-reboot.html
"""

from __future__ import annotations

import base64
import codecs
import gzip
import secrets
import shlex
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leptonami.build.cleanup import uninterrupted
from leptonami.errors import BuildError, LeptonamiError, Timeout
from leptonami.target import TRANSIENT_CODES, AwsError, AwsUnreachable, Target

if TYPE_CHECKING:
    from leptonami.build.past import Past
    from leptonami.progress import Progress
    from leptonami.runs import Journal

__all__ = ["Outcome", "Shell"]

# https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetCommandInvocation.html
INLINE_BYTES = 16_000
DELIVERY_S = 600
# How often a list of commands is looked at before it is believed that a command is not there.
LOOKS = 4
SEND_S = 120
GRACE_S = 120
TAIL_EVERY_S = 5.0
LOG_MARK, END_MARK = "LEPTONAMI-LOG ", "LEPTONAMI-END "
RUNNING = {"Pending", "InProgress", "Delayed", "Cancelling"}
# The command never reached the machine (the agent was being updated, or the machine rebooting): it may be sent again.
UNDELIVERED = {"DeliveryTimedOut", "Undeliverable"}

WRAPPER = """\
#!/bin/bash
# leptonami: {title}
set -u
umask 077
log={log}
mkdir -p "${{log%/*}}"
step=$(mktemp /run/leptonami-step.XXXXXX)
cat >"$step" <<'{delimiter}'
{script}
{delimiter}
bash "$step" >>"$log" 2>&1 </dev/null
code=$?
rm -f "$step"
size=$(stat -c %s "$log" 2>/dev/null || echo 0)
if [ "$size" -le {inline} ]; then cat "$log" 2>/dev/null; else tail -c 8000 "$log"; fi
printf '\\n{end}code=%s size=%s\\n' "$code" "$size"
exit "$code"
"""

TAIL = """\
#!/bin/bash
# leptonami: read the log of a step that is running
log={log}
[ -r "$log" ] || exit 0
for size in 262144 65536 12000; do
  part=$(tail -c +{start} "$log" | head -c "$size" | gzip -9 | base64 -w0)
  [ "${{#part}}" -le 20000 ] && break
done
printf '{mark}%s\\n' "$part"
"""


@dataclass(frozen=True)
class Outcome:
    """What came of a script: its exit code, how long it took (s), and where its whole output is kept."""

    command: str
    code: int
    seconds: float
    log: Path | None
    stdout: str
    log_complete: bool = True


class LiveLog:
    """The local copy of a remote log: grows as parts come in, and shows whole lines."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self.path = path
        self.progress = progress
        self.size = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._partial = ""
        path.write_bytes(b"")

    def add(self, part: bytes) -> None:
        """Append a part, and show the lines that it completes."""
        with self.path.open("ab") as file:
            file.write(part)
        self.size += len(part)
        *lines, self._partial = (self._partial + self._decoder.decode(part)).split("\n")
        for line in lines:
            self.progress.line(line.rstrip("\r"))

    def close(self) -> None:
        """Show what came after the last end of line."""
        if self._partial:
            self.progress.line(self._partial)
            self._partial = ""

    def last(self, count: int = 15) -> list[str]:
        """Give the last lines, for a message."""
        return self.path.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]


class Shell:
    """Runs scripts on one builder."""

    def __init__(self, target: Target, instance: str, journal: Journal, progress: Progress, *, run_id: str) -> None:
        self.target = target
        self.instance = instance
        self.journal = journal
        self.progress = progress
        self.run_id = run_id
        self.tail_every = min(TAIL_EVERY_S, target.pace.longest)

    def run(
        self,
        name: str,
        script: str,
        *,
        timeout: int,
        log: Path | None,
        keep_remote_log: bool = True,
        pick_up: str | None = None,
    ) -> Outcome:
        """Run a script as root and wait for its end.

        Parameters
        ----------
        name
            Names it in the journal, the command's comment and messages.
        timeout
            Seconds that the script may take; the agent kills it then.
        log
            Where its output is kept here. None for a script that only answers on its standard output, in less than
            24,000 characters, and leaves no trace on the builder.
        keep_remote_log
            Whether the log may be on the builder's disk, where it survives a reboot. False puts it in memory.
        pick_up
            The command that an earlier process sent for this script and that still runs: it is waited for instead.

        Raises
        ------
        BuildError
            If the script fails.
        Timeout
            If it takes too long.
        """
        remote = None
        if log is not None:
            folder = "/var/lib/leptonami/logs" if keep_remote_log else "/run/leptonami"
            remote = f"{folder}/{name}.log"
            script = WRAPPER.format(
                title=f"run {self.run_id}, {name}",
                log=shlex.quote(remote),
                delimiter=f"LEPTONAMI_{abs(zlib.crc32(script.encode())):08X}",
                script=script,
                inline=INLINE_BYTES,
                end=END_MARK,
            )
        live = LiveLog(log, self.progress) if log is not None else None
        started = time.monotonic()
        for attempt in (1, 2):
            command = (pick_up if attempt == 1 else None) or self._send(name, script, timeout)
            try:
                invocation = self._wait(name, command, timeout, live, remote)
            except BaseException:
                self._cancel(command)
                raise
            if attempt == 1 and invocation["StatusDetails"] in UNDELIVERED:
                self.progress.line(
                    f"the command did not reach the builder ({invocation['StatusDetails']}), sending it again"
                )
                continue
            break
        complete = self._finish(live, remote, invocation) if live is not None else True
        seconds = round(time.monotonic() - started, 3)
        outcome = Outcome(
            command=command,
            code=int(invocation.get("ResponseCode", -1)),
            seconds=seconds,
            log=log,
            stdout=invocation.get("StandardOutputContent", ""),
            log_complete=complete,
        )
        self.journal.write("command", name=name, command=command, status=invocation["StatusDetails"], code=outcome.code)
        self._judge(name, invocation, live, outcome, timeout)
        return outcome

    def running(self, name: str, past: Past) -> str | None:
        """Find the command that an earlier process of this run sent for a script and that has not ended.

        By the journal: the id, or the comment where the process died before it knew the id. Two of the same script at
        once would be in each other's way.
        """
        sent = past.last("intent", action="ssm.SendCommand", name=name, instance=self.instance)
        if sent is None:
            return None
        after = past.entries[past.entries.index(sent) + 1 :]
        answer = next((each for each in after if each.get("action") == "ssm.SendCommand"), {})
        known = answer.get("id") if answer.get("event") == "done" else None
        found = known or self._sent(sent["comment"], looks=LOOKS)
        return found if found is not None and self._invocation(found) is None else None

    def _sent(self, comment: str, *, looks: int = 1) -> str | None:
        """Find a command of this instance by its comment; a list may be late, so it is looked at several times."""
        ssm = self.target.client("ssm")
        for look, delay in zip(range(looks), self.target.pace.delays(), strict=False):
            if look:
                self.target.sleep(delay)
            for command in self.target.call(ssm.list_commands, InstanceId=self.instance)["Commands"]:
                if command.get("Comment", "") == comment:
                    return str(command["CommandId"])
        return None

    def _send(self, name: str, script: str, timeout: int) -> str:
        """Send a script once: the call has no client token, so one whose answer is lost is looked for, not repeated."""
        comment = f"leptonami {self.run_id} {name[:40]} {secrets.token_hex(4)}"
        ssm = self.target.client("ssm", attempts=1)
        lost = False

        def attempt() -> str | None:
            nonlocal lost
            if lost and (found := self._sent(comment, looks=LOOKS)) is not None:
                return found
            try:
                answer = self.target.call(
                    ssm.send_command,
                    InstanceIds=[self.instance],
                    DocumentName="AWS-RunShellScript",
                    Parameters={"commands": [script], "executionTimeout": [str(timeout)]},
                    TimeoutSeconds=DELIVERY_S,
                    Comment=comment,
                )
            except AwsUnreachable:
                lost = True
                return None
            except AwsError as error:
                if error.code in TRANSIENT_CODES:
                    return None
                raise
            return answer["Command"]["CommandId"]

        with self.journal.action("ssm.SendCommand", name=name, instance=self.instance, comment=comment) as outcome:
            outcome["id"] = command = self.target.poll(attempt, what=f"SSM to take {name}", timeout=SEND_S)
        return command

    def _invocation(self, command: str) -> Any:
        """Ask how the command is; None while it runs or is not known yet."""
        try:
            answer = self.target.call(
                self.target.client("ssm").get_command_invocation, CommandId=command, InstanceId=self.instance
            )
        except AwsError as error:
            if error.code == "InvocationDoesNotExist":
                return None
            raise
        return None if answer["Status"] in RUNNING else answer

    def _wait(self, name: str, command: str, timeout: int, live: LiveLog | None, remote: str | None) -> Any:
        last_tail = time.monotonic()

        def tick(waited: float) -> None:
            nonlocal last_tail
            self.progress.update(f"{waited:.0f} s")
            if live is not None and remote is not None and time.monotonic() - last_tail >= self.tail_every:
                self._tail(live, remote)
                last_tail = time.monotonic()

        return self.target.poll(
            lambda: self._invocation(command),
            what=f"{name} on {self.instance}",
            timeout=timeout + DELIVERY_S + GRACE_S,
            tick=tick,
            patient=True,
        )

    def _tail(self, live: LiveLog, remote: str) -> bool:
        """Fetch what the log has more; False if there was nothing. A builder that does not answer now may later."""
        script = TAIL.format(log=shlex.quote(remote), start=live.size + 1, mark=LOG_MARK)
        try:
            command = self._send("read-log", script, 60)
            answer = self.target.poll(lambda: self._invocation(command), what="the log", timeout=60, patient=True)
        except LeptonamiError as error:
            self.journal.write("log-unread", error=str(error))
            return False
        for line in answer.get("StandardOutputContent", "").splitlines():
            if line.startswith(LOG_MARK):
                try:
                    part = gzip.decompress(base64.b64decode(line.removeprefix(LOG_MARK), validate=True))
                except (ValueError, OSError, EOFError, zlib.error):
                    return False
                live.add(part)
                return bool(part)
        return False

    def _finish(self, live: LiveLog, remote: str | None, invocation: Any) -> bool:
        """Complete the local log, from the command's own output where it is whole; tell whether it is complete."""
        body, mark, end = invocation.get("StandardOutputContent", "").rpartition("\n" + END_MARK)
        if mark:
            fields = dict(field.split("=", 1) for field in end.split() if "=" in field)
            size = int(fields.get("size", "0"))
            whole = body.encode()
            if len(whole) == size:
                live.add(whole[live.size :])
        else:
            size = -1
        while live.size < size or size < 0:
            if remote is None or not self._tail(live, remote):
                break
        live.close()
        return live.size >= size >= 0

    def _cancel(self, command: str) -> None:
        """Cancel the remote command and give it a moment, so that nothing runs on while the builder is removed."""
        with uninterrupted():
            try:
                with self.journal.action("ssm.CancelCommand", id=command):
                    self.target.call(
                        self.target.client("ssm").cancel_command, CommandId=command, InstanceIds=[self.instance]
                    )
                self.target.poll(lambda: self._invocation(command), what="the command to be cancelled", timeout=20)
            except LeptonamiError as error:
                self.journal.write("cancel-unconfirmed", id=command, error=str(error))

    def _judge(self, name: str, invocation: Any, live: LiveLog | None, outcome: Outcome, timeout: int) -> None:
        status, details = invocation["Status"], invocation["StatusDetails"]
        if status == "Success":
            return
        where = f"{name} on {self.instance}"
        shown = "\n".join(f"    {line}" for line in live.last()) if live is not None else ""
        hint = None
        if outcome.log is not None:
            whole = "the whole output is" if outcome.log_complete else "the output, as far as it could be fetched, is"
            hint = f"{whole} in {outcome.log}"
        if status == "TimedOut" and details != "DeliveryTimedOut":
            raise Timeout(f"the script was stopped after its {timeout} s\n{shown}", resource=where, hint=hint)
        if details in UNDELIVERED:
            raise Timeout(f"the command did not reach the builder ({details})", resource=where)
        if status == "Cancelled":
            raise BuildError("the command was cancelled by somebody else", resource=where, hint=hint)
        if not shown:
            said = invocation.get("StandardOutputContent", "") + "\n" + invocation.get("StandardErrorContent", "")
            shown = "\n".join(f"    {line}" for line in said.strip().splitlines()[-15:])
        raise BuildError(f"the script failed ({details}, exit code {outcome.code})\n{shown}", resource=where, hint=hint)
