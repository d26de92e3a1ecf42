"""docs/prometheus and the metrics themselves, judged by Debian's Prometheus.

Needs prometheus, promtool and TURNSTONE_BIN. Everything happens on loopback: two clients relay packets
through a server, and the numbers that Prometheus has scraped must be those of what was sent.
"""

import hashlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from stun import (
    ALLOCATE, CHANNEL, CHANNEL_BIND, COOKIE, LIFETIME, NONCE, PEER, REALM_NAME, REFRESH, RELAYED, TRANSPORT, UDP, USERNAME,
    answer, attribute, expect, request, xored,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"
REALM, PASSWORD = "example.org", "wonderland"
NUMBER = 0x4000
PACKETS, TO_PEER, TO_CLIENT = 500, b"x" * 100, b"y" * 60
SCRAPE_S = 1


def eventually(what, happened, seconds=30):
    """Waits for a result that is true, and returns it."""
    deadline = time.monotonic() + seconds
    while not (result := happened()):
        expect(time.monotonic() < deadline, what() if callable(what) else what)
        time.sleep(0.1)
    return result


class Client:
    """Relays by one channel."""

    def __init__(self, server, tcp, user="alice"):
        self.tcp, self.user = tcp, user.encode()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
        self.socket.settimeout(5)
        self.socket.connect(server)
        self.key = hashlib.md5(f"{user}:{REALM}:{PASSWORD}".encode()).digest()
        self.realm = self.nonce = None

    def read(self, count):
        data = b""
        while len(data) < count:
            data += self.socket.recv(count - len(data))
        return data

    def receive(self):
        """One message or ChannelData."""
        if not self.tcp:
            return self.socket.recv(2048)
        head = self.read(4)
        kind, length = struct.unpack("!HH", head)
        return head + self.read(length + -length % 4 if kind >= 0x4000 else length + 16)

    def ask(self, method, body):
        """Sends a request, signed once there is a nonce; returns code (0 for success) and attributes."""
        if self.nonce:
            body += attribute(USERNAME, self.user) + attribute(REALM_NAME, REALM.encode()) + attribute(NONCE, self.nonce)
        self.socket.sendall(request(method, body, self.key if self.nonce else None))
        return answer(self.receive())

    def allocate(self, peer):
        """Makes an allocation with a channel; returns its relayed address."""
        body = attribute(TRANSPORT, UDP)
        code, found = self.ask(ALLOCATE, body)
        expect(code == 401, f"{code} instead of a challenge")
        self.nonce = found[NONCE]
        code, found = self.ask(ALLOCATE, body)
        expect(code == 0, f"Allocate: {code}")
        _, _, port, ip = struct.unpack("!BBHI", found[RELAYED])
        bind = attribute(CHANNEL, struct.pack("!HH", NUMBER, 0)) + attribute(PEER, xored(peer))
        code, _ = self.ask(CHANNEL_BIND, bind)
        expect(code == 0, f"ChannelBind: {code}")
        return socket.inet_ntoa(struct.pack("!I", ip ^ COOKIE)), port ^ COOKIE >> 16

    def relay(self, peer, relayed):
        """Sends packets and has each answered with two."""
        for _ in range(PACKETS):
            self.socket.sendall(struct.pack("!HH", NUMBER, len(TO_PEER)) + TO_PEER)
            expect(peer.recv(2048) == TO_PEER, "another packet")
            for _ in range(2):
                peer.sendto(TO_CLIENT, relayed)
                expect(self.receive()[4 : 4 + len(TO_CLIENT)] == TO_CLIENT, "another answer")


def start(command, log, environment):
    with log.open("w") as output:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=output, env=environment)


