"""Certificates from a real ACME server, pebble, in a network namespace with ports 80 and 443 of its own.

Needs root, openssl, TURNSTONE_BIN, PEBBLE and CHALLTESTSRV (which is pebble's DNS server).
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import lab
from stun import answer, expect, request

SPACE = "acme"
HOST, DEAF = "203.0.113.10", "203.0.113.20"  # an address of the server, and one where nobody listens
CA, NAME, OTHER, BLOCKED = "ca.acme.test", "turn.acme.test", "other.acme.test", "blocked.acme.test"
DIRECTORY = f"https://{CA}:14000/dir"
BINDING = 1
KEY_ID, MAC_KEY = "kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"

SERVER = """
realm = "{name}"
[listen]
udp = ["{host}:3478"]
tcp = ["{host}:3478"]
tls = ["{host}:443"]
[auth]
static_auth_secret = "a-secret-of-thirty-two-characters-or-more"
[relay]
addresses = ["{host}"]
[admin]
socket = "{home}/admin.sock"
[tls.acme]
domains = ["{domains}"]
email = "{email}"
directory = "{directory}"
ca_file = "{home}/ca/ca.pem"
challenge = "{challenge}"
http_listen = "{host}:80"
terms_of_service_agreed = true
{more}
"""


def inside(*command):
    return lab.inside(SPACE, *command)


def eventually(what, happened, seconds=30):
    """Waits for a result that is true, and returns it."""
    deadline = time.monotonic() + seconds
    while not (result := happened()):
        expect(time.monotonic() < deadline, what() if callable(what) else what)
        time.sleep(0.1)
    return result


@contextlib.contextmanager
def space(home):
    """The namespace, in which names are resolved by challtestsrv."""
    name, etc = lab.PREFIX + SPACE, Path("/etc/netns", lab.PREFIX + SPACE)
    try:
        lab.run("ip", "netns", "add", name)
        lab.ip(SPACE, "link", "set", "lo", "up")
        for address in (HOST, DEAF):
            lab.ip(SPACE, "addr", "add", f"{address}/32", "dev", "lo")
        etc.mkdir(parents=True, exist_ok=True)
        (etc / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:2\n")
        yield
    finally:
        shutil.rmtree(etc, ignore_errors=True)
        with contextlib.suppress(OSError):
            etc.parent.rmdir()  # if it is ours alone
        if name in lab.run("ip", "netns", "list").stdout.split():
            lab.kill(SPACE)
            lab.run("ip", "netns", "del", name)


@contextlib.contextmanager
def running(command, log, environment=()):
    """A program in the namespace, until the end of the block."""
    with log.open("a") as output:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TURNSERVER_")} | dict(environment)
        process = subprocess.Popen(
            inside(*command), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def fetch(url, data=None, context=None):
    """Asks from inside the namespace, where curl would need a package: by a thread that goes there."""
    code = (
        "import json,ssl,sys,urllib.request as u;"
        "c=ssl._create_unverified_context();"
        "sys.stdout.buffer.write(u.urlopen(u.Request(sys.argv[1],sys.argv[2].encode() or None),context=c,timeout=10).read())"
    )
    done = lab.run(*inside("/usr/bin/python3", "-c", code, url, data or ""))
    return done.stdout


class Bench:
    def __init__(self, home):
        self.home = home
        self.pebble_log, self.dns_log = home / "pebble.log", home / "dns.log"
        self.number = 0
        ca = home / "ca"
        ca.mkdir()
        ca.chmod(0o755)  # the server, which has become somebody else, reads it again with each reload
        openssl = lambda *arguments: lab.run("openssl", *arguments, cwd=ca)
        new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "9"]
        openssl(*new, "-subj", "/CN=who runs the ACME server", "-keyout", "ca.key", "-out", "ca.pem")
        leaf = ["-subj", f"/CN={CA}", "-addext", f"subjectAltName=DNS:{CA}", "-addext", "basicConstraints=CA:FALSE"]
        openssl(*new, *leaf, "-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", "leaf.key", "-out", "leaf.pem")

    @contextlib.contextmanager
    def dns(self):
        options = ["-defaultIPv4", HOST, "-defaultIPv6", "", "-dnsserver", "127.0.0.1:53", "-management", "127.0.0.1:8055"]
        off = [option for name in ("-http01", "-https01", "-tlsalpn01", "-doh") for option in (name, "")]
        with running([os.environ["CHALLTESTSRV"], *options, *off], self.dns_log):
            eventually("no DNS server", lambda: "management" in self.dns_log.read_text())
            self.told("add-a", host=CA, addresses=["127.0.0.1"])
            yield

    def told(self, what, **body):
        eventually(f"{what}: no answer", lambda: self._told(what, json.dumps(body)))

    def _told(self, what, body):
        with contextlib.suppress(subprocess.CalledProcessError):
            fetch(f"http://127.0.0.1:8055/{what}", body)
            return True

    @contextlib.contextmanager
    def pebble(self, validity=3600, eab=False):
        config = self.home / "pebble.json"
        pebble = {
            "listenAddress": "127.0.0.1:14000",
            "managementListenAddress": "127.0.0.1:15000",
            "certificate": str(self.home / "ca/leaf.pem"),
            "privateKey": str(self.home / "ca/leaf.key"),
            "httpPort": 80,
            "tlsPort": 443,
            "externalAccountBindingRequired": eab,
            "externalAccountMACKeys": {KEY_ID: MAC_KEY},
            "domainBlocklist": [BLOCKED],
            "retryAfter": {"authz": 1, "order": 1},
            "keyAlgorithm": "ecdsa",
            "profiles": {"default": {"description": "one", "validityPeriod": validity}},
        }
        config.write_text(json.dumps({"pebble": pebble}))
        self.pebble_log.write_text("")
        command = [os.environ["PEBBLE"], "-config", str(config), "-dnsserver", "127.0.0.1:53"]
        with running(command, self.pebble_log, {"PEBBLE_VA_NOSLEEP": "1"}):
            eventually(self.pebble_log.read_text, lambda: "ACME directory available" in self.pebble_log.read_text())
            root = eventually("pebble does not answer", self._root)
            (self.home / "root.pem").write_text(root)
            yield

    def _root(self):
        with contextlib.suppress(subprocess.CalledProcessError):
            return fetch("https://127.0.0.1:15000/roots/0")

    def issued(self):
        return self.pebble_log.read_text().count("Issued certificate")

    def server(self, state, challenge, domains=(NAME,), directory=DIRECTORY, more="", email="admin@acme.test"):
        return Server(self, state, challenge, domains, directory, more, email)


class Server:
    """The server under test; a context in which it runs."""

    def __init__(self, bench, state, challenge, domains, directory, more, email):
        self.bench, self.state = bench, bench.home / state
        bench.number += 1
        self.log = bench.home / f"server-{bench.number}.log"
        self.config = bench.home / f"server-{bench.number}.toml"
        self.config.write_text(
            SERVER.format(
                name=domains[0], domains='", "'.join(domains), host=HOST, home=bench.home,
                directory=directory, challenge=challenge, more=more, email=email,
            )
        )
        self.config.chmod(0o644)

    def __enter__(self):
        command = [os.environ["TURNSTONE_BIN"], "run", "--config", str(self.config)]
        self.context = running(command, self.log, {"STATE_DIRECTORY": str(self.state)})
        self.process = self.context.__enter__()
        eventually(self.text, lambda: "serving" in self.text(), 10)
        return self

    def __exit__(self, *error):
        self.context.__exit__(*error)
        if error[0] is None:
            expect(self.process.returncode == 0, f"it ended with {self.process.returncode}")
            expect("panicked" not in self.text(), self.text())

    def text(self):
        return self.log.read_text()

    def has_told(self, *words):
        line = lambda: next((line for line in self.text().splitlines() if all(word in line for word in words)), None)
        return eventually(lambda: f"nothing of {words}: {self.text()}", line)

    def file(self):
        return next((path for path in (self.state / "acme").glob("*.pem")), None)

    def info(self):
        command = [os.environ["TURNSTONE_BIN"], "info", "--json", "--socket", str(self.bench.home / "admin.sock")]
        return json.loads(lab.run(*inside(*command)).stdout)

    def serves_stun(self):
        """Over UDP, which no certificate is needed for."""
        code = (
            "import socket,sys;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.settimeout(5);"
            f"s.sendto(bytes.fromhex(sys.argv[1]),('{HOST}',3478));print(s.recv(999).hex())"
        )
        reply = lab.run(*inside("/usr/bin/python3", "-c", code, request(BINDING, b"").hex())).stdout
        expect(answer(bytes.fromhex(reply))[0] == 0, "no STUN")

    def shown(self, name=NAME):
        """The serial number of the certificate that openssl gets and verifies, if it does."""
        verify = ["-CAfile", str(self.bench.home / "root.pem"), "-verify_return_error", "-verify_hostname", name]
        command = ["openssl", "s_client", "-connect", f"{HOST}:443", "-servername", name, *verify]
        done = subprocess.run(inside(*command), input="", capture_output=True, text=True, timeout=30)
        if done.returncode:
            return None
        return lab.run("openssl", "x509", "-noout", "-serial", input=done.stdout).stdout.strip()

    def certified(self, name=NAME):
        return eventually(lambda: f"{name}: no certificate: {self.text()}", lambda: self.shown(name))


# Asks over TLS, tells so, and asks again by the same connection when it is told to.
LIVE = """
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
s = context.wrap_socket(socket.create_connection((sys.argv[1], 443), 10), server_hostname=sys.argv[3])
def ask():
    s.sendall(bytes.fromhex(sys.argv[4]))
    assert s.recv(999)[:2] == b"\\x01\\x01"
