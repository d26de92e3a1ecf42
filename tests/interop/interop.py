"""Runs the scenarios: real WebRTC clients against one server. Started by ./run, as root."""

import argparse
import asyncio
import base64
import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import re
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import acme
import check
import coturn_import
import dashboard
import doctor
import dtls
import fail2ban
import lab
import own_addresses
import port_443
import prometheus
import stun
import tls
import web_pages

HERE = Path(__file__).resolve().parent
MESSAGES = 50
CALL_DEADLINE = 45  # seconds for a whole call, browsers' start included
RUN_DEADLINE = 1200  # seconds for everything
GATHER_MS = 8000  # a browser that gets no answer goes on asking for 10 s and more
BROWSERS = {"chromium", "firefox"}
PEERS = {
    "chromium": ["node", "peers/chromium.mjs"],
    "firefox": ["node", "peers/firefox.mjs"],
    "werift": ["node", "peers/werift.mjs"],
    "node-datachannel": ["node", "peers/node-datachannel.mjs"],
    "aiortc": [sys.executable, "peers/aiortc_peer.py"],
    "gstreamer": ["/usr/bin/python3", "peers/gstreamer.py"],
    "pion": [os.environ.get("PION", "pion")],
    "janus": [sys.executable, "peers/janus.py"],
}
# Clients whose ICE is libnice: to the port of a `turns:` URL they speak bare STUN.
BARE = {"gstreamer", "janus"}


class Failed(Exception):
    """The scenario did not end as it should."""


def expect(condition, message):
    if not condition:
        raise Failed(message)


@dataclass
class Scenario:
    name: str
    a: str
    b: str
    transport: str
    run: object  # async (Bench, Scenario) -> note
    media: bool = False
    nat: str = "plain"
    login: str = "rest"  # rest, static, expired
    server: str = "server"  # the namespace of the server
    retry: bool = False
    arguments: list = field(default_factory=list)  # of turnutils_uclient
    messages: int = MESSAGES  # another number is for browsers only
    pace_ms: int = 0  # between messages, for browsers only; 0: the next when one is back
    frames: int = 1  # that each side decodes at least, with media
    proof: object = None  # what else must hold for its output


# ---- peers and calls ----


class Peer:
    """A client's process in a host's namespace, spoken to in JSON lines."""

    def __init__(self, process, name):
        self.process, self.name = process, name

    async def __call__(self, method, argument=None):
        try:
            self.process.stdin.write(json.dumps({"method": method, "argument": argument}).encode() + b"\n")
            await self.process.stdin.drain()
            while line := await self.process.stdout.readline():
                if line.startswith(b"{"):
                    reply = json.loads(line)
                    expect("error" not in reply, f"{self.name} {method}: {reply.get('error')}")
                    return reply["value"]
        except ConnectionError:
            pass
        raise Failed(f"{self.name} died in {method}")


