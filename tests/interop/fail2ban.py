"""docs/fail2ban on the real server's log: whom it bans, and whom nobody can have banned.

Needs fail2ban-regex, and TURNSTONE_BIN. Everything happens on loopback. Every kind of request comes
from a network of its own, so that the addresses which the filter finds say what it matched.
"""

import base64
import hashlib
import hmac
import json
import os
import re
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

from stun import ALLOCATE, NONCE, REALM_NAME, TOKEN, TRANSPORT, UDP, USERNAME, answer, attribute, expect, request

FILTER = Path(__file__).resolve().parents[2] / "docs/fail2ban/filter.d/turnstone.conf"
REALM, PASSWORD = "example.org", "wonderland"
SECRET, NONCE_SECRET = "a-secret-of-thirty-two-characters-or-more", "a-key-of-thirty-two-characters-or-more"

# User names that say that somebody else failed, in each format of a log line.
FORGED_IP = "192.0.2.1"
FORGED = [
    f"x client={FORGED_IP}:1",
    f"x client={FORGED_IP}:1 transport=udp user=x method=\"Allocate\" code=401 reason=wrong password",
    f"\"\n2026-01-01T00:00:00.000000Z  INFO authentication failed client={FORGED_IP}:1 transport=udp user=x",
    f'","client":"{FORGED_IP}:1","transport":"udp","user":"x',
    f'\\","client":"{FORGED_IP}:1","reason":"wrong password"}}',
]


def old_nonce(client):
    """The nonce that the server would have made for a client two hours ago."""
    key = hmac.digest(NONCE_SECRET.encode(), b"turnstone nonce key", "sha256")
    announced, made = client.challenge().nonce[:13], struct.pack("!I", int(time.time()) - 7200)
    address, port = client.socket.getsockname()
    source = bytes(10) + b"\xff\xff" + socket.inet_aton(address) + struct.pack("!H", port)
    mac = hmac.digest(key, made + source + base64.b64decode(announced[9:]) + REALM.encode(), "sha256")
    return announced + base64.b64encode(made + mac[:7]).rstrip(b"=")


class Client:
    """Asks for allocations from one address."""

    def __init__(self, server, address, tcp=False):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
        self.socket.settimeout(5)
        self.socket.bind((address, 0))
        self.socket.connect(server)
        self.nonce = None

    def ask(self, body, key=None):
        """Sends a request, signed if there is a key; returns the error code, 0 for success."""
        self.socket.sendall(request(ALLOCATE, body, key))
        code, found = answer(self.socket.recv(2048))
        self.nonce = found.get(NONCE, self.nonce)
        return code

    def challenge(self):
        expect(self.ask(attribute(TRANSPORT, UDP)) == 401, "no challenge")
        return self

    def login(self, code, user="alice", password=PASSWORD, nonce=None):
        nonce = nonce or self.challenge().nonce
        body = attribute(TRANSPORT, UDP) + attribute(USERNAME, user.encode())
        body += attribute(REALM_NAME, REALM.encode()) + attribute(NONCE, nonce)
        got = self.ask(body, hashlib.md5(f"{user}:{REALM}:{password}".encode()).digest())
        expect(got == code, f"{user} from {self.socket.getsockname()[0]}: {got} instead of {code}")