def stop(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def serving(process, log):
    """The addresses of a server that has started."""

    def line():
        expect(process.poll() is None, f"no server: {log.read_text()}")
        return next((line for line in log.read_text().splitlines() if "serving" in line), None)

    line = eventually("the server does not serve", line)
    return {name: ("127.0.0.1", int(port)) for name, port in re.findall(r"(udp|tcp|metrics)=127\.0\.0\.1:(\d+)", line)}


class Prometheus:
    """Asks a Prometheus by its HTTP API."""

    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}"

    def get(self, path, **parameters):
        url = f"{self.base}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=5) as reply:
            return json.load(reply)["data"]

    def ready(self):
        try:
            return urllib.request.urlopen(f"{self.base}/-/ready", timeout=5).status == 200
        except OSError:
            return False

    def value(self, expression):
        """The one value of an expression, or None."""
        result = self.get("/api/v1/query", query=expression)["result"]
        return float(result[0]["value"][1]) if len(result) == 1 else None

    def expect(self, values):
        wrong = {}

        def right():
            wrong.clear()
            found = {expression: self.value(expression) for expression in values}
            wrong.update({it: (found[it], values[it]) for it in values if found[it] != values[it]})
            return not wrong

        eventually(lambda: f"(found, expected): {wrong}", right)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def promtool(*arguments, **more):
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60, **more)
    expect(done.returncode == 0 and not done.stderr, f"promtool {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")
    return done.stdout


def relay_and_watch(prometheus, addresses, peer):
    """Traffic while Prometheus scrapes; afterwards its numbers are those of the traffic."""
    clients = {name: Client(addresses[name], name == "tcp") for name in ("udp", "tcp")}
    for client in clients.values():
        client.relay(peer, client.allocate(peer.getsockname()))
    expected = {}
    for name in clients:
        of = f'{{job="turnstone",transport="{name}",family="ipv4"'
        expected |= {
            f"turnstone_allocations{of}}}": 1,
            f'turnstone_relayed_packets_total{of},direction="to_peers"}}': PACKETS,
            f'turnstone_relayed_packets_total{of},direction="to_client"}}': PACKETS * 2,
            f'turnstone_relayed_bytes_total{of},direction="to_peers"}}': PACKETS * len(TO_PEER),
            f'turnstone_relayed_bytes_total{of},direction="to_client"}}': PACKETS * 2 * len(TO_CLIENT),
        }
    expected |= {
        'turnstone_requests_total{method="Allocate"}': 4,
        'turnstone_replies_total{method="Allocate",code="success"}': 2,
        'turnstone_relay_ports{state="live"}': 2,
        'turnstone_tcp_connections{state="established"}': 1,
        "sum(turnstone_dropped_packets_total)": 0,
        'turnstone_received_batch_datagrams_sum{socket="relay"}': PACKETS * 4,
    }
    prometheus.expect(expected)
    for client in clients.values():
        code, _ = client.ask(REFRESH, attribute(LIFETIME, bytes(4)))
        expect(code == 0, f"Refresh: {code}")
    prometheus.expect({'turnstone_allocations_ended_total{reason="deleted"}': 2, "sum(turnstone_allocations)": 0})
    # A counter's rate is asked for over time, so the dashboard's queries have something to find.
    rate = prometheus.value("sum(increase(turnstone_relayed_packets_total[10m]))")
    expect(rate is not None and rate > 0, f"nothing increased: {rate}")


def check_scrapes(prometheus, log):
    targets = prometheus.get("/api/v1/targets")["activeTargets"]
    expect(len(targets) == 1, f"{len(targets)} targets")
    (target,) = targets
    expect(target["health"] == "up" and not target["lastError"], f"{target['health']}: {target['lastError']}")
    expect(prometheus.value("min_over_time(up[10m])") == 1, "a scrape failed")
    expect(prometheus.value("scrape_samples_post_metric_relabeling == scrape_samples_scraped") is not None, "lost samples")
    kinds = prometheus.get("/api/v1/metadata")
    for name, kind in (
        ("turnstone_relayed_bytes", "counter"),
        ("turnstone_allocations", "gauge"),
        ("turnstone_worker_tick_delay_seconds", "histogram"),
        ("turnstone_build", "info"),
    ):
        expect(kinds[name][0]["type"] == kind, f"{name} is {kinds[name]}")
    expect(kinds["turnstone_relayed_bytes"][0]["unit"] == "bytes", "no unit")
    bad = [line for line in log.read_text().splitlines() if re.search(r"level=(warn|error)", line)]
    expect(not bad, f"Prometheus complains: {bad[:3]}")
    return target["lastScrapeDuration"]


