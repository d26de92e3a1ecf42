// One side of a call, written against the W3C API. Runs in a browser page and, with its own
// RTCPeerConnection handed in, under werift. Offers and answers carry all their candidates.
// The offerer sends config.messages messages, one when the one before is back or one every config.paceMs
// milliseconds; the answerer sends each back.

const message = (i) => `${i}:`.padEnd(1000, "x");
const text = (data) => (typeof data === "string" ? data : new TextDecoder().decode(data));

globalThis.startCall = async (config, PeerConnection = globalThis.RTCPeerConnection) => {
  const pc = new PeerConnection({ iceServers: config.iceServers, iceTransportPolicy: config.policy });
  const encoded = config.binary ? (text) => new TextEncoder().encode(text) : (text) => text;
  const errors = []; // what icecandidateerror said
  let channel;
  let exact = 0; // messages that arrived exactly as they should
  let fail;
  const failed = new Promise((_, reject) => (fail = reject));
  failed.catch(() => {});
  let finish;
  const finished = new Promise((resolve) => (finish = resolve));

  pc.onicecandidateerror = (e) => errors.push({ url: e.url, code: e.errorCode, text: e.errorText });
  pc.onconnectionstatechange = () => {
    if (pc.connectionState === "failed") fail(new Error("ICE failed"));
  };

  if (config.media) {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 320, height: 240 } });
    for (const track of stream.getTracks()) pc.addTrack(track, stream);
    pc.ontrack = (e) => {
      const video = document.createElement("video"); // without a sink nothing need be decoded
      Object.assign(video, { srcObject: e.streams[0], muted: true });
      document.body.append(video);
      video.play();
    };
  }

  // Counts a message; true while there are more to come.
  const count = (data) => {
    if (data === message(exact)) exact += 1;
    else fail(new Error(`message ${exact} arrived damaged`));
    if (exact === config.messages) finish();
    return exact < config.messages;
  };

  const use = (dc, onMessage) => {
    channel = dc;
    channel.binaryType = "arraybuffer";
    channel.onmessage = (e) => onMessage(text(e.data));
  };

  const describe = async (description) => {
    const gathered = new Promise((resolve) => {
      const check = () => pc.iceGatheringState === "complete" && resolve();
      pc.onicegatheringstatechange = check;
      // The null candidate ends gathering; an empty one only ends one generation of it.
      pc.onicecandidate = (e) => (e.candidate == null ? resolve() : check());
      setTimeout(resolve, config.gatherMs);
    });
    await pc.setLocalDescription(description);
    await gathered;
    return { type: pc.localDescription.type, sdp: pc.localDescription.sdp, errors };
  };

  const selectedPair = async () => {
    const stats = [...(await pc.getStats()).values()];
    const byId = (id) => stats.find((s) => s.id === id);
    const transport = stats.find((s) => s.type === "transport" && s.selectedCandidatePairId);
    const pair =
      byId(transport?.selectedCandidatePairId) ??
      stats.find((s) => s.type === "candidate-pair" && s.nominated && s.state === "succeeded");
    const [local, remote] = [byId(pair?.localCandidateId), byId(pair?.remoteCandidateId)];
    return local && { local: local.candidateType, remote: remote?.candidateType, protocol: local.relayProtocol };
  };

  const framesDecoded = async () => {
    const videos = [...(await pc.getStats()).values()].filter((s) => s.type === "inbound-rtp" && s.kind === "video");
    return videos.reduce((sum, s) => sum + (s.framesDecoded ?? 0), 0);
  };

  return {
    async offer() {
      let sent = 0;
      const send = () => channel.send(encoded(message(sent++)));
      use(pc.createDataChannel("echo"), (data) => {
        if (count(data) && !config.paceMs) send();
      });
      channel.onopen = () => {
        send();
        if (!config.paceMs) return;
        const pace = setInterval(() => (sent < config.messages ? send() : clearInterval(pace)), config.paceMs);
      };
      return describe(await pc.createOffer());
    },
    async answer(offer) {
      pc.ondatachannel = (e) =>
        use(e.channel, (data) => {
          channel.send(encoded(data));
          count(data);
        });
      await pc.setRemoteDescription({ type: offer.type, sdp: offer.sdp });
      return describe(await pc.createAnswer());
    },
    async accept(answer) {
      await pc.setRemoteDescription({ type: answer.type, sdp: answer.sdp });
    },
    // Waits for the last message (and for a decoded frame), then says how the call went.
    async result() {
      await Promise.race([finished, failed]);
      let frames = null;
      for (let i = 0; config.media && !frames && i < 100; i++) {
        await new Promise((resolve) => setTimeout(resolve, 100));
        frames = await framesDecoded();
      }
      return { exact, frames, pair: await selectedPair() };
    },
    async close() {
      await pc.close();
    },
  };
};
