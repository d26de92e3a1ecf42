"""Port 443 with a web server behind it, and behind HAProxy: Debian's nginx and HAProxy on the very
configurations of docs/tls.md, web clients and calls over TLS at the same time.

Needs root, ip, openssl, curl, nginx, haproxy and TURNSTONE_BIN. Everything happens in a network namespace
of its own, inside of which this program runs itself again.
"""

import contextlib
import hashlib
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from stun import (
    ALLOCATE, CREATE_PERMISSION, NONCE, PEER, REALM_NAME, TRANSPORT, UDP, USERNAME, answer, attribute, expect, request,
    unxored, xored,
)

NAMESPACE, SERVER, PEER_ADDRESS = "turnstone-443", "11.0.0.1", "11.0.0.3"
CLIENTS = ["11.0.0.21", "11.0.0.22"]
REALM, USER, PASSWORD = "example.org", "alice", "wonderland"
KEY = hashlib.md5(f"{USER}:{REALM}:{PASSWORD}".encode()).digest()
BINDING, SEND, MAPPED, DATA = 1, 0x16, 0x20, 0x13
NAMES = {"turn": "turn.example.org", "www": "www.example.org"}
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "tls.md"
MESSAGES, PAGES = 200, 20
DEADLINE = 10


def snippet(language):
    """The one block of the document in a language."""
    found = re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.S)
    expect(len(found) == 1, f"{len(found)} blocks of {language} in docs/tls.md")
    return found[0]


class Client:
    """A client of TURN on a stream."""

    def __init__(self, address, port, tls=None):
        stream = socket.create_connection((SERVER, port), DEADLINE, (address, 0))
        self.stream = tls.wrap_socket(stream, server_hostname=NAMES["turn"]) if tls else stream
        self.local = stream.getsockname() if not tls else self.stream.getsockname()
        self.nonce = None

    def read(self, size):
        data = b""
        while len(data) < size:
            more = self.stream.recv(size - len(data))
            expect(more, "the server has closed the connection")
            data += more
        return data

    def message(self):
        start = self.read(20)
        return start + self.read(int.from_bytes(start[2:4], "big"))

    def ask(self, method, body=b""):
        signs = self.nonce and method != BINDING
        if signs:
            body += attribute(USERNAME, USER.encode()) + attribute(REALM_NAME, REALM.encode())
            body += attribute(NONCE, self.nonce)
        self.stream.sendall(request(method, body, KEY if signs else None))
        code, found = answer(self.message())
        self.nonce = found.get(NONCE, self.nonce)
        return code, found

    def mapped(self):
        code, found = self.ask(BINDING)
        expect(code == 0, f"Binding: {code}")
        return unxored(found[MAPPED])

    def call(self, peer):
        """Allocates, and exchanges messages with a peer."""
        body = attribute(TRANSPORT, UDP)
        expect(self.ask(ALLOCATE, body)[0] == 401, "no challenge")
        expect(self.ask(ALLOCATE, body)[0] == 0, "no allocation")
        expect(self.ask(CREATE_PERMISSION, attribute(PEER, xored(peer)))[0] == 0, "no permission")
        for number in range(MESSAGES):
            data = number.to_bytes(4, "big") * 50
            self.stream.sendall(request(SEND, attribute(PEER, xored(peer)) + attribute(DATA, data)))
            expect(answer(self.message())[1].get(DATA) == data, f"message {number} is not back")


def echo(sock, stop):
    sock.settimeout(0.2)
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            data, sender = sock.recvfrom(2048)
            sock.sendto(data, sender)


def openssl(directory, *arguments):
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True, timeout=60)


def certificates(directory):
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl(directory, "req", "-x509", *new, "-days", "2", "-subj", "/CN=Test", "-keyout", "ca.key", "-out", "ca.crt")
    for file, name in NAMES.items():
        Path(directory, f"{file}.ext").write_text(f"subjectAltName=DNS:{name}\n")
        openssl(directory, "req", *new, "-subj", f"/CN={name}", "-keyout", f"{file}.key", "-out", f"{file}.csr")
        openssl(
            directory, "x509", "-req", "-in", f"{file}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-extfile", f"{file}.ext", "-out", f"{file}.crt",
        )