def check_dashboard(prometheus):
    """Every query of the dashboard is one that Prometheus understands; returns how many there are."""
    dashboard = json.loads((DOCS / "grafana/turnstone.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    for query in queries:
        query = query.replace("$job", ".*").replace("$instance", ".*").replace("$__rate_interval", "1m")
        prometheus.get("/api/v1/query", query=query)
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            matched = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"])
            values = prometheus.get(f"/api/v1/label/{matched[2]}/values", **{"match[]": matched[1].replace("$job", ".*")})
            expect(values, f"the variable {variable['name']} has no value")
    return len(queries)


def judge(directory):
    config, log, watcher = (directory / name for name in ("turnserver.toml", "server.log", "prometheus.log"))
    config.write_text(
        f'realm = "{REALM}"\n[listen]\nudp = ["127.0.0.1:0"]\ntcp = ["127.0.0.1:0"]\n'
        f'[relay]\naddresses = ["127.0.0.1"]\n[peers]\nallow_loopback = true\n'
        f'[auth]\nusers = {{ alice = "{PASSWORD}" }}\n[metrics]\nlisten = "127.0.0.1:0"\n'
    )
    config.chmod(0o600)
    environment = {"PATH": os.environ["PATH"], "XDG_STATE_HOME": str(directory)}
    processes = []
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.settimeout(5)
    peer.bind(("127.0.0.1", 0))
    try:
        processes.append(start([os.environ["TURNSTONE_BIN"], "run", "--config", config], log, environment))
        addresses = serving(processes[0], log)
        host, port = addresses["metrics"]
        (directory / "prometheus.yml").write_text(
            f"global: {{scrape_interval: {SCRAPE_S}s, evaluation_interval: {SCRAPE_S}s}}\n"
            f"rule_files: ['{DOCS}/prometheus/turnstone.rules.yml']\n"
            f"scrape_configs: [{{job_name: turnstone, static_configs: [{{targets: ['{host}:{port}']}}]}}]\n"
        )
        own = free_port()
        command = ["prometheus", f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data"]
        processes.append(start([*command, f"--web.listen-address=127.0.0.1:{own}"], watcher, environment))
        prometheus = Prometheus(own)
        eventually("Prometheus does not start", prometheus.ready)
        prometheus.expect({'up{job="turnstone"}': 1})
        relay_and_watch(prometheus, addresses, peer)
        took = check_scrapes(prometheus, watcher)
        queries = check_dashboard(prometheus)
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=5) as reply:
            promtool("check", "metrics", input=in_older_format(reply.read().decode()))
        firing = prometheus.get("/api/v1/query", query='ALERTS{alertstate="firing"}')["result"]
        names = {alert["metric"]["alertname"] for alert in firing}
        expect(names == {"TurnstoneRestarted"}, f"alerts: {names}")
        return f"{PACKETS * 6} packets counted, a scrape takes {took * 1000:.1f} ms, {queries} queries of the dashboard"
    finally:
        peer.close()
        for process in reversed(processes):
            stop(process)


def in_older_format(text):
    """What promtool reads, which is the older format: it knows neither units nor info metrics."""
    lines = [line for line in text.splitlines() if not line.startswith(("# UNIT", "# EOF"))]
    lines = [line.replace(" info", " gauge") if line.startswith("# TYPE") else line for line in lines]
    counters = {line.split()[2] for line in lines if line.startswith("# TYPE") and line.endswith(" counter")}
    infos = {"turnstone_build"}

    def named(line):
        words = line.split(" ")
        if line.startswith("# ") and words[2] in counters:
            words[2] += "_total"
        elif line.startswith("# ") and words[2] in infos:
            words[2] += "_info"
        return " ".join(words)

    return "\n".join(map(named, lines)) + "\n"


def check():
    """All of it; returns a note."""
    rules = DOCS / "prometheus"
    promtool("check", "rules", rules / "turnstone.rules.yml")
    promtool("test", "rules", rules / "turnstone.test.yml")
    with tempfile.TemporaryDirectory() as directory:
        return judge(Path(directory))


if __name__ == "__main__":
    print(check())
