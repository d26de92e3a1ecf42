"""`openssl s_client` against the server: versions, ciphers, ALPN, names, resumption, and what is refused.

Needs openssl 3 and TURNSTONE_BIN. Everything happens on loopback.
"""

import contextlib
import os
import re
import subprocess
import tempfile
from pathlib import Path

import certificates
from prometheus import eventually, free_port, serving, start, stop
from stun import Wrong, expect

NAME, OTHER = "turn.example.org", "other.example.org"
TURN, NAT_DISCOVERY = "stun.turn", "stun.nat-discovery"
# TLS 1.0 and 1.1 are off in a library of today unless its security level is 0.
WEAK = ["-cipher", "DEFAULT@SECLEVEL=0"]


class Matrix:
    def __init__(self, port, ca, directory):
        self.port, self.ca, self.directory = port, ca, directory
        self.rows = 0

    def command(self, *arguments, name=NAME):
        naming = ["-servername", name, "-verify_hostname", name] if name else ["-noservername"]
        trust = ["-CAfile", str(self.ca), "-verify_return_error"]
        return ["openssl", "s_client", "-connect", f"127.0.0.1:{self.port}", *trust, *naming, *arguments]

    def shake(self, *arguments, **options):
        """Shakes hands and hangs up; returns status and output."""
        done = subprocess.run(
            self.command(*arguments, **options), input="", text=True, capture_output=True, timeout=20
        )
        self.rows += 1
        return done.returncode, done.stdout + done.stderr

    def agrees(self, *arguments, says=(), **options):
        status, output = self.shake(*arguments, **options)
        what = " ".join(arguments)
        expect(status == 0, f"{what}: {status}: {output[-400:]}")
        for words in says:
            expect(words in output, f"{what}: no {words!r} in {output[-1500:]}")

    def refuses(self, *arguments, says, **options):
        status, output = self.shake(*arguments, **options)
        what = " ".join(arguments)
        expect(status != 0, f"{what}: agreed on {re.findall(r'New, .*', output)}")
        expect(says in output, f"{what}: refused by {output[-400:]}")

    def versions_and_ciphers(self):
        self.agrees("-tls1_3", says=["New, TLSv1.3"])
        self.agrees("-tls1_2", says=["New, TLSv1.2"])
        for suite in ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"):
            self.agrees("-tls1_3", "-ciphersuites", suite, says=[f"Cipher is {suite}"])
        # Both certificates are for the same name: the client's ciphers and signatures say which it can verify.
        for key in ("ECDSA", "RSA"):
            for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"):
                suite = f"ECDHE-{key}-{cipher}"
                self.agrees("-tls1_2", "-cipher", suite, says=[f"Cipher is {suite}"])
        self.agrees("-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256", says=["Peer signature type: RSA-PSS"])
        self.agrees("-tls1_3", "-sigalgs", "ecdsa_secp256r1_sha256", says=["Peer signature type: ECDSA"])
        for group, said in (("X25519", "X25519"), ("P-256", "ECDH, prime256v1"), ("P-384", "ECDH, secp384r1")):
            self.agrees("-groups", group, says=[f"Server Temp Key: {said}"])

    def refusals(self):
        for version in ("-tls1", "-tls1_1"):
            # Its hello lacks what later versions need, which is seen first.
            self.refuses(version, *WEAK, says="alert handshake failure")
        for cipher in ("AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA", "DHE-RSA-AES128-GCM-SHA256"):
            self.refuses("-tls1_2", "-cipher", f"{cipher}@SECLEVEL=0", says="alert handshake failure")

    def application_protocols(self):
        self.agrees(says=["No ALPN negotiated"])
        self.agrees("-alpn", TURN, says=[f"ALPN protocol: {TURN}"])
        self.agrees("-alpn", NAT_DISCOVERY, says=[f"ALPN protocol: {NAT_DISCOVERY}"])
        self.agrees("-alpn", f"h2,http/1.1,{TURN}", says=[f"ALPN protocol: {TURN}"])
        self.agrees("-tls1_2", "-alpn", f"{TURN},h2", says=[f"ALPN protocol: {TURN}"])

    def names(self):
        self.agrees(name=None)
        status, output = self.shake(name=OTHER)
        expect(status != 0 and "hostname mismatch" in output.lower(), f"a certificate for {OTHER}: {output[-400:]}")

    @contextlib.contextmanager
    def open(self, *arguments):
        """A client that stays, and what it has said so far."""
        log = self.directory / "s_client.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                self.command(*arguments), stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, text=True
            )
        self.rows += 1
        try:
            yield process, log.read_text
        finally:
            process.kill()
            process.wait()

    def resumption(self):
        for version in ("-tls1_2", "-tls1_3"):
            session = self.directory / f"session{version}"
            # TLS 1.3 sends its tickets after the handshake.
            with self.open(version, "-sess_out", str(session)) as (process, _):
                eventually(f"no session by {version}", lambda: session.exists() and session.stat().st_size)
                process.stdin.close()
                process.wait(20)
            self.agrees(version, "-sess_in", str(session), says=["Reused, TLSv1"])

    def no_early_data(self):
        session = self.directory / "session-tls1_3"
        command = ["openssl", "sess_id", "-in", session, "-noout", "-text"]
        text = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
        expect("Max Early Data: 0" in text, f"early data: {text}")

    def no_renegotiation(self):
        with self.open("-tls1_2") as (process, said):
            eventually("no handshake", lambda: "Verify return code: 0" in said(), 20)
            process.stdin.write("R\n")
            process.stdin.flush()
            eventually(f"renegotiated: {said()[-300:]}", lambda: "no renegotiation" in said(), 20)


def check():
    """All of it; returns a note."""
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        certificates.make(directory, [NAME])
        config, log, port, udp = directory / "turnserver.toml", directory / "log", free_port(), free_port()
        config.write_text(
            f'realm = "example.org"\n[listen]\nudp = ["127.0.0.1:{udp}"]\ntcp = []\ntls = ["127.0.0.1:{port}"]\n'
            f'[tls]\ncert = "{directory}/ecdsa.crt"\nkey = "{directory}/ecdsa.key"\n'
            f'additional = [{{ cert = "{directory}/rsa.crt", key = "{directory}/rsa.key" }}]\n'
            '[relay]\naddresses = ["127.0.0.1"]\n[auth]\nusers = { alice = "wonderland" }\n[metrics]\nlisten = ""\n'
        )
        config.chmod(0o600)
        environment = {"PATH": os.environ["PATH"], "XDG_STATE_HOME": str(directory)}
        server = start([os.environ["TURNSTONE_BIN"], "run", "--config", config], log, environment)
        try:
            serving(server, log)
            matrix = Matrix(port, directory / "ca.pem", directory)
            matrix.versions_and_ciphers()
            matrix.refusals()
            matrix.application_protocols()
            matrix.names()
            matrix.resumption()
            matrix.no_early_data()
            matrix.no_renegotiation()
            return f"{matrix.rows} handshakes of openssl go, or are refused, as they should"
        finally:
            stop(server)


if __name__ == "__main__":
    try:
        print(check())
    except Wrong as wrong:
        raise SystemExit(str(wrong)) from None
