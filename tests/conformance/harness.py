"""What the conformance scripts share: a server, the real `nats` command line, counting.

A script is a module with functions marked `@case`; each gets a `Target`, drives the command line as a user would type
it, and fails by `AssertionError` or by a command that ends with another exit code than expected. The same scripts run
against `weir serve` and against nats-server: what they expect is what nats-server does. Cases that only Weir can pass
(its services) are marked `@case(weir_only=True)` and are counted as neither passed nor failed on nats-server.
"""

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request

CASES = []
COMMAND_LIMIT = 30  # seconds
# States of a TCP socket in the kernel's table.
ESTABLISHED, LISTENING = "01", "0A"


def case(function=None, weir_only=False):
    """Marks a function as a case; its module and name are what the runner prints."""

    def mark(marked):
        marked.weir_only = weir_only
        CASES.append(marked)
        return marked

    return mark(function) if function else mark


class Failure(AssertionError):
    """Something observed was not what should be; carries the command and its output."""


class Result:
    """How a command ended and what it printed (both streams; `stdout` alone for JSON)."""

    def __init__(self, command, code, stdout, stderr):
        self.command, self.code, self.stdout, self.stderr = command, code, stdout, stderr

    @property
    def output(self):
        return self.stdout + self.stderr

    def json(self):
        try:
            return json.loads(self.stdout)
        except ValueError as error:
            raise Failure(f"no JSON ({error})\n{self}") from None

    def says(self, *patterns):
        """Every pattern (a regular expression) occurs in the output."""
        for pattern in patterns:
            if not re.search(pattern, self.output):
                raise Failure(f"{pattern!r} is not in the output\n{self}")
        return self

    def says_not(self, *patterns):
        for pattern in patterns:
            if re.search(pattern, self.output):
                raise Failure(f"{pattern!r} is in the output\n{self}")
        return self

    def __str__(self):
        return f"$ {' '.join(self.command)}\n{self.output}[exit code {self.code}]"


