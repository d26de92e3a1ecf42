"""The peers' protocol of stdio.mjs: a request and a reply a line, for a class with a method for each."""

import json
import sys


def serve(peer):
    """Answers until the request to close; `start` makes the peer."""
    call = None
    while line := sys.stdin.readline():
        request = json.loads(line)
        try:
            if request["method"] == "start":
                call = peer(request["argument"])
                reply = {"value": None}
            else:
                reply = {"value": getattr(call, request["method"])(request["argument"])}
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)
        if request["method"] == "close":
            break
