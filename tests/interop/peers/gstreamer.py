"""GStreamer's webrtcbin, whose ICE is libnice, behind the peers' protocol of stdio.mjs. Runs under Debian's Python.

Sends a test picture by VP8 and counts the frames that it has decoded.
"""

import time
from urllib.parse import quote

import gi

for library in ("Gst", "GstSdp", "GstWebRTC"):
    gi.require_version(library, "1.0")
from gi.repository import Gst, GstSdp, GstWebRTC  # noqa: E402
from stdio import serve  # noqa: E402

MESSAGES = 50
FRAMES = 15
DEADLINE = 40  # seconds for whatever is waited for
VIDEO = (
    " videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=15/1 ! vp8enc deadline=1 cpu-used=8"
    " ! rtpvp8pay ! application/x-rtp,media=video,encoding-name=VP8,payload=96 ! rtc."
)


def message(i):
    return f"{i}:".ljust(1000, "x")


class Call:
    def __init__(self, config):
        self.kept = []  # what Python would free under GStreamer's feet
        self.exact, self.frames, self.damaged, self.media = 0, 0, None, config["media"]
        policy = config["policy"]
        text = f"webrtcbin name=rtc bundle-policy=max-bundle ice-transport-policy={policy}"
        self.pipeline = Gst.parse_launch(text + (VIDEO if self.media else ""))
        self.rtc = self.pipeline.get_by_name("rtc")
        for server in config["iceServers"]:
            scheme, rest = server["urls"].split(":", 1)
            user, password = (quote(server[part], safe="") for part in ("username", "credential"))
            url = f"{scheme}://{user}:{password}@{rest}"
            if not self.rtc.emit("add-turn-server", url):
                raise RuntimeError(f"webrtcbin does not take {server['urls']}")
        self.rtc.connect("pad-added", self.on_pad)
        self.rtc.connect("on-data-channel", lambda _, channel: self.use(channel, answers=True))
        self.pipeline.set_state(Gst.State.PLAYING)

    def on_pad(self, _, pad):
        if pad.direction != Gst.PadDirection.SRC:
            return
        decoder = "rtpvp8depay ! vp8dec ! fakesink name=sink sync=false signal-handoffs=true"
        sink = Gst.parse_bin_from_description(decoder, True)
        self.pipeline.add(sink)
        sink.get_by_name("sink").connect("handoff", self.on_frame)
        sink.sync_state_with_parent()
        pad.link(sink.get_static_pad("sink"))

    def on_frame(self, *_):
        self.frames += 1

    def use(self, channel, answers):
        self.kept.append(channel)
        send = lambda text: channel.emit("send-string", text)

        def received(_, text):
            if answers:
                send(text)
            if text == message(self.exact):
                self.exact += 1
            else:
                self.damaged = f"message {self.exact} arrived damaged"
            if not answers and self.exact < MESSAGES:
                send(message(self.exact))

        channel.connect("on-message-string", received)
        if not answers:
            channel.connect("on-open", lambda _: send(message(0)))

    def until(self, happened, what):
        """Waits, and ends with the first error of the pipeline."""
        deadline = time.monotonic() + DEADLINE
        while not happened():
            error = self.pipeline.get_bus().pop_filtered(Gst.MessageType.ERROR)
            if error:
                raise RuntimeError(error.parse_error()[0].message)
            if self.rtc.get_property("connection-state") == GstWebRTC.WebRTCPeerConnectionState.FAILED:
                raise RuntimeError("ICE failed")
            if self.damaged or time.monotonic() > deadline:
                raise RuntimeError(self.damaged or f"{what} after {DEADLINE} s")
            time.sleep(0.02)

    def ask(self, signal, argument=None):
        promise = Gst.Promise.new()
        self.rtc.emit(signal, argument, promise)
        promise.wait()
        reply = promise.get_reply()
        self.kept += [promise, reply]
        if reply and reply.has_field("error"):
            raise RuntimeError(f"{signal}: {reply.get_value('error')}")
        return reply

    def describe(self, kind):
        description = self.ask(f"create-{kind}").get_value(kind)
        self.ask("set-local-description", description)
        complete = GstWebRTC.WebRTCICEGatheringState.COMPLETE
        self.until(lambda: self.rtc.get_property("ice-gathering-state") == complete, "gathering goes on")
        local = self.rtc.get_property("local-description")
        self.kept += [description, local]
        return {"type": kind, "sdp": local.sdp.as_text(), "errors": []}

    def offer(self, _):
        self.use(self.rtc.emit("create-data-channel", "echo", None), answers=False)
        return self.describe("offer")

    def answer(self, offer):
        self.accept(offer)
        return self.describe("answer")

    def accept(self, description):
        _, sdp = GstSdp.SDPMessage.new_from_text(description["sdp"])
        kind = getattr(GstWebRTC.WebRTCSDPType, description["type"].upper())
        remote = GstWebRTC.WebRTCSessionDescription.new(kind, sdp)
        self.kept.append(remote)
        self.ask("set-remote-description", remote)

    def selected_pair(self):
        stats = self.ask("get-stats")
        for i in range(stats.n_fields()):
            name = stats.nth_field_name(i)
            if name.startswith("ice-candidate-pair"):
                pair = stats.get_value(name)
                ids = [pair.get_string(f"{side}-candidate-id") for side in ("local", "remote")]
                local, remote = (stats.get_value(candidate).get_string("candidate-type") for candidate in ids)
                return {"local": local, "remote": remote}
        return None

    def result(self, _):
        self.until(lambda: self.exact >= MESSAGES and (self.frames >= FRAMES or not self.media), "no end of messages or frames")
        return {"exact": self.exact, "frames": self.frames, "pair": self.selected_pair()}

    def close(self, _):
        self.pipeline.set_state(Gst.State.NULL)


Gst.init(None)
serve(Call)
