// libdatachannel with libjuice, by its native API. No TURN over TCP.
import nodeDataChannel from "node-datachannel";
import { serve } from "./stdio.mjs";

const MESSAGES = 50;
const message = (i) => `${i}:`.padEnd(1000, "x");

function startCall(config) {
  const iceServers = config.iceServers.map(({ urls, username, credential }) => {
    const [, hostname, port] = urls.match(/^turn:([\d.]+):(\d+)\?transport=udp$/);
    return { hostname, port: Number(port), username, password: credential, relayType: "TurnUdp" };
  });
  const pc = new nodeDataChannel.PeerConnection("peer", { iceServers, iceTransportPolicy: config.policy });
  let exact = 0;
  let finish, fail;
  const finished = new Promise((resolve, reject) => ([finish, fail] = [resolve, reject]));
  finished.catch(() => {});
  pc.onStateChange((state) => state === "failed" && fail(new Error("ICE failed")));

  const count = (data) => {
    if (data === message(exact)) exact += 1;
    else fail(new Error(`message ${exact} arrived damaged`));
    if (exact === MESSAGES) finish();
    return exact < MESSAGES;
  };

  const gathered = new Promise((resolve) => {
    pc.onGatheringStateChange((state) => state === "complete" && resolve());
    setTimeout(resolve, config.gatherMs);
  });
  const describe = async () => {
    await gathered;
    return { ...pc.localDescription(), errors: [] };
  };

  return {
    async offer() {
      const channel = pc.createDataChannel("echo");
      channel.onOpen(() => channel.sendMessage(message(0)));
      channel.onMessage((data) => {
        if (count(data)) channel.sendMessage(message(exact));
      });
      return describe();
    },
    async answer(offer) {
      pc.onDataChannel((channel) => {
        this.channel = channel; // else it is collected
        channel.onMessage((data) => {
          channel.sendMessage(data);
          count(data);
        });
      });
      pc.setRemoteDescription(offer.sdp, offer.type);
      return describe();
    },
    async accept(answer) {
      pc.setRemoteDescription(answer.sdp, answer.type);
    },
    async result() {
      await finished;
      const pair = pc.getSelectedCandidatePair();
      return { exact, frames: null, pair: pair && { local: pair.local.type, remote: pair.remote.type } };
    },
    async close() {
      pc.close();
      nodeDataChannel.cleanup();
    },
  };
}

await serve(startCall);
