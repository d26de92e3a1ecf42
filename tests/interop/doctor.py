"""turnstone doctor on machines that were made wrong on purpose, and after its own remedies.

Each machine is a network namespace of its own, with a cable to another one from which real packets
show what its firewall does. Needs root, nft, iptables and TURNSTONE_BIN.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lab
from stun import expect

MACHINE, OUTSIDE = "doctor", "doctor-out"
PUBLIC, PRIVATE, MISSING = "203.0.113.10", "10.9.0.10", "198.51.100.9"
SECRET = "b7Jw2kQx9fTzRm4Vd8HsLc3Yp6NeGa1U"
PROBED = [3478, 49152, 50005, 65535]  # ports to which real packets are sent

# Binds the ports, says so, and prints those on which something has come.
RECEIVE = """
import select, socket, sys
sockets = {}
for port in map(int, sys.argv[2:]):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((sys.argv[1], port))
    sockets[s] = port
print("ready", flush=True)
came = set()
sys.stdin.readline()
while ready := select.select(list(sockets), [], [], 0.3)[0]:
    for s in ready:
        s.recv(100)
        came.add(sockets[s])
print(*sorted(came))
"""
SEND = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in map(int, sys.argv[2:]):
    s.sendto(b"x", (sys.argv[1], port))
"""
HOLD = """
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 3478))
print("ready", flush=True)
time.sleep(600)
"""

OPEN = """
table inet f {
  chain input {
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    iif lo accept
    udp dport { 3478, 49152-65535 } accept
    tcp dport 3478 accept
  }
}
"""
CLOSED = OPEN.replace("udp dport { 3478, 49152-65535 } accept", "udp dport 9 accept")
PART = OPEN.replace("ct state", "udp dport 50000-50010 drop\n    ct state", 1)
IPTABLES = """*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp -m tcp --dport 3478 -j ACCEPT
-A INPUT -p udp -m multiport --dports 3478,49152:50000,50010:65535 -j ACCEPT
COMMIT
"""


def on(name, *command, **options):
    return lab.run(*lab.inside(name, *command), **options).stdout


