"""`turnstone check` against turnstone and coturn, sound ones and broken ones, in the networks of lab.py.

Needs TURNSTONE_BIN, coturn, faketime and nft. Every case starts a server of its own, breaks something
for real, and asserts the exit status and the words of the cause. Alone, as root:

    TURNSTONE_BIN=FILE python3 tests/interop/check.py [CASE...]
"""

import base64
import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import certificates
import lab
from stun import Wrong, expect

ADDRESS, PORT, TLS_PORT = lab.SERVER_STATIC, 3600, 3601  # beside the suite's own server
REALM, SECRET = "check.example", "a-secret-of-thirty-two-characters-or-more"
OUTSIDE, CLIENT = "host-a", "203.0.113.11"  # behind a NAT with that address


def bracketed(address):
    return f"[{address}]" if ":" in address else address


# ---- servers ----


def turnstone(directory, address, external, ports, quota, deny, tls):
    config, listen = Path(directory, "turnserver.toml"), f"{bracketed(address)}:{PORT}"
    # Not the usual ports of TLS, which the suite's server has.
    listen_tls = f'tls = ["{bracketed(address)}:{TLS_PORT}"]\n' if tls else ""
    config.write_text(
        f'realm = "{REALM}"\n[listen]\nudp = ["{listen}"]\ntcp = ["{listen}"]\n{listen_tls}'
        f'[relay]\naddresses = ["{address}"]\nports = "{ports[0]}-{ports[1]}"\n'
        + (f'external = {{ "{address}" = "{external}" }}\n' if external else "")
        + f'[auth]\nstatic_auth_secret = "{SECRET}"\n'
        f'[peers]\nallow = ["203.0.113.0/24", "2001:db8::/32"]\ndeny = {json.dumps(deny)}\n'
        f"[limits]\nallocations_per_user = {quota or 50}\n"
        + (f'[tls]\ncert = "{tls}/rsa.crt"\nkey = "{tls}/rsa.key"\n' if tls else "")
    )
    config.chmod(0o600)
    return [os.environ["TURNSTONE_BIN"], "run", "--config", str(config)]


def coturn(directory, address, external, ports, quota, deny, tls):
    return [
        *["turnserver", "-n", f"--listening-ip={address}", f"--listening-port={PORT}"],
        *[f"--tls-listening-port={TLS_PORT}", f"--relay-ip={address}"],
        *([f"--external-ip={external}/{address}"] if external else []),
        *[f"--min-port={ports[0]}", f"--max-port={ports[1]}", f"--user-quota={quota}"],
        *[f"--denied-peer-ip={peer}" for peer in deny],
        *["--use-auth-secret", f"--static-auth-secret={SECRET}", f"--realm={REALM}", "--fingerprint"],
        *([f"--cert={tls}/rsa.crt", f"--pkey={tls}/rsa.key"] if tls else ["--no-tls"]),
        *["--no-dtls", "--no-cli", "--log-file=stdout", "--simple-log"],
        *[f"--pidfile={directory}/pid", f"--userdb={directory}/db"],
    ]


@contextlib.contextmanager
def server(kind, host="server", address=ADDRESS, external=None, ports=(49152, 65535), quota=0, deny=(), names=(), make_pair=certificates.make):
    """A server in a namespace, listening on PORT; with a certificate for names also for TLS. Yields its authority."""
    with tempfile.TemporaryDirectory() as directory:
        tls = Path(directory, "tls") if names else None
        if tls:
            make_pair(tls, names)
        make = {"turnstone": turnstone, "coturn": coturn}[kind]
        command = lab.inside(host, *make(directory, address, external, ports, quota, list(deny), tls))
        environment = {"PATH": os.environ["PATH"], "XDG_STATE_HOME": directory}
        log = Path(directory, "log")
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment)
        try:
            deadline = time.monotonic() + 10
            listening = lab.inside(host, "ss", "-Hltnp", "sport", "=", f":{PORT}")
            while f"pid={process.pid}," not in lab.run(*listening).stdout:
                up = process.poll() is None and time.monotonic() < deadline
                expect(up, f"{kind} does not start: {log.read_text(errors='replace')[-1000:]}")
                time.sleep(0.05)
            yield tls and str(tls / "ca.pem")
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def rules(host, *lines, hook="type filter hook input priority -10"):
    """nftables rules in a namespace, for a while."""
    text = "\n".join(["table inet check {", "chain c {", f"{hook};", *lines, "}", "}", ""])
    lab.run(*lab.inside(host, "nft", "-f", "-"), input=text)
    try:
        yield
    finally:
        lab.run(*lab.inside(host, "nft", "delete", "table", "inet", "check"))