def requests(udp, udp6, tcp):
    """Makes failures of every kind; returns how many lines the filter should find, by address."""
    banned = Counter()

    def client(address, tcp_=False):
        return Client(udp6 if ":" in address else tcp if tcp_ else udp, address, tcp_)

    def fails(address, *login, is_tcp=False):
        client(address, is_tcp).login(401, *login)
        banned[address] += 1

    # Within a second the server writes ten lines of a kind, and three of one network.
    fails("127.9.1.1", "alice", "wrong")
    fails("127.9.2.1", "alice", "wrong", is_tcp=True)
    fails("127.9.3.1", "nobody")
    fails("::1", "alice", "wrong")
    for _ in range(2):
        fails("127.9.4.1", "bob", "wrong")
    # The right one comes too late, and perhaps from a neighbour behind the same NAT.
    client("127.9.4.1").login(401, "bob", PASSWORD)
    time.sleep(1.1)
    for number, name in enumerate(FORGED):
        fails(f"127.9.1{number}.1", name)
    time.sleep(1.1)

    client("127.8.1.1").challenge()
    expired = f"{int(time.time()) - 60}:carol"
    password = base64.b64encode(hmac.digest(SECRET.encode(), expired.encode(), "sha1")).decode()
    client("127.8.2.1").login(401, expired, password)
    stale = client("127.8.3.1")
    stale.login(438, nonce=old_nonce(stale))
    client("127.8.4.1").login(438, nonce=client("127.8.4.2").challenge().nonce)
    # By UDP, with a nonce that somebody else may have been given when the address was theirs.
    replayed = client("127.8.5.1")
    replayed.login(401, "alice", "wrong", nonce=old_nonce(replayed))
    expect(client("127.8.6.1").ask(attribute(TOKEN, b"x")) == 420, "a token is no use")
    client("127.8.7.1").login(0)
    return banned


def log_of(log_format, journal):
    """What the server logs while it is asked, and what the filter should find in it."""
    with tempfile.TemporaryDirectory() as directory:
        config, log = Path(directory, "turnserver.toml"), Path(directory, "log")
        config.write_text(
            f'realm = "{REALM}"\n[listen]\nudp = ["127.0.0.1:0", "[::1]:0"]\ntcp = ["127.0.0.1:0"]\n'
            f'[relay]\naddresses = ["127.0.0.1"]\n[server]\nworkers = 1\n'
            f'[auth]\nusers = {{ alice = "{PASSWORD}", bob = "{PASSWORD}" }}\n'
            f'static_auth_secret = "{SECRET}"\nnonce_secret = "{NONCE_SECRET}"\n'
            f'[limits]\nfailed_authentications_per_minute = 2\n[log]\nformat = "{log_format}"\n'
        )
        config.chmod(0o600)
        with log.open("w") as output:
            environment = {"PATH": os.environ["PATH"], "XDG_STATE_HOME": directory}
            if journal:
                status = os.fstat(output.fileno())
                environment["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
            command = [os.environ["TURNSTONE_BIN"], "run", "--config", config]
            server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=output, env=environment)
        try:
            deadline = time.monotonic() + 10
            while "serving" not in log.read_text():
                expect(server.poll() is None and time.monotonic() < deadline, f"no server: {log.read_text()}")
                time.sleep(0.02)
            line = next(line for line in log.read_text().splitlines() if "serving" in line)
            ports = [int(port) for port in re.findall(r"(?:127\.0\.0\.1|::1\]):(\d+)", line)]
            banned = requests(("127.0.0.1", ports[0]), ("::1", ports[1]), ("127.0.0.1", ports[2]))
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(10)
        return log.read_text().splitlines(), banned


def found_by_filter(lines):
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "log")
        log.write_text("".join(f"{line}\n" for line in lines))
        command = ["fail2ban-regex", "--usedns", "no", "-o", "<ip>", str(log), str(FILTER)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        expect(done.returncode == 0, done.stderr or done.stdout)
        return Counter(done.stdout.split())


def check():
    """All of it; returns a note."""
    matched = 0
    for log_format in ("text", "json"):
        for journal in (False, True):
            lines, banned = log_of(log_format, journal)
            name = f"{log_format}{', journal' if journal else ''}"
            if journal:
                # As fail2ban's systemd backend writes the journal's fields in one line.
                stamp = time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime())
                lines = [f"{stamp} relay turnstone[4711]: {line}" for line in lines]
            elif log_format == "json":
                expect(all(json.loads(line) for line in lines), "a line that is no JSON")
            told = sum("authentication failed" in line for line in lines)
            expect(told == banned.total() + 5, f"{name}: {told} failures in the log:\n" + "\n".join(lines))
            found = found_by_filter(lines)
            expect(FORGED_IP not in found, f"{name}: a name can have others banned")
            expect(found == banned, f"{name}: {found} instead of {banned}\n" + "\n".join(lines))
            matched += found.total()
    return f"{matched} lines found, and no other"


if __name__ == "__main__":
    print(check())