@contextlib.contextmanager
def machine(address=PUBLIC):
    """A machine without a fault, and its neighbour."""
    names = (MACHINE, OUTSIDE)
    try:
        for name in names:
            lab.run("ip", "netns", "add", lab.PREFIX + name)
            # The kernel would send router solicitations, and the doctor must send nothing.
            on(name, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
            lab.ip(name, "link", "set", "lo", "up")
        network = address.rpartition(".")[0]
        lab.join(MACHINE, "wan", [f"{address}/24"], OUTSIDE, "wan", [f"{network}.99/24"])
        lab.ip(MACHINE, "route", "add", "default", "via", f"{network}.99")
        on(MACHINE, "sysctl", "-qw", "net.ipv4.ip_local_port_range=32768 49151")
        yield
    finally:
        for name in names:
            if lab.PREFIX + name in lab.run("ip", "netns", "list").stdout.split():
                lab.kill(name)
                lab.run("ip", "netns", "del", lab.PREFIX + name)


class Doctor:
    """Asks the doctor with a configuration of its own."""

    def __init__(self, directory, relay=PUBLIC, listen="0.0.0.0", more=""):
        self.secret, self.config = Path(directory, "secret"), Path(directory, "turnserver.toml")
        self.secret.write_text(SECRET)
        self.secret.chmod(0o600)
        self.config.write_text(
            f'[listen]\nudp = ["{listen}:3478"]\ntcp = ["{listen}:3478"]\n'
            f'[relay]\naddresses = ["{relay}"]\n{more}\n[auth]\nstatic_auth_secret_file = "secret"\n'
        )

    def ask(self, before=()):
        """The findings by check, and the exit status."""
        command = [*before, os.environ["TURNSTONE_BIN"], "doctor", "--config", str(self.config), "--json"]
        environment = {"PATH": os.environ["PATH"]}
        done = subprocess.run(
            lab.inside(MACHINE, *command), capture_output=True, text=True, timeout=30, env=environment
        )
        expect(SECRET not in done.stdout + done.stderr, "the secret is printed")
        expect(done.returncode in (0, 1, 2), done.stderr)
        if done.returncode == 2:
            return {}, 2
        report, findings = json.loads(done.stdout), {}
        for finding in report["findings"]:
            findings.setdefault(finding["check"], []).append(finding)
        worst = "fail" if report["fail"] else "warn" if report["warn"] else "ok"
        expect(report["status"] == worst, f"{report['status']} instead of {worst}")
        return findings, done.returncode

    def finds(self, check, status, text, code, before=()):
        findings, got = self.ask(before)
        found = [f for f in findings.get(check, []) if f["status"] == status and text in f["found"]]
        expect(found, f"no {status} of {check} with {text!r}: {findings.get(check)}")
        expect(got == code, f"exit {got} instead of {code} for {check}: {findings}")
        expect(status == "ok" or found[0]["remedy"], f"no remedy: {found[0]}")
        return found[0]


def arriving():
    """The probed ports at which packets from outside arrive."""
    ports = [str(port) for port in PROBED]
    receiver = subprocess.Popen(
        lab.inside(MACHINE, sys.executable, "-c", RECEIVE, PUBLIC, *ports),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    try:
        expect(receiver.stdout.readline() == "ready\n", "the receiver did not start")
        on(OUTSIDE, sys.executable, "-c", SEND, PUBLIC, *ports)
        output, _ = receiver.communicate("go\n", timeout=20)
    finally:
        receiver.kill()
        receiver.wait()
    return {int(port) for port in output.split()}


def told(doctor):
    """The probed ports that the doctor does not call dropped."""
    findings, _ = doctor.ask()
    dropped = []
    for finding in findings["firewall.listeners"] + findings["firewall.relay-ports"]:
        expect(finding["status"] in ("ok", "fail"), f"undecided: {finding}")
        if finding["status"] == "fail" and " udp " in finding["found"]:
            ports = finding["found"].split(" udp ")[1].split(":")[0].split("-")
            dropped.append(range(int(ports[0]), int(ports[-1]) + 1))
    return {port for port in PROBED if not any(port in ports for ports in dropped)}


def mend(finding, shell="sh"):
    """Does what the doctor says. What would outlive the namespace is left out."""
    on(MACHINE, shell, "-c", finding["command"].split(" \\\n")[0])


def firewalls(directory):
    """What the doctor says of the rules is what they do, and its commands open them."""
    cases = [
        ("no rules", ["nft", "-f", "-"], "", {*PROBED}),
        ("open", ["nft", "-f", "-"], OPEN, {*PROBED}),
        ("closed", ["nft", "-f", "-"], CLOSED, set()),
        ("part", ["nft", "-f", "-"], PART, {*PROBED} - {50005}),
        ("iptables", ["iptables-restore"], IPTABLES, {*PROBED} - {50005}),
    ]
    for name, load, rules, expected in cases:
        with machine():
            doctor = Doctor(directory)
            on(MACHINE, *load, input=rules)
            really, says = arriving(), told(doctor)
            expect(really == expected, f"{name}: {really} arrive instead of {expected}")
            expect(says == really, f"{name}: the doctor says {says}, and {really} arrive")
            findings, code = doctor.ask()
            expect(code == (0 if expected == {*PROBED} else 1), f"{name}: exit {code}")
            for finding in findings["firewall.listeners"] + findings["firewall.relay-ports"]:
                if finding["status"] == "fail":
                    mend(finding)
            expect(arriving() == told(doctor) == {*PROBED}, f"{name}: not mended by its own commands")
            _, code = doctor.ask()
            expect(code == 0, f"{name}: exit {code} once mended")
    return len(cases)


def ports(directory):
    with machine():
        doctor = Doctor(directory)
        doctor.finds("ports.listeners", "ok", "free:", 0)
        holder = subprocess.Popen(
            lab.inside(MACHINE, sys.executable, "-c", HOLD), stdout=subprocess.PIPE, text=True
        )
        expect(holder.stdout.readline() == "ready\n", "nothing holds the port")
        doctor.finds("ports.listeners", "fail", f"(pid {holder.pid})", 1)
        holder.kill()
        holder.wait()
        on(MACHINE, "sysctl", "-qw", "net.ipv4.ip_local_port_range=32768 60999")
        found = doctor.finds("ports.local-range", "warn", "49152-60999", 0)
        mend(found)
        doctor.finds("ports.local-range", "ok", "reserved", 0)


def addresses(directory):
    with machine(PRIVATE):
        doctor = Doctor(directory, PRIVATE)
        doctor.finds("addresses.relay", "warn", "private", 0)
        doctor = Doctor(directory, PRIVATE, more=f'external = {{ "{PRIVATE}" = "{PUBLIC}" }}')
        doctor.finds("addresses.relay", "ok", f"told to peers as {PUBLIC}", 0)
        lab.ip(MACHINE, "addr", "add", f"{PUBLIC}/32", "dev", "lo")
        doctor.finds("addresses.external", "warn", PUBLIC, 0)
        Doctor(directory, MISSING).finds("addresses.relay", "fail", MISSING, 1)
        Doctor(directory, PRIVATE, MISSING).finds("addresses.listeners", "fail", MISSING, 1)
        lab.ip(MACHINE, "route", "del", "default")
        Doctor(directory, PRIVATE).finds("addresses.routes", "warn", "IPv4: no default route", 0)


def may_raise_limits():
    status = Path("/proc/self/status").read_text()
    capabilities = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff"))
    return bool(int(capabilities, 16) & 1 << 24)  # CAP_SYS_RESOURCE


def limits(directory):
    with machine():
        doctor = Doctor(directory)
        drop = ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource"]
        low = ["prlimit", "--nofile=1024:1024", *drop]
        doctor.finds("limits.files", "warn", "may open 1024 files", 0, low)
        if may_raise_limits():  # as the server then does by itself
            doctor.finds("limits.files", "ok", "want 20256", 0, low[:2])
        doctor.secret.chmod(0o644)
        found = doctor.finds("configuration.secrets", "warn", "can read", 0)
        subprocess.run(shlex.split(found["command"]), check=True)
        doctor.finds("configuration.secrets", "ok", "no exposed file", 0)
        doctor.config.write_text("listen = 1\n")
        expect(doctor.ask() == ({}, 2), "a configuration that does not load is no 2")


def running(directory):
    """Beside the server the doctor finds it, changes nothing and sends nothing."""
    with machine():
        on(MACHINE, "nft", "-f", "-", input=OPEN)
        doctor = Doctor(directory)
        log = Path(directory, "log")
        with log.open("w") as output:
            command = [os.environ["TURNSTONE_BIN"], "run", "--config", str(doctor.config)]
            server = subprocess.Popen(
                lab.inside(MACHINE, *command), stdout=output, stderr=output, env={"PATH": os.environ["PATH"]}
            )
        try:
            deadline = time.monotonic() + 10
            while "serving" not in log.read_text():
                expect(server.poll() is None and time.monotonic() < deadline, f"no server: {log.read_text()}")
                time.sleep(0.02)
            look = "nft list ruleset; sysctl -a 2>/dev/null | grep -e port_range -e reserved -e mem_max; cat /sys/class/net/wan/statistics/tx_packets"
            before = on(MACHINE, "sh", "-c", look)
            doctor.finds("ports.listeners", "ok", f"turnstone (pid {server.pid}) runs", 0)
            expect(on(MACHINE, "sh", "-c", look) == before, "the doctor has changed or sent something")
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(10)


def check():
    """All of it; returns a note."""
    with tempfile.TemporaryDirectory() as directory:
        # Otherwise nobody else reaches what is in it, and nothing is exposed.
        os.chmod(directory, 0o755)
        count = firewalls(directory)
        ports(directory)
        addresses(directory)
        limits(directory)
        running(directory)
    return f"{count} firewalls told as they are and mended, and every other fault found"


if __name__ == "__main__":
    print(check())
