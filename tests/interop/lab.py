"""The networks of the suite and the server in them.

                      203.0.113.0/24, 2001:db8:1::/64  (a bridge, namespace "public")
      ┌──────────┬──────────────┬──────────────┬───────────────┐
     .10        .11            .12            .20             .50
   server      nat-a          nat-b          nat-server      peer
                 │              │              │
           192.168.11.2   192.168.12.2      10.9.0.10
              host-a         host-b         inner (a server behind 1:1 NAT)

No namespace has a link or a route to the outside. Everything is made by up() and removed by down().
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import certificates

PREFIX = "tstn-"
SERVER = "203.0.113.10"
SERVER_STATIC = "203.0.113.9"  # for coturn only, see Server
SERVER6 = "2001:db8:1::10"
PEER = "203.0.113.50"
PEER6 = "2001:db8:1::50"
CLIENT_A, CLIENT_B = "203.0.113.11", "203.0.113.12"  # the hosts', behind their NATs
MAPPED = "203.0.113.20"
INNER = "10.9.0.10"
# Firefox compares no certificate with an address, so the server has a name.
HOST = "turn.interop.example"
TLS_PORT, WEB_PORT = 5349, 443
WEB_NAME = "www.example.org"  # of the web server behind the port, where a scenario starts one
NAMES = ["public", "server", "peer", "nat-a", "host-a", "nat-b", "host-b", "nat-server", "inner"]


def run(*command, **options):
    return subprocess.run(command, check=True, text=True, capture_output=True, timeout=30, **options)


def inside(name, *command):
    """The command that runs in a namespace. `ip netns exec` becomes it, so its pid is the program's."""
    return ["ip", "netns", "exec", PREFIX + name, *command]


def ip(name, *arguments):
    run("ip", "-n", PREFIX + name, *arguments)


def join(a, device_a, addresses_a, b, device_b, addresses_b):
    """A cable between two namespaces."""
    ip(a, "link", "add", device_a, "type", "veth", "peer", "name", device_b, "netns", PREFIX + b)
    for name, device, addresses in ((a, device_a, addresses_a), (b, device_b, addresses_b)):
        for address in addresses:
            ip(name, "addr", "add", address, "dev", device, *(["nodad"] if ":" in address else []))
        ip(name, "link", "set", device, "up")


def plug(name, addresses):
    """A cable from a namespace to the public segment."""
    port = f"to-{name}"
    join("public", port, [], name, "wan", addresses)
    ip("public", "link", "set", port, "master", "bridge")


def hosts(name):
    """What `ip netns exec` puts in the place of /etc in a namespace."""
    return Path("/etc/netns") / (PREFIX + name)


def up():
    for name in NAMES:
        run("ip", "netns", "add", PREFIX + name)
        hosts(name).mkdir(parents=True, exist_ok=True)
        (hosts(name) / "hosts").write_text(f"127.0.0.1 localhost\n{SERVER} {HOST}\n")
        # No name server is asked: none would answer, and Chromium waits for it.
        (hosts(name) / "resolv.conf").write_text("")
        (hosts(name) / "nsswitch.conf").write_text("hosts: files\n")
        ip(name, "link", "set", "lo", "up")
    ip("public", "link", "add", "bridge", "type", "bridge")
    ip("public", "link", "set", "bridge", "up")
    plug("server", [f"{SERVER}/24", f"{SERVER_STATIC}/24", f"{SERVER6}/64"])
    plug("peer", [f"{PEER}/24", f"{PEER6}/64"])
    plug("nat-a", [f"{CLIENT_A}/24"])
    plug("nat-b", [f"{CLIENT_B}/24"])
    plug("nat-server", [f"{MAPPED}/24"])
    for box, host, net in (
        ("nat-a", "host-a", "192.168.11"),
        ("nat-b", "host-b", "192.168.12"),
        ("nat-server", "inner", "10.9.0"),
    ):
        inner = INNER if host == "inner" else f"{net}.2"
        join(box, "lan", [f"{net}.1/24"], host, "eth0", [f"{inner}/24"])
        ip(host, "route", "add", "default", "via", f"{net}.1")
        run(*inside(box, "sysctl", "-qw", "net.ipv4.ip_forward=1"))
    run(*inside("nat-server", "nft", "-f", "-"), input=ONE_TO_ONE)
    nat("plain")