class Background:
    """A command that runs while others do; stopped at the end of the case at the latest."""

    def __init__(self, command, env, cwd):
        self.command = command
        self.process = subprocess.Popen(
            command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        os.set_blocking(self.process.stdout.fileno(), False)
        self.text = ""

    def read(self):
        while True:
            chunk = self.process.stdout.read()
            if not chunk:
                return self.text
            self.text += chunk.decode(errors="replace")

    def wait_for(self, pattern, limit=15):
        """Reads on until the pattern occurs."""
        end = time.monotonic() + limit
        while not re.search(pattern, self.read()):
            if self.process.poll() is not None and not re.search(pattern, self.read()):
                raise Failure(f"{pattern!r} never came\n{self}")
            if time.monotonic() > end:
                raise Failure(f"{pattern!r} did not come in {limit} s\n{self}")
            time.sleep(0.02)
        return self.text

    def wait(self, limit=20):
        """Waits for the command to end by itself."""
        end = time.monotonic() + limit
        while self.process.poll() is None:
            self.read()
            if time.monotonic() > end:
                raise Failure(f"it did not end in {limit} s\n{self}")
            time.sleep(0.02)
        return Result(self.command, self.process.returncode, self.read(), "")

    def stop(self, with_signal=signal.SIGINT):
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.read()

    def __str__(self):
        return f"$ {' '.join(self.command)} &\n{self.text}"


class Target:
    """The server under test and commands against it."""

    def __init__(self, kind, weir, nats, nats_server):
        self.kind, self.weir_path, self.nats_path, self.nats_server_path = kind, weir, nats, nats_server
        self.folder = tempfile.mkdtemp(prefix="weir-conformance-")
        self.store = os.path.join(self.folder, "store")
        self.process = None
        self.url = None
        self.http = None
        self.monitor = None
        self.background = []
        # No context, no server and no switch of the user's own reaches the commands; validation of every answer
        # against the command line's own schemas stays on.
        self.env = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": self.folder,
            "XDG_CONFIG_HOME": self.folder,
            "TERM": "xterm",
            "COLUMNS": "200",
            "LINES": "60",
        }

    # The server.

    def start(self):
        self.log_path = os.path.join(self.folder, "server.log")
        if self.kind == "weir":
            command = [self.weir_path, "serve", "--port", "-1", "--http", "127.0.0.1:0", "--store", self.store]
        else:
            command = [self.nats_server_path, "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", self.store]
        command += ["-m", "-1"]
        with open(self.log_path, "ab") as log:
            start = log.tell()
            self.process = subprocess.Popen(
                command, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        end = time.monotonic() + 30
        while True:
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                log.seek(start)
                text = log.read()
            if "Server is ready" in text:
                break
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"the server did not start: {' '.join(command)}\n{text}")
            time.sleep(0.02)
        self.url = "nats://" + re.search(r"Listening for client connections on (\S+)", text).group(1)
        http = re.search(r"Listening for HTTP requests on (?:http://)?(\S+)", text)
        self.http = http and http.group(1)
        self.monitor = re.search(r"Starting http monitor on (?:http://)?(\S+)", text).group(1)
        self.env["NATS_URL"] = self.url

    def stop(self, with_signal=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(with_signal)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise Failure("the server did not stop within 30 s after the signal") from None
        return self.process.returncode

    def restart(self, with_signal=signal.SIGTERM):
        self.stop(with_signal)
        self.start()

    def close(self):
        self.end_background()
        try:
            return self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    # Commands.

    def run(self, *command, expect=0, stdin=None, limit=COMMAND_LIMIT):
        """Runs a command to its end; `expect` is the exit code, or None for any, or "failure" for any but 0."""
        try:
            done = subprocess.run(
                command,
                env=self.env,
                cwd=self.folder,
                input=None if stdin is None else stdin.encode() if isinstance(stdin, str) else stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            shown = b"".join(part or b"" for part in (late.stdout, late.stderr)).decode(errors="replace")
            raise Failure(f"$ {' '.join(command)}\n{shown}[did not end in {limit} s]") from None
        result = Result(
            command, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )
        wrong = result.code == 0 if expect == "failure" else expect is not None and result.code != expect
        if wrong:
            raise Failure(f"exit code {result.code}, expected {expect}\n{result}")
        return result

    def nats(self, *args, **options):
        """Runs the `nats` command line."""
        return self.run(self.nats_path, *args, **options)

    def weir(self, *args, **options):
        """Runs a command of `weir`."""
        return self.run(self.weir_path, *args, **options)

    def spawn(self, *command):
        """Starts a command that runs on beside the others."""
        started = Background(command, self.env, self.folder)
        self.background.append(started)
        return started

    def nats_in_background(self, *args):
        return self.spawn(self.nats_path, *args)

    def subscribed_in_background(self, *args):
        """Starts `nats ARGS` and returns when the server has its subscription."""
        started = self.nats_in_background(*args)
        eventually(f"{' '.join(args)} has subscribed", lambda: self.has_subscription(started))
        return started

    def subscribe(self, *args):
        """`nats sub ARGS`, ready to receive."""
        return self.subscribed_in_background("sub", *args)

    def consuming_in_background(self, stream, *args):
        """Starts `nats ARGS` and returns when the stream has a consumer for it."""
        before = self.consumers(stream)
        started = self.nats_in_background(*args)
        eventually(f"{' '.join(args)} has its consumer", lambda: self.consumers(stream) - before)
        return started

    def has_subscription(self, started):
        """True when the server knows a subscription of that command, inboxes aside."""
        if started.process.poll() is not None:
            started.read()
            raise Failure(f"it ended instead of subscribing\n{started}")
        with urllib.request.urlopen(f"http://{self.monitor}/connz?subs=1", timeout=10) as answer:
            connections = json.load(answer)["connections"]
        ports = local_ports(started.process.pid)
        subjects = [s for c in connections if c["port"] in ports for s in c.get("subscriptions_list") or []]
        return any(not subject.startswith("_INBOX.") for subject in subjects)

    def nats_on_a_terminal(self, *args, prompt, key, limit=COMMAND_LIMIT):
        """Runs `nats` on a pseudo terminal and returns what it showed. From the first prompt on `key` is typed whenever nothing
        more is shown: it must mean "go on" at each prompt, and one too many does no harm."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self.folder)
            os.execve(self.nats_path, [self.nats_path, *args], self.env)
        shown, asked = b"", 0
        end = time.monotonic() + limit
        try:
            while time.monotonic() < end:
                ready, _, _ = select.select([terminal], [], [], 0.3)
                if ready:
                    try:
                        chunk = os.read(terminal, 65536)
                    except OSError:
                        break
                    if not chunk:
                        break
                    shown += chunk
                    while asked < shown.count(b"\x1b[6n"):  # for the cursor's position
                        os.write(terminal, b"\x1b[1;1R")
                        asked += 1
                elif prompt.encode() in shown:
                    os.write(terminal, key.encode())
        finally:
            os.close(terminal)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            _, status = os.waitpid(pid, 0)
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode(errors="replace"))
        return Result((self.nats_path, *args), status, text, "")

    def end_background(self):
        for started in self.background:
            started.stop()
        self.background = []

    # Files.

    def file(self, name, content):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as out:
            out.write(content if isinstance(content, str) else json.dumps(content))
        return path

    # What the server itself says, to hold the command's words against.

    def api(self, suffix, body=None):
        """One JetStream API request through `nats req`."""
        sent = "" if body is None else json.dumps(body)
        return self.nats("req", "--raw", f"$JS.API.{suffix}", sent).json()

    def stream_state(self, stream):
        return self.api(f"STREAM.INFO.{stream}")["state"]

    def consumers(self, stream):
        """The names of a stream's consumers."""
        return set(self.api(f"CONSUMER.NAMES.{stream}")["consumers"] or [])

    def sequences(self, stream):
        """The sequences of a stream's messages, told by its state."""
        state = self.api(f"STREAM.INFO.{stream}", {"deleted_details": True})["state"]
        gone = set(state.get("deleted") or [])
        if state["messages"] == 0:
            return []
        return [seq for seq in range(state["first_seq"], state["last_seq"] + 1) if seq not in gone]


def equal(found, expected, what="value"):
    if found != expected:
        raise Failure(f"{what}: expected {expected!r}, found {found!r}")


def eventually(what, probe, limit=20):
    """Asks until the answer is true."""
    end = time.monotonic() + limit
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > end:
            raise Failure(f"not within {limit} s: {what}")
        time.sleep(0.1)


def local_ports(pid, state=ESTABLISHED):
    """The TCP ports of a process (IPv4) in a state of the kernel's table."""
    try:
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return []
    own = {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return [int(row[1].split(":")[1], 16) for row in rows if row[3] == state and row[9] in own]