@contextlib.contextmanager
def running(*command, until, log, where=()):
    """A program in the foreground, from when it listens (on TCP ports) until the end of the block.

    `where` is the beginning of commands in another namespace.
    """
    with Path(log).open("wb") as out:
        process = subprocess.Popen([*where, *command], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + DEADLINE
        for port in until:
            listens = [*where, "ss", "-Hltn", "sport", "=", f":{port}"]
            while not subprocess.run(listens, capture_output=True, text=True, timeout=DEADLINE).stdout:
                alive = process.poll() is None and time.monotonic() < deadline
                expect(alive, f"{command[0]} does not listen on {port}: {Path(log).read_text()[-500:]}")
                time.sleep(0.02)
        yield process
        expect(process.poll() is None, f"{command[0]} has ended: {Path(log).read_text()[-500:]}")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def turnstone(directory, more, ports):
    config = Path(directory, "turnserver.toml")
    config.write_text(
        f'realm = "{REALM}"\nrelay.addresses = ["{SERVER}"]\nauth.users = {{ {USER} = "{PASSWORD}" }}\n'
        f'tls = {{ cert = "turn.crt", key = "turn.key" }}\npeers.allow = ["{PEER_ADDRESS}"]\n{more}\n'
    )
    config.chmod(0o600)
    command = [os.environ["TURNSTONE_BIN"], "run", "--config", config]
    return running(*command, until=ports, log=Path(directory, "turnstone.log"))


def nginx(directory, where=()):
    """nginx on the document's servers, with what every nginx.conf has around them."""
    servers = snippet("nginx").replace("/etc/nginx/", f"{directory}/").replace("/var/www/html", f"{directory}/html")
    config = Path(directory, "nginx.conf")
    config.write_text(
        f"daemon off;\nuser root;\npid {directory}/nginx.pid;\nevents {{}}\nhttp {{\n"
        f"access_log {directory}/access.log;\nerror_log stderr;\n"
        + "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
        + f"{servers}}}\n"
    )
    return running("nginx", "-p", directory, "-c", config, until=[8443, 8080], log=Path(directory, "nginx.log"), where=where)


def curl(server, directory, *arguments, where=()):
    """What a client of the web server at an address gets."""
    command = [*where, "curl", "-sS", "--fail", "--max-time", "10", "--cacert", f"{directory}/ca.crt"]
    for name in NAMES.values():
        for port in (80, 443):
            command += ["--resolve", f"{name}:{port}:{server}"]
    done = subprocess.run([*command, *arguments], capture_output=True, timeout=20)
    expect(done.returncode == 0, f"curl {' '.join(arguments)}: {done.stderr.decode().strip()}")
    return done.stdout


def web_nginx(directory, tls, peer):
    """The web server behind the port: pages and a call over TLS at the same time."""
    listen = f'listen = {{ udp = [], tls = ["{SERVER}:443"], tcp = ["{SERVER}:80"] }}'
    web = f'web = {{ https = "127.0.0.1:8443", http = "127.0.0.1:8080", names = ["{NAMES["www"]}"] }}'
    html = Path(directory, "html")
    html.mkdir()
    page = "the page\n" * 20_000
    Path(html, "index.html").write_text(page)
    with nginx(directory), turnstone(directory, f"{listen}\n{web}", [443, 80]):
        failures = []

        def calls():
            try:
                client = Client(CLIENTS[0], 443, tls)
                expect(client.mapped() == client.local, "the call's address is another")
                client.call(peer)
            except Exception as error:
                failures.append(error)

        calling = threading.Thread(target=calls)
        calling.start()
        url, source = f"https://{NAMES['www']}/", ["--interface", CLIENTS[1]]
        for number in range(PAGES):
            # With HTTP's protocols, and with none but a name.
            options = [["--http1.1"], ["--no-alpn"]][number % 2]
            expect(curl(SERVER, directory, *source, *options, url) == page.encode(), "another page")
        code = curl(SERVER, directory, *source, "-o", "/dev/null", "-w", "%{http_code}", f"http://{NAMES['www']}/")
        expect(code == b"301", f"http: {code}")
        calling.join(60)
        expect(not calling.is_alive(), "the call does not end")
        if failures:
            raise failures[0]
        lines = Path(directory, "access.log").read_text().splitlines()
        expect(len(lines) == PAGES + 1, f"nginx has logged {len(lines)} requests")
        others = [line for line in lines if not line.startswith(CLIENTS[1] + " ")]
        expect(not others, f"nginx has not logged the client: {others[:1]}")


def haproxy(directory, tls, peer, version):
    """A proxy in front of the port, which says whose connections it passes on."""
    listen = 'listen = { udp = [], tcp = [], tls = ["127.0.0.1:5349"], proxy_protocol_from = ["127.0.0.1"] }'
    text = snippet("haproxy")
    if version == 1:
        text = text.replace("send-proxy-v2", "send-proxy")
    config = Path(directory, "haproxy.cfg")
    config.write_text(f"global\n    log stdout format raw daemon\n\n{text}")
    command = ["haproxy", "-db", "-f", str(config)]
    with (
        turnstone(directory, listen, [5349]),
        running(*command, until=[443], log=Path(directory, "haproxy.log")),
    ):
        for address, over in [(CLIENTS[0], tls), (CLIENTS[1], None)]:
            client = Client(address, 443, over)
            expect(client.mapped() == client.local, f"version {version}: {client.local} is told another address")
            client.call(peer)
            log = Path(directory, "turnstone.log").read_text()
            expect(f"client={client.local[0]}:{client.local[1]}" in log, "the log has another client")
        # Without the proxy nobody is believed.
        header = f"PROXY TCP4 192.0.2.1 {SERVER} 1 443\r\n".encode()
        with socket.create_connection(("127.0.0.1", 5349), DEADLINE, ("127.0.0.2", 0)) as stranger:
            stranger.sendall(header)
            with contextlib.suppress(ConnectionResetError):
                expect(stranger.recv(64) == b"", "a stranger is answered")


def inside(scenario):
    stop = threading.Event()
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        certificates(directory)
        tls = ssl.create_default_context(cafile=f"{directory}/ca.crt")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((PEER_ADDRESS, 0))
            peer = sock.getsockname()
            echoing = threading.Thread(target=echo, args=(sock, stop))
            echoing.start()
            try:
                if scenario == "web-nginx":
                    web_nginx(directory, tls, peer)
                else:
                    haproxy(directory, tls, peer, 2)
                    haproxy(directory, tls, peer, 1)
            finally:
                stop.set()
                echoing.join()


def check(scenario):
    """One of them; returns a note."""
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True, timeout=10)
    try:
        ip = ["ip", "-n", NAMESPACE]
        commands = [["link", "set", "lo", "up"], ["link", "add", "v0", "type", "veth", "peer", "name", "v1"]]
        commands += [["link", "set", device, "up"] for device in ("v0", "v1")]
        commands += [["addr", "add", f"{a}/24", "dev", "v0"] for a in (SERVER, PEER_ADDRESS, *CLIENTS)]
        for command in commands:
            subprocess.run([*ip, *command], check=True, timeout=10)
        command = ["ip", "netns", "exec", NAMESPACE, sys.executable, __file__, "inside", scenario]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        expect(done.returncode == 0, done.stderr.strip().splitlines()[-1] if done.stderr else "failed")
    finally:
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=True, timeout=10)
    return {
        "web-nginx": f"{PAGES} pages beside {MESSAGES} messages of a call, and nginx knows its clients",
        "haproxy": "clients are told their own addresses by both versions, with TLS and without",
    }[scenario]


if __name__ == "__main__":
    if sys.argv[1:2] == ["inside"]:
        inside(sys.argv[2])
    else:
        for scenario in sys.argv[1:] or ["web-nginx", "haproxy"]:
            print(check(scenario))