# Hairpins are not translated: what the inner server sends to its own public address must not depend on the box.
ONE_TO_ONE = f"""
table ip nat {{
  chain in {{ type nat hook prerouting priority dstnat; iifname "wan" ip daddr {MAPPED} dnat to {INNER}; }}
  chain out {{ type nat hook postrouting priority srcnat; oifname "wan" ip saddr {INNER} snat to {MAPPED}; }}
}}
"""

# Unsolicited packets are dropped on both hooks, else an early probe of the other side
# leaves a conntrack entry that spoils hole punching.
CLIENT_NAT = """
table ip nat
delete table ip nat
table ip nat {{
  chain input {{
    type filter hook input priority filter; policy drop;
    ct state established,related accept
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    {block}
    ct state established,related accept
    iifname "lan" accept
  }}
  chain out {{ type nat hook postrouting priority srcnat; oifname "wan" masquerade {flags}; }}
}}
"""


def nat(kind):
    """Sets both clients' NAT boxes: plain (port-preserving), symmetric, no-udp, or only-443."""
    blocks = {
        "no-udp": "meta l4proto udp drop",
        "only-443": f'iifname "lan" tcp dport != {WEB_PORT} drop; meta l4proto != tcp drop',
    }
    rules = CLIENT_NAT.format(
        block=blocks.get(kind, ""),
        flags="fully-random" if kind == "symmetric" else "",
    )
    for box in ("nat-a", "nat-b"):
        run(*inside(box, "nft", "-f", "-"), input=rules)


def kill(name):
    """Ends what runs in a namespace of ours. Browsers lead process groups of their own, so groups do not do."""
    for _ in range(50):
        pids = subprocess.run(["ip", "netns", "pids", PREFIX + name], capture_output=True, text=True).stdout.split()
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.02)
    raise RuntimeError(f"processes survive in {name}: {pids}")


def down():
    listed = {line.split()[0] for line in run("ip", "netns", "list").stdout.splitlines()}
    for name in NAMES:  # others make namespaces with this prefix, too
        if PREFIX + name in listed:
            kill(name)
            run("ip", "netns", "del", PREFIX + name)
        shutil.rmtree(hosts(name), ignore_errors=True)


class NotStarted(Exception):
    """The server does not come up."""


