"""Addresses that a machine gets while the server runs are no peers from then on.

Needs root, ip, and TURNSTONE_BIN. Everything happens in a network namespace of its own, inside of
which this program runs itself again.
"""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stun import (
    ALLOCATE, CREATE_PERMISSION, NONCE, PEER, REALM_NAME, TRANSPORT, UDP, USERNAME, answer, attribute, expect, request,
    xored,
)

NAMESPACE, SERVER = "turnstone-own", ("11.0.0.1", 3478)
REALM, USER, PASSWORD = "example.org", "alice", "wonderland"
KEY = hashlib.md5(f"{USER}:{REALM}:{PASSWORD}".encode()).digest()
# Seconds within which a change must be noticed.
NOTICED = 20


class Client:
    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(5)
        self.socket.connect(SERVER)
        self.nonce = None
        body = attribute(TRANSPORT, UDP)
        expect(self.ask(ALLOCATE, body) == 401, "no challenge")
        expect(self.ask(ALLOCATE, body) == 0, "no allocation")

    def ask(self, method, body):
        """Sends a request, signed once there is a nonce; returns the error code, 0 for success."""
        if self.nonce:
            body += attribute(USERNAME, USER.encode()) + attribute(REALM_NAME, REALM.encode())
            body += attribute(NONCE, self.nonce)
        self.socket.sendall(request(method, body, KEY if self.nonce else None))
        code, found = answer(self.socket.recv(2048))
        self.nonce = found.get(NONCE, self.nonce)
        return code

    def permit(self, address):
        return self.ask(CREATE_PERMISSION, attribute(PEER, xored((address, 0))))


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, timeout=10)


def inside():
    """In the namespace: a server, a client, and changes of the addresses."""
    with tempfile.TemporaryDirectory() as directory:
        config, log = Path(directory, "turnserver.toml"), Path(directory, "log")
        config.write_text(
            f'realm = "{REALM}"\nlisten.udp = ["{SERVER[0]}:{SERVER[1]}"]\nlisten.tcp = []\n'
            f'relay.addresses = ["{SERVER[0]}"]\nauth.users = {{ {USER} = "{PASSWORD}" }}\n'
        )
        config.chmod(0o600)
        with log.open("w") as output:
            command = [os.environ["TURNSTONE_BIN"], "run", "--config", config]
            server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=output)
        try:
            deadline = time.monotonic() + 10
            while "serving" not in log.read_text():
                expect(server.poll() is None and time.monotonic() < deadline, log.read_text())
                time.sleep(0.02)
            changes(Client())
            expect("addresses have changed" in log.read_text(), "the log says nothing")
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(10)


def changes(client):
    expect(client.permit("11.0.0.255") == 403, "the broadcast address is a peer")
    for name, address, change in [
        ("a new address", "11.0.0.77", ["addr", "add", "11.0.0.77/24", "dev", "v0"]),
        ("a routed network", "12.6.0.5", ["route", "add", "local", "12.6.0.0/24", "dev", "lo"]),
    ]:
        expect(client.permit(address) == 0, f"{name} is no peer before it is there")
        ip(*change)
        deadline = time.monotonic() + NOTICED
        while client.permit(address) != 403:
            expect(time.monotonic() < deadline, f"{name} is a peer")
            time.sleep(0.2)
    ip("addr", "del", "11.0.0.77/24", "dev", "v0")
    deadline = time.monotonic() + NOTICED
    while client.permit("11.0.0.77") != 0:
        expect(time.monotonic() < deadline, "an address that is gone is no peer")
        time.sleep(0.2)


def check():
    """All of it; returns a note."""
    ip("netns", "add", NAMESPACE)
    try:
        ip("-n", NAMESPACE, "link", "set", "lo", "up")
        ip("-n", NAMESPACE, "link", "add", "v0", "type", "veth", "peer", "name", "v1")
        ip("-n", NAMESPACE, "addr", "add", f"{SERVER[0]}/24", "dev", "v0")
        ip("-n", NAMESPACE, "link", "set", "v0", "up")
        ip("-n", NAMESPACE, "link", "set", "v1", "up")
        command = ["ip", "netns", "exec", NAMESPACE, sys.executable, __file__, "inside"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        expect(done.returncode == 0, done.stderr.strip().splitlines()[-1] if done.stderr else "failed")
    finally:
        ip("netns", "del", NAMESPACE)
    return "noticed as they come and go"


if __name__ == "__main__":
    if sys.argv[1:] == ["inside"]:
        inside()
    else:
        print(check())