ask()
print("ready", flush=True)
sys.stdin.readline()
ask()
print("well", flush=True)
"""


def each_challenge(bench):
    for challenge in ("http-01", "tls-alpn-01"):
        with bench.pebble():
            with bench.server(f"state-{challenge}", challenge, (NAME, OTHER)) as server:
                server.serves_stun()
                serial = server.certified()
                expect(server.certified(OTHER) == serial, "another certificate for the other name")
                expect(bench.issued() == 1, "more than one certificate")
                acme = server.info()["acme"]
                expect(acme["has_certificate"] and acme["next_attempt_unix_s"] and not acme["last_error"], acme)
                directory = server.state / "acme"
                modes = [stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.iterdir())]
                expect(modes == [0o700] + [0o600] * (len(modes) - 1), f"modes {modes}")
                expect(len(modes) == 4, f"{[*directory.iterdir()]}")
            # What is kept is shown at once, and nothing is asked of the authority.
            with bench.server(f"state-{challenge}", challenge, (NAME, OTHER)) as server:
                expect(server.shown() == serial, "another certificate after a restart")
                expect("is asked for" not in server.text(), server.text())
                expect(bench.issued() == 1, "another order after a restart")
        # Not even if it is away.
        with bench.server(f"state-{challenge}", challenge, (NAME, OTHER)) as server:
            expect(server.shown() == serial, "no certificate without the authority")


def what_is_broken(bench):
    with bench.pebble():
        with bench.server("state-http-01", "http-01", (NAME, OTHER)) as server:
            file = server.file()
        file.write_bytes(file.read_bytes()[:200])
        for account in file.parent.glob("account-*.json"):
            account.write_text("{")
        with bench.server("state-http-01", "http-01", (NAME, OTHER)) as server:
            server.has_told("the certificate in", "cannot be used", ".pem.broken")
            server.has_told("the account in", "cannot be used", ".json.broken")
            server.certified()
        # With the next order another address is told, once.
        updates = lambda: bench.pebble_log.read_text().count("POST /my-account/")
        for expected in (1, 1):
            server.file().unlink()
            with bench.server("state-http-01", "http-01", (NAME, OTHER), email="other@acme.test") as server:
                server.certified()
                expect(updates() == expected, f"{updates()} changes of the account")
            for attempts in (server.state / "acme").glob("attempts-*.json"):
                attempts.unlink()
    # An authority that has forgotten the account: pebble keeps nothing.
    with bench.pebble():
        server = bench.server("state-http-01", "http-01", (NAME, "new.acme.test"))
        with server:
            server.has_told("the authority does not know it", "a new one is made")
            expect(server.info()["acme"]["last_error"], "no error is told")


def renewal(bench):
    with bench.pebble(validity=20), bench.server("state-renewal", "tls-alpn-01") as server:
        first = server.certified()
        live = [bench.home / "root.pem", NAME, request(BINDING, b"").hex()]
        command = inside("/usr/bin/python3", "-c", LIVE, HOST, *map(str, live))
        client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            expect(client.stdout.readline() == "ready\n", "no STUN over TLS")
            second = eventually("it is not renewed", lambda: server.shown() not in (None, first) and server.shown())
            client.stdin.write("\n")
            client.stdin.flush()
            expect(client.stdout.readline() == "well\n", "the renewal has cost a connection")
        finally:
            client.kill()
            client.wait()
        key = lambda: lab.run("openssl", "pkey", "-in", str(server.file()), "-pubout").stdout
        before, issued = key(), bench.issued()
        eventually("it is not renewed again", lambda: bench.issued() > issued and key() != before)
        expect("certificate replaced" not in server.text(), "the keeper of files meddles")
        return second


def account_outside(bench):
    with bench.pebble(eab=True):
        with bench.server("state-eab", "http-01") as server:
            server.has_told("no certificate", "externalAccountRequired", "set tls.acme.eab_key_id")
        key = bench.home / "eab-key"
        key.write_text(MAC_KEY + "\n")
        key.chmod(0o600)
        with bench.server("state-eab", "http-01", more=f'eab_key_id = "{KEY_ID}"\neab_key_file = "{key}"') as server:
            server.certified()
            expect(MAC_KEY not in server.text(), "the key is in the log")


def what_goes_wrong(bench):
    with bench.server("state-away", "http-01") as server:
        server.has_told("no certificate", f"let this server reach {CA}", "TCP port 14000")
        server.serves_stun()
        expect(server.shown() is None, "a certificate from nowhere")
        expect(server.info()["acme"]["next_attempt_unix_s"] <= time.time() + 80, "it waits too long")
    # One that accepts and says nothing.
    hang = "import socket,time;s=socket.create_server(('127.0.0.1',14000));time.sleep(600)"
    with running(["/usr/bin/python3", "-c", hang], bench.home / "hang.log"):
        with bench.server("state-hang", "http-01") as server:
            server.serves_stun()
            began = time.monotonic()
        expect(time.monotonic() - began < 3, "the end of the server waits for the authority")
    with bench.pebble():
        bench.told("add-a", host=NAME, addresses=[DEAF])
        remedies = {"tls-alpn-01": f"answers at port 443 of {NAME}", "http-01": f"open TCP port 80 of {NAME}"}
        for challenge, remedy in remedies.items():
            with bench.server(f"state-deaf-{challenge}", challenge) as server:
                line = server.has_told("no certificate", NAME, DEAF, remedy)
                expect(re.search(r"next_attempt_in=\"1h", line), line)
                server.serves_stun()
        bench.told("clear-a", host=NAME)
        bench.told("set-servfail", host=NAME)
        with bench.server("state-dns", "tls-alpn-01") as server:
            server.has_told("no certificate", NAME, "Could not resolve")
        bench.told("clear-servfail", host=NAME)
        with bench.server("state-blocked", "tls-alpn-01", (BLOCKED,)) as server:
            server.has_told("no certificate", "rejectedIdentifier", "remove the name from tls.acme.domains")
        # Restarts are no way around the pause, but for two.
        for attempt in range(4):
            with bench.server("state-blocked", "tls-alpn-01", (BLOCKED,)) as server:
                if attempt < 2:
                    server.has_told("rejectedIdentifier")
                else:
                    server.serves_stun()
                    expect(server.info()["acme"]["next_attempt_unix_s"] > time.time() + 3000, "it asks again")
        # Who does not trust the directory's certificate asks nothing of it.
        with bench.server("state-trust", "http-01", directory="https://127.0.0.1:14000/dir") as server:
            server.has_told("no certificate", "certificate", "let tls.acme.ca_file name")


CASES = {
    "challenges": ("http-01 and tls-alpn-01, restart, what is broken", [each_challenge, what_is_broken]),
    "renewal": ("a connection outlives it; an account outside of ACME", [renewal, account_outside]),
    "failures": ("away, hanging, refusing, deaf, not trusted", [what_goes_wrong]),
}


def check(name):
    note, steps = CASES[name]
    with tempfile.TemporaryDirectory(prefix="acme-") as home:
        home = Path(home)
        home.chmod(0o755)
        bench = Bench(home)
        try:
            with space(home), bench.dns():
                for step in steps:
                    step(bench)
        finally:
            logs = Path(os.environ["INTEROP_LOGS"]) / f"acme-{name}" if "INTEROP_LOGS" in os.environ else None
            if logs:
                logs.mkdir(parents=True, exist_ok=True)
                for log in home.glob("*.log"):
                    shutil.copy(log, logs)
    return note


if __name__ == "__main__":
    for case in CASES:
        print(check(case))