class Server:
    """The server under test, in one namespace. kind is "turnstone" or "coturn"."""

    realm = "interop.example"
    secret = "interop-shared-secret-that-no-log-may-show-7d1f"
    users = {"alice": "interop-alice-password-52c9"}
    stop_within = 2.0

    def __init__(self, kind, name, logs: Path):
        self.kind, self.name, self.logs = kind, name, logs
        self.processes = []
        self.certificates = logs / "certificates"
        if not self.certificates.exists():
            certificates.make(self.certificates, [HOST, SERVER, SERVER6])
        behind_nat = name == "inner"
        self.address = MAPPED if behind_nat else SERVER
        # coturn takes either REST credentials or static users: static users get a process of their own.
        self.static_address = SERVER_STATIC if kind == "coturn" else self.address
        if kind == "coturn":
            external = [f"--external-ip={MAPPED}/{INNER}"] if behind_nat else []
            rest = ["--use-auth-secret", f"--static-auth-secret={self.secret}"]
            static = [f"--user={name}:{password}" for name, password in self.users.items()]
            addresses = [INNER] if behind_nat else [SERVER, SERVER6]
            self._coturn("rest", addresses, rest + external)
            if not behind_nat:
                self._coturn("static", [SERVER_STATIC], static)
        else:
            self._turnstone([INNER] if behind_nat else [SERVER, SERVER6], {INNER: MAPPED} if behind_nat else {})

    def _coturn(self, label, addresses, options):
        listen = [f"--{what}-ip={a}" for a in addresses for what in ("listening", "relay")]
        self._start(
            label,
            ["turnserver", "-n", "-v", *listen, f"--realm={self.realm}", "--lt-cred-mech", *options, "--fingerprint"]
            + [f"--cert={self.certificates}/ecdsa.crt", f"--pkey={self.certificates}/ecdsa.key"]
            + [f"--tls-listening-port={WEB_PORT}", "--no-dtls", "--no-cli", "--log-file=stdout", "--simple-log"]
            + [f"--pidfile={self.logs}/coturn-{self.name}-{label}.pid", f"--userdb={self.logs}/coturn-{label}.db"],
        )

    def _turnstone(self, addresses, external):
        quoted = lambda items: ", ".join(f'"{item}"' for item in items)
        mapping = ", ".join(f'"{bound}" = "{public}"' for bound, public in external.items())
        users = ", ".join(f'{name} = "{password}"' for name, password in self.users.items())
        config = self.logs / f"turnstone-{self.name}.toml"
        config.write_text(
            f'realm = "{self.realm}"\n\n'
            '[listen]\nudp = ["0.0.0.0:3478", "[::]:3478"]\ntcp = ["0.0.0.0:3478", "[::]:3478"]\n'
            f'tls = ["0.0.0.0:{TLS_PORT}", "[::]:{TLS_PORT}", "0.0.0.0:{WEB_PORT}", "[::]:{WEB_PORT}"]\n'
            # Whoever is served there has spoken TLS.
            f'strict = ["0.0.0.0:{TLS_PORT}", "[::]:{TLS_PORT}"]\n\n'
            f'[tls]\ncert = "{self.certificates}/ecdsa.crt"\nkey = "{self.certificates}/ecdsa.key"\n\n'
            f'[web]\nhttps = "127.0.0.1:8443"\nnames = ["{WEB_NAME}"]\n\n'
            f"[relay]\naddresses = [{quoted(addresses)}]\n"
            + (f"external = {{ {mapping} }}\n" if mapping else "")
            + f'\n[auth]\nstatic_auth_secret = ["{self.secret}"]\nusers = {{ {users} }}\n\n'
            '[peers]\nallow = ["203.0.113.0/24", "198.51.100.0/24", "2001:db8::/32"]\n\n'
            '[log]\nlevel = "debug"\n'
        )
        config.chmod(0o600)
        self._start("turnstone", [os.environ["TURNSTONE_BIN"], "run", "--config", str(config)])

    def _start(self, label, command):
        log = self.logs / f"server-{self.name}-{label}.log"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TURNSERVER_")}  # they win over the file
        with log.open("wb") as out:
            process = subprocess.Popen(
                inside(self.name, *command), stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment
            )
        self.processes.append((process, log))
        listening = inside(self.name, "ss", "-Hltnp", "sport", "=", ":3478")
        deadline = time.monotonic() + 10
        while f"pid={process.pid}," not in run(*listening).stdout:
            if process.poll() is not None or time.monotonic() > deadline:
                raise NotStarted(f"{label} does not listen on 3478/tcp; its log ends:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)

    def alive(self):
        return all(process.poll() is None for process, _ in self.processes)

    def stop(self, passwords):
        """Ends the server and returns what was wrong with its life: an empty list if nothing was."""
        faults = []
        for process, log in self.processes:
            if process.poll() is not None:
                faults.append(f"it died with status {process.returncode}")
            else:
                process.terminate()
                try:
                    process.wait(self.stop_within)
                except subprocess.TimeoutExpired:
                    faults.append(f"alive {self.stop_within:g} s after SIGTERM")
                    process.kill()
                    process.wait()
                else:
                    # coturn 4.6.1 leaves SIGTERM to the kernel.
                    if process.returncode != (0 if self.kind == "turnstone" else -signal.SIGTERM):
                        faults.append(f"exit status {process.returncode} after SIGTERM")
            text = log.read_text(errors="replace")
            if "panicked" in text:
                faults.append(f"panic in {log.name}")
            if self.kind == "turnstone" and any(word in text for word in (self.secret, *passwords)):
                faults.append(f"a secret or password in {log.name}")
        return faults


def start_echo(logs):
    """turnutils_peer, which sends every datagram back, on the public segment."""
    command = inside("peer", "turnutils_peer", "-L", PEER, "-L", PEER6)
    with (logs / "turnutils_peer.log").open("wb") as out:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