# ---- the command ----


def run(*arguments, host=OUTSIDE, clock=None, credentials=("--static-auth-secret", SECRET)):
    """`turnstone check`; returns its exit status and its output. `clock` shifts its clock."""
    fake = ["faketime", "-f", clock] if clock else []
    command = lab.inside(host, *fake, os.environ["TURNSTONE_BIN"], "check", *arguments, *credentials)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    expect(not done.stderr, done.stderr)
    expect(SECRET not in done.stdout, "the secret is in the output")
    return done.returncode, done.stdout


def says(status, *words, transport="udp", address=ADDRESS, authority=None, **options):
    """The check of a server ends with a status and says these words, whatever the lines."""
    query = f"?transport={transport}" if transport not in (None, "tls") else ""
    scheme = "turns" if transport == "tls" else "turn"
    arguments = [f"{scheme}:{bracketed(address)}:{PORT}{query}", "--seconds", "1", "--timeout", "4"]
    arguments += ["--ca-file", authority] if authority else []
    got, text = run(*arguments, **options)
    flat = " ".join(text.split())
    expect(got == status, f"exit status {got} instead of {status}:\n{text}")
    for word in words:
        expect(word in flat, f"{word!r} is not in\n{text}")
    for line in text.splitlines():
        expect(len(line) <= 80, f"longer than 80 columns: {line!r}")
    return flat


# ---- the cases ----


def works(kind):
    with server(kind):
        text = says(0, "works over UDP and TCP", "inside and from outside", transport=None)
        expect(text.count("ok outside") == 2, f"not from outside over both: {text}")
        status, output = run(f"turn:{ADDRESS}:{PORT}?transport=udp", "--json")
    report = json.loads(output)["transports"][0]
    data = report["data"]
    expect(status == 0 and data["sent"] == 150 and data["lost_there"] + data["lost_back"] < 8, output)
    rtts = [data["round_trip_ms"][name] for name in ("min", "median", "p95", "max")]
    expect(rtts == sorted(rtts) and rtts[0] > 0 and data["round_trip_ms"]["jitter"] >= 0, output)
    expect(report["mapped_address"].startswith(f"{CLIENT}:"), output)
    expect((report["clock_ahead_s"] is not None) == (kind == "turnstone"), output)  # 4.6.1's nonces tell no time


def works_v6(kind):
    """A server without IPv4: browsers ask for an IPv4 relay first, and are refused."""
    with server(kind, address=lab.SERVER6):
        words = f"relayed address [{lab.SERVER6}]:", "inside and from outside", "works over UDP and TCP"
        says(0, *words, transport=None, address=lab.SERVER6, host="peer")


def port_dropped(kind):
    with server(kind), rules("server", f"udp dport {PORT} drop"):
        words = "no answer over UDP within", f"open {PORT}/udp", "FAIL: works over TCP, fails over UDP"
        text = says(1, *words, transport=None)
        expect("skip outside" in text and "no UDP between here and the server" in text, text)
    with server(kind), rules("server", f"tcp dport {PORT} drop"):
        says(1, "no answer over TCP within", f"open {PORT}/tcp", transport="tcp")


def port_rejected(kind):
    with server(kind), rules("server", f"udp dport {PORT} reject", f"tcp dport {PORT} reject with tcp reset"):
        says(1, "nothing listens on UDP port", "firewall rejects", "connection refused", transport=None)
    with server(kind), rules("server", f"udp dport {PORT} reject with icmpx admin-prohibited"):
        says(1, f"no way to {ADDRESS}", "firewall rejects port")


