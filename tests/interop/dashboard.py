"""The dashboard in headless Chromium, against a server that relays meanwhile.

Needs chromium, node_modules and TURNSTONE_BIN. Everything happens on loopback.
"""

import contextlib
import json
import os
import socket
import socketserver
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import certificates
from prometheus import NUMBER, PASSWORD, REALM, TO_CLIENT, TO_PEER, Client, free_port, serving, start, stop
from stun import Wrong, expect

HERE = Path(__file__).resolve().parent
TOKEN = "a-token-that-nobody-else-knows"
# Names that would be markup if any of them were written as markup.
HOSTILE = ["<script>document.title='owned'</script>", "\"><img src=x onerror=document.title='owned'>", "' onfocus='document.title=1"]
USERS = ["alice", "bob", *HOSTILE]
SECRET = "a-secret-that-is-long-enough-to-be-none"
KEY = "a-key-of-the-back-end"
PACKETS_PER_S = 100
BROWSER_DEADLINE_S = 150


class Call(threading.Thread):
    """Relays by one allocation until it is stopped: every packet to the peer has two back."""

    def __init__(self, server, tcp, user, is_steady):
        super().__init__(daemon=True)
        self.peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.peer.settimeout(1)
        self.peer.bind(("127.0.0.1", 0))
        self.client = Client(server, tcp, user)
        self.relayed = self.client.allocate(self.peer.getsockname())
        self.is_steady, self.stopping = is_steady, threading.Event()

    def run(self):
        frame = struct.pack("!HH", NUMBER, len(TO_PEER)) + TO_PEER
        due = time.monotonic()
        # An allocation that is ended relays no more.
        with contextlib.suppress(OSError):
            while not self.stopping.is_set():
                self.client.socket.sendall(frame)
                self.peer.recv(2048)
                for _ in range(2):
                    self.peer.sendto(TO_CLIENT, self.relayed)
                    self.client.receive()
                due += 1 / PACKETS_PER_S if self.is_steady else 1
                self.stopping.wait(max(due - time.monotonic(), 0))

    def close(self):
        self.stopping.set()
        self.join()
        self.client.socket.close()
        self.peer.close()


@contextlib.contextmanager
def forwarding(path):
    """A port of this machine that leads to a Unix socket, as `ssh -L` makes it."""

    class Connection(socketserver.BaseRequestHandler):
        def handle(self):
            with socket.socket(socket.AF_UNIX) as there:
                there.connect(str(path))
                # One request a connection: all of it is there before the answer.
                there.sendall(self.request.recv(65536))
                while data := there.recv(65536):
                    self.request.sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_address[1]}/"
        server.shutdown()


def watch(directory):
    config, log = directory / "turnserver.toml", directory / "server.log"
    users = ", ".join(f"{json.dumps(user)} = {json.dumps(PASSWORD)}" for user in USERS)
    port, turn, tls, service = free_port(), free_port(), free_port(), free_port()
    certificates.make(directory, ["localhost"])
    config.write_text(
        f'realm = "{REALM}"\n[listen]\nudp = ["127.0.0.1:{turn}"]\ntcp = ["127.0.0.1:{turn}"]\ntls = ["127.0.0.1:{tls}"]\n'
        f'[tls]\ncert = "{directory}/ecdsa.crt"\nkey = "{directory}/ecdsa.key"\n'
        f'[relay]\naddresses = ["127.0.0.1"]\n[peers]\nallow_loopback = true\n[auth]\nstatic_auth_secret = "{SECRET}"\nusers = {{ {users} }}\n'
        f'[metrics]\nlisten = ""\n[admin]\nsocket = "{directory}/admin.sock"\nlisten = "127.0.0.1:{port}"\ntoken = "{TOKEN}"\n'
        f'[web]\nhttp = "127.0.0.1:{free_port()}"\n'
        f'[credentials]\nlisten = "127.0.0.1:{service}"\n[[credentials.keys]]\nid = "page"\nkey = "{KEY}"\n'
        f'origins = ["http://127.0.0.1:{port}"]\n'
    )
    config.chmod(0o600)
    environment = {"PATH": os.environ["PATH"], "XDG_STATE_HOME": str(directory)}
    server = start([os.environ["TURNSTONE_BIN"], "run", "--config", config], log, environment)
    calls = []
    try:
        addresses = serving(server, log)
        for number, user in enumerate(USERS):
            calls.append(Call(addresses["tcp" if number % 2 else "udp"], bool(number % 2), user, user == "alice"))
            calls[-1].start()
        with forwarding(directory / "admin.sock") as forwarded:
            return drive(f"http://127.0.0.1:{port}/", forwarded, directory)
    finally:
        for call in calls:
            call.close()
        stop(server)


def drive(url, forwarded, directory):
    """Has a browser that trusts the authority look at the page; returns a note."""
    asked = {
        "url": url,
        "forwarded": forwarded,
        "token": TOKEN,
        "users": USERS,
        "steady": "alice",
        "ended": "bob",
        "password": PASSWORD,
        "key": KEY,
        "bitsToPeers": PACKETS_PER_S * len(TO_PEER) * 8,
        "bitsToClient": PACKETS_PER_S * 2 * len(TO_CLIENT) * 8,
        "screenshots": os.environ.get("DASHBOARD_SCREENSHOTS"),
    }
    command = ["node", HERE / "dashboard.mjs", json.dumps(asked)]
    environment = os.environ | {"HOME": str(directory), "INTEROP_CA": str(directory / "ca.pem")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=BROWSER_DEADLINE_S, env=environment)
    expect(done.returncode == 0, f"{done.stdout}{done.stderr}")
    return done.stdout.strip().splitlines()[-1]


def check():
    """All of it; returns a note."""
    with tempfile.TemporaryDirectory() as directory:
        return watch(Path(directory))


if __name__ == "__main__":
    try:
        print(check())
    except Wrong as wrong:
        raise SystemExit(str(wrong)) from None
