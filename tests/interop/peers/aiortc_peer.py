"""aiortc behind the peers' protocol of stdio.mjs."""

import asyncio
import json
import sys

from aiortc import (
    RTCConfiguration,
    RTCIceServer,
    RTCIceTransportPolicy,
    RTCPeerConnection,
    RTCSessionDescription,
)

MESSAGES = 50


def message(i):
    return f"{i}:".ljust(1000, "x")


class Call:
    def __init__(self, config):
        self.pc = RTCPeerConnection(
            RTCConfiguration(
                iceServers=[RTCIceServer(**server) for server in config["iceServers"]],
                iceTransportPolicy=RTCIceTransportPolicy(config["policy"]),
            )
        )
        self.exact = 0
        self.finished = asyncio.get_running_loop().create_future()

        @self.pc.on("connectionstatechange")
        def changed():
            if self.pc.connectionState == "failed" and not self.finished.done():
                self.finished.set_exception(RuntimeError("ICE failed"))

    def count(self, data):
        if self.finished.done():
            return
        if data != message(self.exact):
            return self.finished.set_exception(RuntimeError(f"message {self.exact} arrived damaged"))
        self.exact += 1
        if self.exact == MESSAGES:
            self.finished.set_result(None)

    async def describe(self, description):
        await self.pc.setLocalDescription(description)  # returns when gathering has ended
        local = self.pc.localDescription
        return {"type": local.type, "sdp": local.sdp, "errors": []}

    async def offer(self, _):
        channel = self.pc.createDataChannel("echo")

        @channel.on("open")
        def opened():
            channel.send(message(0))

        @channel.on("message")
        def received(data):
            self.count(data)
            if self.exact < MESSAGES:
                channel.send(message(self.exact))

        return await self.describe(await self.pc.createOffer())

    async def answer(self, offer):
        @self.pc.on("datachannel")
        def announced(channel):
            @channel.on("message")
            def received(data):
                channel.send(data)
                self.count(data)

        await self.accept(offer)
        return await self.describe(await self.pc.createAnswer())

    async def accept(self, answer):
        await self.pc.setRemoteDescription(RTCSessionDescription(sdp=answer["sdp"], type=answer["type"]))

    async def result(self, _):
        await self.finished
        # aiortc's getStats does not name the pair; aioice knows it.
        pair = self.pc.sctp.transport.transport._connection._nominated[1]
        return {
            "exact": self.exact,
            "frames": None,
            "pair": {"local": pair.local_candidate.type, "remote": pair.remote_candidate.type},
        }

    async def close(self, _):
        await self.pc.close()


async def main():
    loop = asyncio.get_running_loop()
    call = None
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        request = json.loads(line)
        try:
            if request["method"] == "start":
                call = Call(request["argument"])
                reply = {"value": None}
            else:
                reply = {"value": await getattr(call, request["method"])(request["argument"])}
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)
        if request["method"] == "close":
            break


asyncio.run(main())