def no_udp_here(kind):
    """The client's network is to blame, and TCP is what helps it."""
    lab.nat("no-udp")
    try:
        with server(kind):
            says(0, "skip outside", "no UDP between here and the server", "works over TCP", transport="tcp")
            says(1, "no answer over UDP within")
    finally:
        lab.nat("plain")
    with server(kind), rules(OUTSIDE, f"udp dport {PORT} drop", hook="type filter hook output priority 0"):
        says(1, "this machine's own firewall lets nothing out")


def relay_dropped(kind):
    with server(kind), rules("server", 'iifname "wan" udp dport 49152-65535 drop'):
        words = "nothing from here arrives at", ": a firewall closes the server's relay ports", "relay.ports", "min-port"
        says(1, "ok allocate", "FAIL outside", *words, "two clients of this server do reach each other")
        says(1, "FAIL outside", *words, transport="tcp")


def relay_stateful(kind):
    """Lets in answers only: calls between ordinary NATs work, and those that need a relay most do not."""
    allowed = f"ct state established,related accept", f"udp dport {PORT} accept", 'iifname "wan" ip protocol udp drop'
    with server(kind), rules("server", *allowed):
        says(1, "FAIL outside", "a firewall closes the server's relay ports")


def relay_rejected(kind):
    with server(kind), rules("server", 'iifname "wan" udp dport 49152-65535 reject'):
        says(1, "FAIL outside", "ICMP refuses what is sent to", ": a firewall closes the server's relay ports")


def way_out_dropped(kind):
    with server(kind), rules(
        "server", 'oifname "wan" udp sport 49152-65535 drop', hook="type filter hook output priority 0"
    ):
        says(1, "FAIL outside", "lets no UDP out")


def wrong_secret(kind):
    clock = "the server's agrees with this machine's" if kind == "turnstone" else "a credential good for 3650 d is refused"
    with server(kind):
        wrong = "--static-auth-secret", "another-secret-of-thirty-two-characters"
        says(1, "FAIL allocate", "401", "wrong secret", "it is not the clock", clock, credentials=wrong)


def login(expiry):
    user = f"{expiry}:carol"
    digest = hmac.digest(SECRET.encode(), user.encode(), hashlib.sha1)
    return "--user", user, "--password", base64.b64encode(digest).decode()


def wrong_user(kind):
    now = int(time.time())
    with server(kind):
        says(1, "wrong user or password", "auth.users", credentials=("--user", "bob", "--password", "builder"))
        says(1, "the credential expired 1 h", credentials=login(now - 3660))
        says(0, "works over UDP", credentials=login(now + 600))


def clock_ahead(kind):
    with server(kind):
        text = says(1, "the secret is right, but the server's clock is ahead", "NTP", clock="-2h")
    if kind == "turnstone":
        expect(re.search(r"ahead of this machine's by (2 h|1 h 59 min),", text), text)
    else:
        least, most = re.search(r"by between (.*?) and (.*?),", text).groups()
        units = {"d": 86400, "h": 3600, "min": 60, "s": 1}
        seconds = lambda span: sum(int(n) * units[unit] for n, unit in re.findall(r"(\d+) (\w+)", span))
        expect(seconds(least) <= 7200 <= seconds(most) + 60 and seconds(most) < 1.4 * seconds(least), text)


def clock_behind(kind):
    """Refuses nothing, so only a server that tells its time can be warned about."""
    with server(kind):
        text = says(0, "works over UDP", clock="+2h")
    told = "warn: the server's clock is 2 h behind" in text or "is 1 h 59 min behind" in text
    expect(told == (kind == "turnstone"), text)


def relay_private(kind):
    words = "relayed address 10.9.0.10 is not public", "relay.external", "external-ip"
    with server(kind, "inner", lab.INNER):
        says(1, *words, address=lab.MAPPED)
    with server(kind, "inner", lab.INNER, external=lab.MAPPED):
        says(0, "inside and from outside", address=lab.MAPPED)


def relay_elsewhere(kind):
    """An external address that is another machine's."""
    with server(kind, "inner", lab.INNER, external="203.0.113.12"):
        says(1, "FAIL outside", "which is not the server's address", "relay.external", address=lab.MAPPED)


