"""Debian's nginx behind port 443 of the suite's server, on the configuration of docs/tls.md, and clients of it.

Used by interop.py, in the networks of lab.py, where calls go through the same port at the same time.
"""

import asyncio
import collections
import contextlib
import hashlib
import os
import threading
from pathlib import Path

import lab
import port_443

# Who fetches: a host outside of NAT, and those that the call is between.
PAGE_CLIENTS, FILE_CLIENT = ["peer", "peer", "host-b"], "host-a"
ADDRESSES = {"peer": lab.PEER, "host-a": lab.CLIENT_A, "host-b": lab.CLIENT_B}
PAGES, LINES = 20, 2000
FILE_BYTES = 16 << 20
MOST = 2000  # fetches of a client
LEAST_PAGES, LEAST_FILES = 20, 1  # while the call goes on


def page(number):
    return f"this is page {number}\n" * LINES


class Site:
    """nginx in the server's namespace, and what was fetched from it."""

    def __init__(self, directory: Path):
        self.directory, self.pages, self.files = directory, 0, 0
        self.fetched = collections.Counter()  # by address
        html = directory / "html"
        html.mkdir(parents=True)
        for number in range(PAGES):
            (html / f"page-{number}").write_text(page(number))
        data = os.urandom(FILE_BYTES)
        (html / "file").write_bytes(data)
        self.digest = hashlib.sha256(data).digest()
        # Not the server's certificate, nor its authority: who ends the TLS is nginx.
        port_443.certificates(directory)

    def fetch(self, host, name, *options):
        url = f"https://{port_443.NAMES['www']}/{name}"
        data = port_443.curl(lab.SERVER, self.directory, *options, url, where=lab.inside(host))
        self.fetched[ADDRESSES[host]] += 1
        return data

    def fetch_pages(self, host, first, over):
        for number in range(first, first + MOST):
            if over.is_set():
                return
            # With HTTP's protocols, and with none but a name.
            data = self.fetch(host, f"page-{number % PAGES}", ["--http1.1", "--no-alpn"][number % 2])
            port_443.expect(data == page(number % PAGES).encode(), f"page {number % PAGES} is another")
            self.pages += not over.is_set()

    def fetch_files(self, over):
        for _ in range(MOST):
            if over.is_set():
                return
            data = self.fetch(FILE_CLIENT, "file")
            port_443.expect(hashlib.sha256(data).digest() == self.digest, "the file is another")
            self.files += not over.is_set()

    @contextlib.asynccontextmanager
    async def busy(self):
        """For as long as the block lasts, clients fetch one page after another, and the file."""
        over = threading.Event()
        clients = [(self.fetch_pages, host, i, over) for i, host in enumerate(PAGE_CLIENTS)] + [(self.fetch_files, over)]
        tasks = [asyncio.create_task(asyncio.to_thread(*client)) for client in clients]
        try:
            yield
        finally:
            over.set()
            done = await asyncio.gather(*tasks, return_exceptions=True)
        for fault in done:
            if fault:
                raise fault
        enough = self.pages >= LEAST_PAGES and self.files >= LEAST_FILES
        port_443.expect(enough, f"{self.pages} pages and {self.files} files in the time of the call")

    def expect_clients_logged(self):
        """nginx, which has ended, was told whose each request was."""
        lines = (self.directory / "access.log").read_text().splitlines()
        logged = collections.Counter(line.split()[0] for line in lines)
        port_443.expect(logged == self.fetched, f"nginx logged {dict(logged)}, fetched was {dict(self.fetched)}")


@contextlib.contextmanager
def serving(directory):
    site = Site(directory)
    with port_443.nginx(directory, where=lab.inside("server")):
        yield site
    site.expect_clients_logged()
