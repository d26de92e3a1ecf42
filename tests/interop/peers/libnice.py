"""Two agents of libnice that may use nothing but a relay "over TLS", which they speak bare STUN to.

Arguments: address, port, user and password. The last line of the output is a note.
"""

import ctypes
import sys

import gi

gi.require_version("Nice", "0.1")
from gi.repository import GLib, Nice  # noqa: E402

address, port, user, password = sys.argv[1:]
loop = GLib.MainLoop()
ready = set()

# Without it nothing is read, and Python's binding leaves it out. What arrives is of no interest.
Received = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 6)
ignore = Received(lambda *_: None)
attach_recv = ctypes.CDLL("libnice.so.10").nice_agent_attach_recv
attach_recv.argtypes = [ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, Received, ctypes.c_void_p]


class Agent:
    def __init__(self, controlling):
        self.agent = agent = Nice.Agent.new(loop.get_context(), Nice.Compatibility.RFC5245)
        agent.set_property("controlling-mode", controlling)
        agent.set_property("force-relay", True)
        agent.set_property("ice-tcp", False)
        self.stream = agent.add_stream(1)
        agent.set_relay_info(self.stream, 1, address, int(port), user, password, Nice.RelayType.TLS)
        attach_recv(hash(agent), self.stream, 1, None, ignore, None)
        self.gathered, self.pair = False, None
        agent.connect("candidate-gathering-done", self.on_gathered)
        agent.connect("new-selected-pair-full", self.on_pair)
        agent.connect("component-state-changed", self.on_state)

    def on_gathered(self, *_):
        self.gathered = True
        if all(agent.gathered for agent in agents):
            first, second = (agent.agent.generate_local_sdp() for agent in agents)
            if "typ relay" not in first or "typ relay" not in second:
                sys.exit(f"no relay candidate: {first}{second}")
            agents[0].agent.parse_remote_sdp(second)
            agents[1].agent.parse_remote_sdp(first)

    def on_pair(self, agent, stream, component, local, remote):
        self.pair = f"{local.type.value_nick}/{remote.type.value_nick}"

    def on_state(self, agent, stream, component, state):
        if state == Nice.ComponentState.FAILED:
            sys.exit("ICE failed")
        if state == Nice.ComponentState.READY:
            ready.add(self)
            if len(ready) == 2:
                loop.quit()


agents = [Agent(True), Agent(False)]
for each in agents:
    each.agent.set_stream_name(each.stream, "application")
    if not each.agent.gather_candidates(each.stream):
        sys.exit("gathering does not begin")
GLib.timeout_add_seconds(20, lambda: sys.exit("not connected after 20 s"))
loop.run()
pairs = [each.pair for each in agents]
if not all(pair.startswith("relayed/") for pair in pairs):
    sys.exit(f"not relayed: {pairs}")
print("; ".join(pairs))
