"""Clients over DTLS: openssl s_client, coturn's turnutils_uclient, and pion.

Needs openssl 3, coturn, UCLIENT_CHANNELS, TURNSTONE_DTLS_BIN, a server built with --features dtls, and
PION_DTLS, what peers/pion_dtls is built to. Everything happens on loopback.
"""

import os
import re
import subprocess
import tempfile
from pathlib import Path

import certificates
from prometheus import eventually, free_port, serving, start, stop
from stun import Wrong, expect

NAME = "turn.example.org"
CLIENTS, MESSAGES = 4, 50


def openssl(port, ca, *arguments):
    command = ["openssl", "s_client", "-dtls1_2", "-connect", f"127.0.0.1:{port}", "-servername", NAME]
    command += ["-CAfile", str(ca), "-verify_return_error", "-verify_hostname", NAME, *arguments]
    return subprocess.run(command, input="Q\n", text=True, capture_output=True, timeout=20)


def handshakes(port, ca):
    # Both certificates are for the same name.
    for key in ("ECDSA", "RSA"):
        suite = f"ECDHE-{key}-AES128-GCM-SHA256"
        done = openssl(port, ca, "-cipher", suite)
        expect(f"Cipher is {suite}" in done.stdout and "Verify return code: 0" in done.stdout, f"{suite}: {done}")
    for cipher in ("AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA"):
        done = openssl(port, ca, "-cipher", f"{cipher}@SECLEVEL=0")
        expect("handshake failure" in done.stderr, f"{cipher} is not refused: {done}")


def uclient(port, peer, *arguments):
    command = ["turnutils_uclient", "-v", "-S", "-c", *arguments, "-L", "127.0.0.1", "-e", "127.0.0.1", "-r", str(peer)]
    command += ["-m", str(CLIENTS), "-n", str(MESSAGES), "-l", "1000", "-z", "5", "-p", str(port)]
    command += ["-u", "alice", "-w", "wonderland", "127.0.0.1"]
    environment = os.environ | {"LD_PRELOAD": os.environ["UCLIENT_CHANNELS"]}
    pipes = {"stdin": subprocess.DEVNULL, "capture_output": True}
    done = subprocess.run(command, **pipes, text=True, errors="replace", timeout=60, env=environment)
    text = done.stdout + done.stderr
    sent, received = (re.findall(rf"tot_{what}_msgs=(\d+)", text) for what in ("send", "recv"))
    expect(sent and received, f"uclient: {text[-1500:]}")
    expect(int(sent[-1]) == int(received[-1]) >= CLIENTS * MESSAGES, f"{sent[-1]} sent, {received[-1]} received")
    return int(received[-1])


def check():
    """All of it; returns a note."""
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        certificates.make(directory, [NAME])
        config, log, port, peer, page = directory / "turnserver.toml", directory / "log", *(free_port() for _ in range(3))
        config.write_text(
            f'realm = "example.org"\n[listen]\nudp = []\ntcp = ["127.0.0.1:{port}"]\ntls = []\ndtls = ["127.0.0.1:{port}"]\n'
            f'[tls]\ncert = "{directory}/ecdsa.crt"\nkey = "{directory}/ecdsa.key"\n'
            f'additional = [{{ cert = "{directory}/rsa.crt", key = "{directory}/rsa.key" }}]\n'
            '[relay]\naddresses = ["127.0.0.1"]\n[auth]\nusers = { alice = "wonderland" }\n'
            f'[peers]\nallow_loopback = true\n[metrics]\nlisten = "127.0.0.1:{page}"\n'
        )
        config.chmod(0o600)
        environment = {"PATH": os.environ["PATH"], "XDG_STATE_HOME": str(directory)}
        processes = [start([os.environ["TURNSTONE_DTLS_BIN"], "run", "--config", config], log, environment)]
        try:
            serving(processes[0], log)
            expect(f"dtls=127.0.0.1:{port}" in log.read_text(), "the log does not tell where DTLS is served")
            ca = directory / "ca.pem"
            handshakes(port, ca)
            command = ["turnutils_peer", "-p", str(peer), "-L", "127.0.0.1"]
            processes.append(start(command, directory / "peer", environment))
            eventually("no turnutils_peer", lambda: f"127.0.0.1:{peer}" in sockets())
            counts = [uclient(port, peer), uclient(port, peer, "-s")]
            command = [os.environ["PION_DTLS"], f"127.0.0.1:{port}", ca, "alice", "wonderland"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            expect(done.returncode == 0, f"pion: {done.stderr[-800:]}")
            return f"uclient has {sum(counts)} of as many messages back; pion: {done.stdout.strip()}"
        finally:
            for process in processes:
                stop(process)


def sockets():
    return subprocess.run(["ss", "-Hlun"], capture_output=True, text=True, timeout=10).stdout


if __name__ == "__main__":
    try:
        print(check())
    except Wrong as wrong:
        raise SystemExit(str(wrong)) from None
