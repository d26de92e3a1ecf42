"""As much STUN as scenarios need that talk to a server by themselves (RFC 8489, RFC 8656)."""

import hmac
import os
import socket
import struct

COOKIE = 0x2112A442
ALLOCATE, REFRESH, CREATE_PERMISSION, CHANNEL_BIND = 3, 4, 8, 9
USERNAME, INTEGRITY, ERROR, CHANNEL, LIFETIME, PEER = 6, 8, 9, 0xC, 0xD, 0x12
REALM_NAME, NONCE, RELAYED, TRANSPORT, TOKEN = 0x14, 0x15, 0x16, 0x19, 0x1B
UDP = b"\x11\0\0\0"


class Wrong(Exception):
    """Something else happens than should."""


def expect(condition, message):
    if not condition:
        raise Wrong(message)


def attribute(kind, value):
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def xored(address):
    """An IPv4 address and port as XOR-PEER-ADDRESS has them."""
    ip, port = address
    return struct.pack("!BBHI", 0, 1, port ^ COOKIE >> 16, int.from_bytes(socket.inet_aton(ip), "big") ^ COOKIE)


def request(method, body, key=None):
    """A request, signed if there is a key."""
    length = len(body) + (24 if key else 0)
    message = struct.pack("!HHI", method, length, COOKIE) + os.urandom(12) + body
    return message + attribute(INTEGRITY, hmac.digest(key, message, "sha1")) if key else message


def answer(reply):
    """The error code of a reply, 0 for success, and its attributes."""
    at, found = 20, {}
    while at < len(reply):
        kind, length = struct.unpack_from("!HH", reply, at)
        found[kind] = reply[at + 4 : at + 4 + length]
        at += 4 + length + -length % 4
    error = found.get(ERROR)
    return (error[2] * 100 + error[3] if error else 0), found


def unxored(value):
    """The IPv4 address and port of an XOR-MAPPED-ADDRESS."""
    _, _, port, ip = struct.unpack("!BBHI", value)
    return socket.inet_ntoa((ip ^ COOKIE).to_bytes(4, "big")), port ^ COOKIE >> 16
