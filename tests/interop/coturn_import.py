"""turnstone import: a client is served and refused alike by coturn and by the server on the import.

Needs the networks of lab.py, coturn, and TURNSTONE_BIN. Both servers run in the server's namespace
one after the other, on a port of their own.
"""

import base64
import contextlib
import hashlib
import hmac
import os
import re
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lab
from stun import expect

PORT = 3480
REALM = "north.gov"
SECRET = "import-shared-secret-that-no-log-may-show-41fa"
MESSAGES = 10

COMMON = f"""
# A server of the laboratory.
listening-ip={lab.SERVER}
listening-port = {PORT}
relay-ip {lab.SERVER}
min-port=40000
max-port=40999
realm={REALM}
# Documentation networks are closed by default in turnstone, and open in coturn.
denied-peer-ip=203.0.113.0-203.0.113.255
allowed-peer-ip={lab.PEER}
no-tls
no-dtls
no-cli
fingerprint
simple-log
log-file=stdout
"""
BY_SECRET = f"{COMMON}use-auth-secret\nstatic-auth-secret={SECRET}\nuser=dormant:dormant-password\n"
# The key that turnadmin -k makes for ninefingers, north.gov and youhavetoberealistic.
BY_USER = (
    f"{COMMON}lt-cred-mech\nuser=gorst:hero-of-the-north\nuser=dow:black\n"
    "user=ninefingers:0xbc807ee29df3c9ffa736523fb2c4e8ee\n"
)
# What Debian's package brings.
DEBIAN = ["/etc/turnserver.conf", *map(str, Path("/usr/share/doc/coturn/examples/etc").glob("*.conf*"))]


def import_of(conf, toml):
    """Runs the import; returns what it tells."""
    command = [os.environ["TURNSTONE_BIN"], "import", str(conf), "-o", str(toml), "--force"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    expect(done.returncode == 0, f"import of {conf}: {done.returncode}, {done.stderr}")
    expect(SECRET not in done.stderr, "the import tells the secret")
    expect(toml.stat().st_mode & 0o777 == 0o600, "others can read the import")
    return done.stderr


@contextlib.contextmanager
def running(command, log):
    """A server in its namespace, once it listens."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TURNSERVER_")}
    with log.open("wb") as out:
        process = subprocess.Popen(
            lab.inside("server", *map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=environment,
        )
    try:
        deadline = time.monotonic() + 10
        listening = lab.inside("server", "ss", "-Hltnp", "sport", "=", f":{PORT}")
        while f"pid={process.pid}," not in lab.run(*listening).stdout:
            expect(process.poll() is None and time.monotonic() < deadline, f"{command[0]}: {log.read_text()[-800:]}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def rest(name, secret=SECRET):
    user = f"{int(time.time()) + 600}:{name}"
    return user, base64.b64encode(hmac.digest(secret.encode(), user.encode(), hashlib.sha1)).decode()


def outcome(user, password, *options, peer=lab.PEER):
    """What a client gets: how many messages come back, or at which step it is refused."""
    command = ["turnutils_uclient", "-v", "-c", *options, "-e", peer, "-n", str(MESSAGES), "-l", "100", "-z", "5"]
    command += ["-p", str(PORT), "-u", user, "-w", password, lab.SERVER]
    done = subprocess.run(
        lab.inside("host-a", *command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=30,
        env=os.environ | {"LD_PRELOAD": os.environ["UCLIENT_CHANNELS"]},
    )
    text = done.stdout
    if "Received relay addr" not in text:
        return "no allocation"
    if "error 403" in text:
        return "peer refused"
    received = re.findall(r"tot_recv_msgs=(\d+)", text)
    return f"{received[-1] if received else 0} messages"


def outcomes(by_secret):
    """By name of the attempt. uclient asks thirty times, so that no two may be of the same user."""
    if by_secret:
        attempts = {
            "secret": (*rest("alice"),),
            "secret over TCP": (*rest("bob"), "-t"),
            "wrong secret": (*rest("carol", "another"),),
            "user beside a secret": ("dormant", "dormant-password"),
            "denied peer": (*rest("dave"),),
        }
    else:
        attempts = {
            "user": ("gorst", "hero-of-the-north"),
            "user over TCP": ("gorst", "hero-of-the-north", "-t"),
            "user by key": ("ninefingers", "youhavetoberealistic"),
            "wrong password": ("dow", "white"),
            "unknown user": ("bayaz", "white"),
        }
    peers = {"denied peer": lab.SERVER_STATIC}
    with ThreadPoolExecutor() as pool:
        running = {name: pool.submit(outcome, *a, peer=peers.get(name, lab.PEER)) for name, a in attempts.items()}
        return {name: future.result() for name, future in running.items()}


def check(logs):
    """All of it; returns a note."""
    compared = 0
    with tempfile.TemporaryDirectory() as directory:
        conf, toml = Path(directory, "turnserver.conf"), Path(directory, "turnserver.toml")
        for text, by_secret in ((BY_SECRET, True), (BY_USER, False)):
            conf.write_text(text)
            label = "secret" if by_secret else "users"
            own = [f"--pidfile={directory}/pid", f"--userdb={directory}/{label}.db"]
            with running(["turnserver", "-c", conf, *own], logs / f"import-{label}-coturn.log"):
                before = outcomes(by_secret)
            told = import_of(conf, toml)
            expect("0 unknown, 0 with a bad value" in told, told)
            command = [os.environ["TURNSTONE_BIN"], "run", "--config", toml]
            with running(command, logs / f"import-{label}-turnstone.log"):
                after = outcomes(by_secret)
            differ = [f"{name}: {before[name]}, then {after[name]}" for name in before if before[name] != after[name]]
            expect(not differ, f"coturn and the import of it: {'; '.join(differ)}")
            kinds = {"no allocation", f"{MESSAGES} messages"} | ({"peer refused"} if by_secret else set())
            expect(set(before.values()) == kinds, f"coturn itself: {before}")
            compared += len(before)
        for source in DEBIAN:
            import_of(source, toml)
            done = subprocess.run([os.environ["TURNSTONE_BIN"], "check-config", toml], capture_output=True, text=True)
            expect(done.returncode == 0, f"{source}: {done.stderr}")
    return f"{compared} attempts end alike, {len(DEBIAN)} files of Debian load"
