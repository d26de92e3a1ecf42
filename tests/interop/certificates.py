"""A certificate authority of the tests, and certificates of it for a server."""

import subprocess
from pathlib import Path


def openssl(*arguments, text=""):
    subprocess.run(["openssl", *arguments], input=text, text=True, check=True, capture_output=True, timeout=30)


def alternatives(names):
    return "subjectAltName=" + ",".join(("IP:" if name[-1].isdigit() or ":" in name else "DNS:") + name for name in names)


def make_by_hand(directory: Path, names):
    """Writes rsa.crt and rsa.key as the shortest command makes them, which is an authority's; ca.pem is the same."""
    directory.mkdir(parents=True, exist_ok=True)
    path = lambda name: str(directory / name)
    openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={names[0]}"),
        *("-addext", alternatives(names), "-keyout", path("rsa.key"), "-out", path("rsa.crt")),
    )
    (directory / "ca.pem").write_text((directory / "rsa.crt").read_text())


def make(directory: Path, names):
    """Writes ca.pem, and ecdsa.crt, ecdsa.key, rsa.crt and rsa.key for names and addresses."""
    directory.mkdir(parents=True, exist_ok=True)
    path = lambda name: str(directory / name)
    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"),
        *("-subj", "/CN=authority of the interop tests", "-addext", "keyUsage=critical,keyCertSign"),
        *("-keyout", path("ca.key"), "-out", path("ca.pem")),
    )
    kinds = {"ecdsa": ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"], "rsa": ["rsa:2048"]}
    for kind, key in kinds.items():
        request = ["-subj", f"/CN={names[0]}", "-keyout", path(f"{kind}.key"), "-out", path(f"{kind}.csr")]
        openssl("req", "-newkey", *key, "-nodes", *request)
        openssl(
            *("x509", "-req", "-in", path(f"{kind}.csr"), "-CA", path("ca.pem"), "-CAkey", path("ca.key")),
            *("-CAcreateserial", "-days", "30", "-extfile", "/dev/stdin", "-out", path(f"{kind}.crt")),
            text=f"{alternatives(names)}\nextendedKeyUsage=serverAuth\nbasicConstraints=critical,CA:FALSE\n",
        )
        with open(path(f"{kind}.crt"), "a") as chain:
            chain.write((directory / "ca.pem").read_text())
