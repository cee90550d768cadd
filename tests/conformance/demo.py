"""`weir demo --for 20s --json`: what it says of itself against what the `nats` command line counts."""

import json
import re
import time

from harness import Failure, case, equal, listening_ports


@case(weir_only=True)
def counts_are_what_others_count(t):
    demo = t.spawn(t.weir_path, "demo", "--for", "20s", "--json")
    port = nats_port(t, demo)
    t.env["NATS_URL"] = f"nats://127.0.0.1:{port}"
    try:
        live = counter(t, port, "monitor.>")
        since = time.monotonic()
        playback = counter(t, port, "replay.>")
        stored = recorded = 0
        while demo.process.poll() is None:
            listed = t.nats("req", "--raw", "--timeout", "1s", "$JS.API.STREAM.LIST", "", expect=None)
            if '"streams":[{' in listed.stdout:
                states = {s["config"]["name"]: s["state"] for s in listed.json()["streams"]}
                buffers = [state for name, state in states.items() if name.startswith("STREAMS_BUFFER_")]
                stored = max(stored, sum(state["last_seq"] for state in buffers))
                recorded = states.get("STREAMS_REC_demo", {}).get("messages", recorded)
            time.sleep(0.1)
        span = time.monotonic() - since
        said = json.loads(demo.read().strip().splitlines()[-1])
        equal(demo.process.returncode, 0, "exit code")
    finally:
        t.env["NATS_URL"] = t.url
    equal((said["refused"], said["unknown"], said["replay_is_exact"]), (0, 0, True), "nothing refused or unknown")
    if said["recorded"] < 100:
        raise Failure(f"hardly anything was recorded: {said}")
    equal(recorded, said["recorded"], "messages in the recording's stream")
    equal(count(playback), said["replayed"], "messages seen on the replay's subject")
    equal(said["recorded"], said["replayed"], "recorded and replayed")
    # The buffers are asked ten times a second and for the last time a moment before the demo ends.
    rate = count(live) / span
    if not said["published"] - rate <= stored <= said["published"]:
        raise Failure(f"the buffers took {stored} messages, the demo published {said['published']}")
    # The subscriber came some time after the first messages: it saw most of them, and not more than there were.
    if not said["published"] / 2 < count(live) <= said["published"]:
        raise Failure(f"a subscriber saw {count(live)} messages, the demo published {said['published']}")


def nats_port(t, demo):
    """The port on which the demo speaks NATS: among those it listens on, the one that greets with INFO."""
    import socket

    end = time.monotonic() + 15
    while time.monotonic() < end:
        for port in listening_ports(demo.process.pid):
            with socket.create_connection(("127.0.0.1", port), timeout=2) as peer:
                peer.settimeout(0.5)
                try:
                    if peer.recv(5) == b"INFO ":
                        return port
                except TimeoutError:
                    pass
        time.sleep(0.05)
    raise Failure(f"the demo does not listen for NATS clients\n{demo}")


def counter(t, port, subject):
    kept, t.url = t.url, f"nats://127.0.0.1:{port}"
    try:
        return t.connected_in_background("sub", subject, "--subjects-only")
    finally:
        t.url = kept


def count(subscriber):
    received = [line for line in subscriber.read().splitlines() if "Subscribing" not in line]
    return sum(1 for line in received if re.search(r"(?:monitor|replay)\.\w", line))