class Bench:
    """What scenarios run on: the server, the hosts, the credentials given out."""

    def __init__(self, kind, logs):
        self.kind, self.logs = kind, logs
        self.servers = {}
        self.passwords = list(lab.Server.users.values())

    def server(self, name):
        if name not in self.servers:
            self.servers[name] = lab.Server(self.kind, name, self.logs)
        return self.servers[name]

    def login(self, s):
        """A user name and password: static, or made from the shared secret as an app's back end does."""
        if s.login == "static":
            return "alice", lab.Server.users["alice"]
        expiry = int(time.time()) + (-60 if s.login == "expired" else 3600)
        user = f"{expiry}:{s.name}"
        digest = hmac.digest(lab.Server.secret.encode(), user.encode(), hashlib.sha1)
        password = base64.b64encode(digest).decode()
        self.passwords.append(password)
        return user, password

    def address(self, s):
        server = self.server(s.server)
        return server.static_address if s.login == "static" else server.address

    def ice_server(self, s):
        user, password = self.login(s)
        url = f"turn:{self.address(s)}:3478?transport={s.transport}"
        if s.transport == "tls":
            # coturn has one port for TLS.
            port = lab.WEB_PORT if s.nat == "only-443" or self.kind == "coturn" else lab.TLS_PORT
            url = f"turns:{lab.HOST}:{port}?transport=tcp"
        return {"urls": url, "username": user, "credential": password}

    @contextlib.asynccontextmanager
    async def peer(self, s, client, host):
        log = self.logs / f"{s.name}.{host}.{client}.log"
        home = self.logs / f"home-{host}"
        home.mkdir(exist_ok=True)
        environment = os.environ | {"HOME": str(home), "TMPDIR": str(home), "XDG_CACHE_HOME": str(home)}
        authority = str(self.server(s.server).certificates / "ca.pem")
        # For browsers, Python and Node, in this order.
        environment |= dict.fromkeys(("INTEROP_CA", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"), authority)
        with log.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                *lab.inside(host, *PEERS[client]),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                cwd=HERE,
                env=environment,
                limit=1 << 20,
            )
        peer = Peer(process, client)
        try:
            yield peer
            with contextlib.suppress(Failed, TimeoutError):
                async with asyncio.timeout(3):
                    await peer("close")
        finally:  # ends the browser too
            lab.kill(host)
            await process.wait()
            shutil.rmtree(home, ignore_errors=True)

    @contextlib.asynccontextmanager
    async def pair(self, s, ice_servers, policy="relay"):
        """Both clients, started."""
        config = {"iceServers": ice_servers, "policy": policy, "media": s.media, "gatherMs": GATHER_MS}
        config |= {"messages": s.messages, "paceMs": s.pace_ms}
        config["binary"] = s.b == "janus"  # whose echo test puts words before text
        async with self.peer(s, s.a, "host-a") as a, self.peer(s, s.b, "host-b") as b:
            await both(a("start", config), b("start", config))
            yield a, b


def candidates(description, kind):
    return [line for line in description["sdp"].splitlines() if line.startswith("a=candidate") and f"typ {kind}" in line]


async def both(*coroutines):
    """Awaits both; when one fails the other is given up."""
    tasks = [asyncio.ensure_future(c) for c in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def negotiate(a, b, check_offer=lambda _: None, check_answer=lambda _: None):
    offer = await a("offer")
    check_offer(offer)
    answer = await b("answer", offer)
    check_answer(answer)
    await a("accept", answer)
    return offer, answer


async def talk(s, a, b):
    """Waits for the messages and the video; returns the selected pairs as text, A's view and B's."""
    results = await both(a("result"), b("result"))
    notes = []
    for client, result in zip((s.a, s.b), results):
        if client != "janus":  # which sends back what it does not look into
            expect(result["exact"] == s.messages, f"{client}: {result['exact']} of {s.messages} messages")
            expect(not s.media or result["frames"] >= s.frames, f"{client} decoded {result['frames']} video frames")
        pair = result["pair"]
        expect(pair, f"{client} names no selected pair")
        protocol = f" {pair['protocol']}" if pair.get("protocol") else ""
        video = f", {result['frames']} frames" if result["frames"] else ""
        notes.append(f"{pair['local']}/{pair['remote']}{protocol}{video}")
    return [r["pair"] for r in results], "; ".join(notes)


def expect_relay(s, pairs):
    for client, pair in zip((s.a, s.b), pairs):
        expect(pair["local"] == "relay", f"{client} sends from a {pair['local']} candidate")
        if pair.get("protocol"):
            expect(pair["protocol"] == s.transport, f"{client} reaches the server over {pair['protocol']}")


async def relayed(bench, s, meanwhile=contextlib.nullcontext):
    """A call that may use nothing but the relay; `meanwhile` is around its messages."""
    async with bench.pair(s, [bench.ice_server(s)]) as (a, b):
        address = bench.address(s)

        def check(client, description):
            relays = candidates(description, "relay")
            expect(relays, f"{client} got no relay candidate: {description['errors']}")
            expect(all(f" {address} " in line for line in relays), f"{client} was given {relays}, not {address}")

        await negotiate(a, b, lambda offer: check(s.a, offer), lambda answer: check(s.b, answer))
        async with meanwhile():
            pairs, note = await talk(s, a, b)
        expect_relay(s, pairs)
        return note


def allocations(bench, s):
    """The allocations of the scenario that have been closed: (client's address, transport, bytes to peers)."""
    closed = re.compile(
        rf"allocation closed id=\S+ user=\d+:{s.name} client=([\d.]+):\d+ transport=(\w+) .*?bytes_to_peers=(\d+)"
    )
    ((_, log),) = bench.server(s.server).processes
    return [(client, transport, int(count)) for client, transport, count in closed.findall(log.read_text())]


async def expect_spoken(bench, s):
    """By the server's log each side was at its own address, has spoken what it should, and relayed the messages."""
    for client, address in ((s.a, lab.CLIENT_A), (s.b, lab.CLIENT_B)):
        wanted = "tcp" if client in BARE else "tls"
        for _ in range(50):  # the clients have just gone
            found = {t: count for a, t, count in allocations(bench, s) if a == address and count >= s.messages * 1000}
            if found:
                break
            await asyncio.sleep(0.1)
        expect(set(found) == {wanted}, f"{client} at {address} relayed by {found}, not by {wanted}")


async def turns(bench, s):
    """A relayed call by `turns:`, which means another thing to some clients."""
    note = await relayed(bench, s)
    if bench.kind == "turnstone":
        await expect_spoken(bench, s)
        spoken = ["bare STUN" if client in BARE else "TLS" for client in (s.a, s.b)]
        note += f"; A spoke {spoken[0]}, B {spoken[1]}"
    return note


async def beside_web(bench, s):
    """A call through the port behind which a web server is busy meanwhile."""
    if bench.kind != "turnstone":
        return "not for this server"
    try:
        with web_pages.serving(bench.logs / s.name) as site:
            note = await relayed(bench, s, site.busy)
    except stun.Wrong as wrong:
        raise Failed(str(wrong)) from wrong
    await expect_spoken(bench, s)
    return f"{s.messages} messages beside {site.pages} pages and {site.files} files, clients are known to all; {note}"


async def relay_last_resort(bench, s):
    """ICE may choose, and finds that only the relay goes through."""
    async with bench.pair(s, [bench.ice_server(s), {"urls": f"stun:{lab.SERVER}:3478"}], "all") as (a, b):
        await negotiate(a, b)
        pairs, note = await talk(s, a, b)
        # One relay between two symmetric NATs is enough: the other side may show as peer-reflexive.
        expect(any("relay" in pair.values() for pair in pairs), f"not relayed: {note}")
        return note


async def stun_direct(bench, s):
    async with bench.pair(s, [{"urls": f"stun:{lab.SERVER}:3478"}], "all") as (a, b):
        descriptions = await negotiate(a, b)
        expect(all(candidates(d, "srflx") for d in descriptions), "no server-reflexive candidate")
        pairs, note = await talk(s, a, b)
        expect(not any("relay" in pair.values() for pair in pairs), f"relayed: {note}")
        return note


async def stun_fails(bench, s):
    """Server-reflexive candidates are there, and no pair of them works."""
    async with bench.pair(s, [{"urls": f"stun:{lab.SERVER}:3478"}], "all") as (a, b):
        descriptions = await negotiate(a, b)
        expect(all(candidates(d, "srflx") for d in descriptions), "no server-reflexive candidate")
        try:
            _, note = await talk(s, a, b)
        except Failed as error:
            expect("ICE failed" in str(error), str(error))
            return "ICE fails, as it should"
        raise Failed(f"connected: {note}")


async def no_relay(bench, s):
    """No candidate is gathered, since nothing of the client's UDP gets through."""
    async with bench.pair(s, [bench.ice_server(s)]) as (a, _):
        offer = await a("offer")
        expect(not candidates(offer, "relay"), "a relay candidate in spite of the block")
        return "no relay candidate, as it should"


async def refused_login(bench, s):
    """The browser hears 401 and gathers nothing."""
    async with bench.pair(s, [bench.ice_server(s)]) as (a, _):
        offer = await a("offer")
        expect(not candidates(offer, "relay"), "a relay candidate with expired credentials")
        codes = [e["code"] for e in offer["errors"]]
        expect(401 in codes, f"no 401 among {offer['errors']}")
        return "401, as it should"


# ---- turnutils_uclient ----


async def run_inside(where, command, variables=None):
    """A program to its end, and all that it says. Gone whatever happens."""
    process = await asyncio.create_subprocess_exec(
        *lab.inside(where, *command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | (variables or {}),
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode(errors="replace")


async def uclient_output(bench, s, user, password):
    """Runs turnutils_uclient and returns what it prints."""
    v6 = "v6" in s.name  # the hosts behind the NATs have IPv4 only
    address = lab.SERVER6 if s.transport.endswith("6") else bench.address(s)
    peer = [] if "-y" in s.arguments else ["-e", lab.PEER6 if "-x" in s.arguments else lab.PEER]
    command = ["turnutils_uclient", "-v", *s.arguments, *peer, "-n", str(MESSAGES), "-l", "1000", "-z", "5"]
    command += ["-u", user, "-w", password, address]
    preload = {"LD_PRELOAD": os.environ["UCLIENT_CHANNELS"]}
    _, text = await run_inside("peer" if v6 else "host-a", command, preload)
    (bench.logs / f"{s.name}.log").write_text(f"{' '.join(command[:-5])}\n{text}")
    return text


def uclient_counts(text):
    """Its exit status is 0 whatever was lost, so: (sent, received, lost) of its last summary."""
    sent, received = (re.findall(rf"tot_{what}_msgs=(\d+)", text) for what in ("send", "recv"))
    lost = re.findall(r"Total lost packets (-?\d+)", text)
    return tuple(int(found[-1]) if found else None for found in (sent, received, lost))


async def uclient(bench, s):
    text = await uclient_output(bench, s, *bench.login(s))
    sent, received, lost = uclient_counts(text)
    clients = int(s.arguments[s.arguments.index("-m") + 1])
    expect(sent and sent >= clients * MESSAGES, f"sent {sent}: {text.strip().splitlines()[-1:]}")
    expect(received == sent and lost == 0, f"sent {sent}, received {received}, lost {lost}")
    expect(s.proof(text), f"not {s.proof.__name__.replace('_', ' ')}")
    return f"{received} of {sent} messages back, {s.proof.__name__.replace('_', ' ')}"


async def libnice(bench, s):
    """Its "TLS" relays are bare STUN to the port of TLS."""
    program = HERE / "peers" / "libnice.py"
    command = ["/usr/bin/python3", program, lab.SERVER, str(lab.WEB_PORT), *bench.login(s)]
    status, text = await run_inside("host-a", command)
    (bench.logs / f"{s.name}.log").write_text(text)
    expect(status == 0, text[-300:])
    return text.strip().splitlines()[-1]


async def uclient_refused(bench, s):
    user, _ = bench.login(s)
    text = await uclient_output(bench, s, user, "not-the-password")
    # It does not name the error code: it asks some thirty times and gives up.
    expect("allocate response received" in text, "no answer at all")
    expect("success" not in text, "an allocation in spite of the password")
    expect("Cannot complete Allocation" in text, "no refusal seen")
    return "refused, as it should be"


# ---- Modules of their own ----


def apart(module, arguments=lambda bench: ()):
    """A scenario that needs nothing of this file: the module's check returns a note or raises stun.Wrong."""

    async def run(bench, s):
        if bench.kind != "turnstone":
            return "not for this server"
        try:
            return await asyncio.to_thread(module.check, *arguments(bench))
        except stun.Wrong as wrong:
            raise Failed(str(wrong)) from wrong

    return run


def bound_channels(text):
    numbers = [int(n, 16) for n in re.findall(r"success: (0x[0-9a-f]+)", text)]
    return numbers and all(0x4000 <= n <= 0x4FFF for n in numbers)


def bound_none(text):
    return "channel bind sent" not in text


def even_and_next(text):
    ports = [int(p) for p in re.findall(r"Received relay addr: [\d.]+:(\d+)", text)]
    return any(p % 2 == 0 and p + 1 in ports for p in ports)


def relayed_v6(text):
    return bound_channels(text) and f"Received relay addr: {lab.SERVER6}:" in text


def connected_v6(text):
    return bound_channels(text) and f"Connected to: {lab.SERVER6}:" in text


def all_v6(text):
    return relayed_v6(text) and connected_v6(text)


# ---- the list ----


def scenarios():
    def call(a, b, transport, run=relayed, name="", **options):
        retry = run in (relayed, turns, relay_last_resort, stun_direct) and bool({a, b} & BROWSERS)
        return Scenario(name or f"{a}-{b}-{transport}", a, b, transport, run, retry=retry, **options)

    def tool(name, transport, *arguments, run=uclient, **options):
        b = "uclient" if "-y" in arguments else "turnutils_peer"
        return Scenario(f"uclient-{name}", "uclient", b, transport, run, arguments=list(arguments), **options)

    c, f, n = "chromium", "firefox", "node-datachannel"
    return [
        call(c, c, "udp", media=True),
        call(c, c, "tcp", media=True),
        call(f, f, "udp", media=True),
        call(f, f, "tcp", media=True),
        call(c, f, "udp", media=True),
        call(c, f, "tcp", media=True),
        call("aiortc", c, "udp"),
        call("werift", c, "udp"),
        call(n, c, "udp"),
        call("aiortc", "werift", "udp", login="static"),
        call("aiortc", "aiortc", "tcp"),
        call("werift", "werift", "tcp", login="static"),
        call(n, n, "udp"),
        call(c, c, "udp", name="static-user", login="static"),
        call(c, c, "udp", stun_direct, name="stun-plain-nats"),
        call(c, c, "udp", stun_fails, name="stun-symmetric-nats", nat="symmetric"),
        call(c, c, "udp", relay_last_resort, name="turn-symmetric-nats", nat="symmetric"),
        call(c, c, "udp", no_relay, name="blocked-udp", nat="no-udp"),
        call(c, c, "tcp", name="blocked-udp-tcp", nat="no-udp"),
        call(c, c, "tls", media=True),
        call(f, f, "tls", media=True),
        call(c, f, "tls", media=True),
        call("aiortc", "aiortc", "tls"),
        call("werift", "werift", "tls", login="static"),
        call("aiortc", "werift", "tls"),
        *[call("pion", "pion", transport) for transport in ("udp", "tcp", "tls")],
        call("pion", c, "tls", name="only-443-open-pion", nat="only-443"),
        call(c, c, "tls", name="only-443-open", nat="only-443"),
        call(f, f, "tls", name="only-443-open-firefox", nat="only-443"),
        call(c, c, "tcp", no_relay, name="only-443-open-tcp", nat="only-443"),
        *[
            call(a, b, "tls", turns, name=f"{a}-{b}-turns", media=True, nat="only-443")
            for a, b in [("gstreamer", "gstreamer"), (c, "gstreamer"), (c, "janus")]
        ],
        Scenario("libnice-bare-stun", "libnice", "libnice", "tcp", libnice),
        call(c, c, "udp", name="server-nat-udp", server="inner"),
        call("aiortc", c, "tcp", name="server-nat-tcp", server="inner"),
        call(c, c, "udp", refused_login, name="expired-udp", login="expired"),
        call(c, c, "tcp", refused_login, name="expired-tcp", login="expired"),
        tool("channel", "udp", "-c", "-m", "4", proof=bound_channels),
        tool("channel-tcp", "tcp", "-t", "-c", "-m", "4", proof=bound_channels),
        tool("channel-tls", "tls", "-t", "-S", "-p", str(lab.WEB_PORT), "-c", "-m", "4", proof=bound_channels),
        tool("send-tls", "tls", "-t", "-S", "-p", str(lab.WEB_PORT), "-s", "-c", "-m", "4", proof=bound_none),
        tool("send", "udp", "-s", "-c", "-m", "4", proof=bound_none, login="static"),
        tool("send-tcp", "tcp", "-t", "-s", "-c", "-m", "4", proof=bound_none),
        tool("to-client", "udp", "-y", "-c", "-m", "4", proof=bound_channels),
        tool("to-client-tcp", "tcp", "-t", "-y", "-s", "-c", "-m", "4", proof=bound_none),
        tool("even-port", "udp", "-m", "2", proof=even_and_next),
        tool("v6-relay", "udp", "-x", "-c", "-m", "2", proof=relayed_v6),
        tool("v6-transport", "udp6", "-c", "-m", "2", proof=connected_v6),
        tool("v6-both-tcp", "tcp6", "-t", "-x", "-c", "-m", "2", proof=all_v6),
        tool("wrong-password", "udp", "-c", "-m", "1", run=uclient_refused),
        Scenario("fail2ban", "clients", "fail2ban", "udp, tcp", apart(fail2ban)),
        Scenario("doctor", "doctor", "-", "-", apart(doctor)),
        Scenario("own-addresses", "client", "ip", "udp", apart(own_addresses)),
        Scenario(
            "import", "uclient", "turnutils_peer", "udp, tcp", apart(coturn_import, lambda bench: (bench.logs,))
        ),
        Scenario("prometheus", "clients", "prometheus", "udp, tcp", apart(prometheus)),
        *[
            Scenario(f"acme-{name}", "openssl", "pebble", "tls", apart(acme, lambda _, name=name: (name,)))
            for name in acme.CASES
        ],
        Scenario("tls", "openssl", "-", "tls", apart(tls)),
        Scenario("dtls", "uclient", "pion", "dtls", apart(dtls)),
        Scenario("dashboard", "clients", "chromium", "udp, tcp", apart(dashboard)),
        call(
            c, f, "tls", beside_web, name="web-nginx-calls", media=True, nat="only-443", messages=300, pace_ms=20,
            frames=30,
        ),
        *[
            Scenario(name, "clients", front, "tls, tcp", apart(port_443, lambda _, name=name: (name,)))
            for name, front in [("web-nginx", "nginx"), ("haproxy", "haproxy")]
        ],
        *[
            Scenario(f"check-{name}", "check", "turnstone, coturn", "udp, tcp", apart(check, lambda _, name=name: (name,)))
            for name in check.CASES
        ],
    ]


# ---- running them ----


class Table:
    """The summary: a row an outcome, printed as it comes and once more at the end."""

    heads = ("client A", "client B", "scenario", "transport", "result", "time", "note")

    def __init__(self):
        self.rows = []

    def add(self, *row):
        self.rows.append(row)
        a, b, name, transport, result, seconds, note = row
        print(f"{result:8} {name:28} {seconds:>6}  {note}", flush=True)

    def __str__(self):
        rows = [self.heads, *self.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(6)]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, [*widths, 0])).rstrip() for row in rows)

    def count(self, *results):
        return sum(row[4] in results for row in self.rows)


async def attempt(bench, s):
    """The scenario once; (succeeded, note)."""
    try:
        async with asyncio.timeout(CALL_DEADLINE):
            return True, await s.run(bench, s)
    except TimeoutError:
        return False, f"not done after {CALL_DEADLINE} s"
    except (Failed, lab.NotStarted) as failure:
        return False, " ".join(str(failure).split())[:300]


async def perform(bench, table, s):
    lab.nat(s.nat)
    started = time.monotonic()
    passed, note = await attempt(bench, s)
    result = "ok" if passed else "FAIL"
    if not passed and s.retry:
        passed, second = await attempt(bench, s)
        result, note = ("retried", f"{second} (at first: {note})") if passed else ("FAIL", f"{note}; again: {second}")
    table.add(s.a, s.b, s.name, s.transport, result, f"{time.monotonic() - started:.1f}s", note)


async def perform_all(bench, table, chosen):
    lab.up()
    echo = lab.start_echo(bench.logs)
    bench.server("server")
    for i, s in enumerate(chosen):
        await perform(bench, table, s)
        if not all(server.alive() for server in bench.servers.values()):
            print(f"the server died; {len(chosen) - i - 1} scenarios not run", flush=True)
            break
    expect(echo.poll() is None, "turnutils_peer died")
    for name, server in bench.servers.items():
        started = time.monotonic()
        faults = server.stop(bench.passwords)
        note = "; ".join(faults) or "alive to the end, clean log, ends on SIGTERM"
        took = f"{time.monotonic() - started:.1f}s"
        table.add(bench.kind, "-", f"life-of-{name}", "-", "FAIL" if faults else "ok", took, note)


async def main(chosen, kind, logs):
    table = Table()
    started = time.monotonic()
    lab.down()  # what a run that was killed has left; only then is nothing writing to its logs
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    task = asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    trouble = None
    try:
        async with asyncio.timeout(RUN_DEADLINE):
            await perform_all(Bench(kind, logs), table, chosen)
    except asyncio.CancelledError:
        trouble = "ended by a signal"
    except TimeoutError:
        trouble = f"not done after {RUN_DEADLINE} s"
    except (Failed, lab.NotStarted, OSError) as error:
        trouble = str(error)
    finally:
        lab.down()
    print(f"\n{table}\n")
    if trouble:
        table.rows.append((kind, "-", "run", "-", "FAIL", "-", trouble))
        print(f"interop: {trouble}")
    print(f"server {kind}, {time.monotonic() - started:.0f} s, logs in {os.path.relpath(logs)}")
    print(f"{table.count('ok', 'retried')} passed, {table.count('FAIL')} failed")
    return 1 if table.count("FAIL") else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="run", description="Real WebRTC clients against TURN_SERVER.")
    parser.add_argument("--list", action="store_true", help="print the scenarios' names")
    parser.add_argument("names", nargs="*", metavar="NAME", help="run these only")
    options = parser.parse_args()
    known = {s.name: s for s in scenarios()}
    if options.list:
        sys.exit(print("\n".join(known)))
    if unknown := set(options.names) - set(known):
        parser.error(f"no such scenario: {' '.join(sorted(unknown))}")
    lock = open("/run/lock/turnstone-interop", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        parser.exit(2, "interop: another run holds the namespaces\n")
    sys.exit(
        asyncio.run(
            main(
                [known[name] for name in options.names] or list(known.values()),
                os.environ.get("TURN_SERVER", "turnstone"),
                Path(os.environ["INTEROP_LOGS"]),
            )
        )
    )