def clients_hidden(kind):
    """A proxy that shows the server an address of its own, as docker-proxy does."""
    nat = 'oifname "lan" masquerade'
    with server(kind, "inner", lab.INNER, external=lab.MAPPED), rules(
        "nat-server", nat, hook="type nat hook postrouting priority 90"
    ):
        _, text = run(f"turn:{lab.MAPPED}:{PORT}?transport=udp", "--seconds", "1")
    flat = " ".join(text.split())
    expect("warn: the server is public, but sees this machine as 10.9.0.1:" in flat, text)


def peer_denied(kind):
    with server(kind, deny=[ADDRESS]):
        words = "403", "refuses its own relayed address as a peer", "peers.deny", "denied-peer-ip"
        says(1, "FAIL permission", "ok outside", *words)


def quota(kind):
    with server(kind, quota=1):
        words = "486", "limits.allocations_per_user", "user-quota"
        says(1, "FAIL allocate 2", *words)


def one_port(kind):
    with server(kind, ports=(50000, 50000)):
        says(1, "FAIL allocate 2", "508", "no relay port", "relay.ports", "max-port")


def loss(kind):
    # Every twentieth datagram to the server, of either allocation.
    with server(kind), rules("server", f"udp dport {PORT} numgen inc mod 20 == 0 drop"):
        says(0, "warn data", "there and", "warn: packets are lost", "works over UDP")


def tls_works(kind):
    with server(kind, names=[ADDRESS]) as authority:
        says(0, "ok handshake", f"certificate of {ADDRESS}", "works over TLS", transport="tls", authority=authority)


def tls_missing(kind):
    with server(kind):
        says(1, "a STUN server answers on port", "without TLS", transport="tls")


def tls_untrusted(kind):
    with server(kind, names=[ADDRESS]):
        says(1, "FAIL handshake", "leads to nobody who is trusted here", transport="tls")


def tls_other_name(kind):
    with server(kind, names=["other.example"]) as authority:
        words = f"the certificate is for other.example, and not for {ADDRESS}"
        says(1, "FAIL handshake", words, transport="tls", authority=authority)


def tls_expired(kind):
    with server(kind, names=[ADDRESS]) as authority:
        says(1, "FAIL handshake", "expired at", "or this machine's clock", transport="tls", authority=authority, clock="+40d")


def tls_by_hand(kind):
    with server(kind, names=[ADDRESS], make_pair=certificates.make_by_hand) as authority:
        says(1, "FAIL handshake", "the certificate of an authority (CA:TRUE)", transport="tls", authority=authority)


def other_family(_):
    status, text = run("turn:[2001:db8:1::10]:3478?transport=udp")
    expect(status == 1 and "no IPv6" in " ".join(text.split()), text)
    status, text = run("turn:203.0.113.9", "--ipv6")
    expect(status == 1 and "no address of the family" in " ".join(text.split()), text)


def no_name(_):
    status, text = run("turn:nothing.invalid", "--timeout", "3")
    expect(status == 1 and "the name cannot be resolved" in text, text)


CASES = {
    case.__name__.replace("_", "-"): case
    for case in (
        *(works, works_v6, port_dropped, port_rejected, no_udp_here, relay_dropped, relay_stateful, relay_rejected, way_out_dropped),
        *(wrong_secret, wrong_user, clock_ahead, clock_behind, relay_private, relay_elsewhere, clients_hidden),
        *(peer_denied, quota, one_port, loss, tls_works, tls_missing, tls_untrusted, tls_other_name, tls_expired, tls_by_hand),
        *(other_family, no_name),
    )
}


def check(name):
    """One case, against both servers; returns a note."""
    for kind in ("turnstone", "coturn"):
        try:
            CASES[name](kind)
        except Wrong as wrong:
            raise Wrong(f"{kind}: {wrong}") from wrong
    return "turnstone, coturn"


def main(names):
    failed = 0
    with open("/run/lock/turnstone-interop", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lab.down()
        try:
            lab.up()
            for name in names or CASES:
                started = time.monotonic()
                try:
                    result, note = "ok", check(name)
                except (Wrong, subprocess.SubprocessError) as wrong:
                    result, note, failed = "FAIL", wrong, 1
                print(f"{result:4}  {name:16} {time.monotonic() - started:5.1f}s  {note}", flush=True)
        finally:
            lab.down()
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
