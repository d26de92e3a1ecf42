"""Debian's Janus, whose ICE is libnice, behind the peers' protocol of stdio.mjs: its echo test answers calls.

Text comes back from that with words before it, so messages to it are to be binary.
"""

import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from stdio import serve

(LIBRARIES,) = Path("/usr/lib").glob("*/janus")  # below the architecture's name
API, ADMIN = "http://127.0.0.1:8088/janus", "http://127.0.0.1:7088/admin"
SECRET = "interop"
MESSAGES = 50
DEADLINE = 40  # seconds for whatever is waited for
numbers = itertools.count()


def until(happened, what):
    deadline = time.monotonic() + DEADLINE
    while not (result := happened()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} after {DEADLINE} s")
        time.sleep(0.05)
    return result


def http(url, body=None):
    data = body and json.dumps(body | {"transaction": str(next(numbers))}).encode()
    with urllib.request.urlopen(url, data, DEADLINE) as reply:
        answer = json.load(reply)
    if answer["janus"] == "error":
        raise RuntimeError(f"Janus: {answer['error']['reason']}")
    return answer


class Call:
    def __init__(self, config):
        (server,) = config["iceServers"]
        scheme, host, port = re.match(r"(turns?):([^:]+):(\d+)", server["urls"]).groups()
        self.media, self.relays_only = config["media"], config["policy"] == "relay"
        self.directory = tempfile.TemporaryDirectory()
        folder = Path(self.directory.name)
        # What lies in these folders is loaded.
        for library in ("plugins/libjanus_echotest.so", "transports/libjanus_http.so"):
            (folder / library).parent.mkdir()
            (folder / library).symlink_to(LIBRARIES / library)
        (folder / "janus.jcfg").write_text(
            f'general: {{ configs_folder = "{folder}"  plugins_folder = "{folder}/plugins"\n'
            f'  transports_folder = "{folder}/transports"  admin_secret = "{SECRET}" }}\n'
            f'nat: {{ turn_server = "{host}"  turn_port = {port}  turn_type = "{"tls" if scheme == "turns" else "udp"}"\n'
            f'  turn_user = "{server["username"]}"  turn_pwd = "{server["credential"]}"  allow_force_relay = true }}\n'
        )
        (folder / "janus.transport.http.jcfg").write_text(
            'general: { http = true  port = 8088  ip = "127.0.0.1" }\n'
            'admin: { admin_http = true  admin_port = 7088  admin_ip = "127.0.0.1" }\n'
        )
        self.process = subprocess.Popen(["janus", "-F", folder], stdin=subprocess.DEVNULL, stdout=sys.stderr)
        until(self.is_up, "Janus is not up")
        session = http(API, {"janus": "create"})["data"]["id"]
        self.session = f"{API}/{session}"
        handle = http(self.session, {"janus": "attach", "plugin": "janus.plugin.echotest"})["data"]["id"]
        self.handle, self.info = f"{self.session}/{handle}", f"{ADMIN}/{session}/{handle}"

    def is_up(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"Janus ended with status {self.process.returncode}")
        with contextlib.suppress(OSError):
            return all(http(f"{base}/info")["janus"] == "server_info" for base in (API, ADMIN))

    def answer(self, offer):
        description = {"type": "offer", "sdp": offer["sdp"], "trickle": False, "force_relay": self.relays_only}
        http(self.handle, {"janus": "message", "body": {"audio": False, "video": self.media}, "jsep": description})
        event = until(lambda: (found := http(f"{self.session}?maxev=1")) and "jsep" in found and found, "no answer")
        return {"type": "answer", "sdp": event["jsep"]["sdp"], "errors": []}

    def selected_pair(self):
        """Once everything has gone both ways: that it came back unharmed is seen by the other side."""
        webrtc = http(self.info, {"janus": "handle_info", "admin_secret": SECRET})["info"]["webrtc"]
        moved = {medium["type"]: medium["stats"] for medium in webrtc["media"].values() if "stats" in medium}
        wanted = {"data": MESSAGES * 1000} | ({"video": 1} if self.media else {})
        if all(moved[kind][way]["bytes"] >= count for kind, count in wanted.items() for way in ("in", "out")):
            local, remote = re.findall(r"\[(\w+),", webrtc["ice"]["selected-pair"])
            return {"local": local, "remote": remote}

    def result(self, _):
        return {"exact": None, "frames": None, "pair": until(self.selected_pair, "not all messages and media")}

    def close(self, _):
        self.process.terminate()
        self.process.wait(5)
        self.directory.cleanup()


serve(Call)
