// Two connections of this browser that reach each other by relay only: what a call would find.

const MESSAGES = 200;
const MESSAGE_LENGTH = 200;
const PAUSE_MS = 10;
const GATHER_MS = 15_000; // browsers give up on a silent server after about ten seconds
const CONNECT_MS = 10_000;
const LAST_ANSWERS_MS = 2_000;
const LOSS_GOOD = 0.02;

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// What a TURN URL says: turn:host:port?transport=tcp.
export function parseUrl(url) {
  const found = /^(turns?):(\[[0-9a-f:.]+\]|[^:?[\]\s]+)(?::(\d+))?(?:\?transport=(udp|tcp))?$/i.exec(url);
  if (!found) return null;
  const [, scheme, host, port, transport] = found;
  const isSecure = scheme.toLowerCase() === "turns";
  const via = (transport ?? (isSecure ? "tcp" : "udp")).toLowerCase();
  const label = isSecure ? { tcp: "TLS", udp: "DTLS" }[via] : via.toUpperCase();
  return { label, isStream: via === "tcp", address: `${host}:${port ?? (isSecure ? 5349 : 3478)}` };
}

// Why a browser got no relayed address, by the code of its icecandidateerror (RFC 8656 §19; 701 is
// W3C's for a server that cannot be reached).
export function cause({ errorCode, errorText }, target) {
  switch (errorCode) {
    case 401:
      return "The server refuses the username or the credential (401). A time-limited credential may be over, or was made with another secret.";
    case 403:
      return "The server refuses this client (403). It is draining, or clients.allow or clients.deny closes its address.";
    case 441:
      return "Another credential than the one that the allocation was made with (441).";
    case 486:
      return "A quota is used up (486): limits.allocations_per_user or limits.allocations_per_address.";
    case 508:
      return "The server has no relay port left, or limits.allocations_total is reached (508).";
    case 701:
      return `${unreachable(target)} (701)`;
    default:
      return `The server answers with error ${errorCode}${errorText ? ` (${errorText})` : ""}.`;
  }
}

const unreachable = ({ label, isStream, address }) =>
  isStream
    ? `No ${label} connection to ${address}: nothing listens there, or a firewall is in between.`
    : `No answer from ${address} over ${label}: the address is wrong, or a firewall drops UDP on the way there or back.`;

// A server that answers says more than an interface that cannot reach it.
const worst = (errors) => errors.find((error) => error.errorCode !== 701) ?? errors[0];

const quantile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];

// The result of one URL: { grade: "good" | "poor" | "bad", verdict, facts }.
export async function testRelay(server, onProgress) {
  const target = parseUrl(server.urls);
  if (!target) return { grade: "bad", verdict: "This is no TURN URL. Write turn:host:port?transport=udp.", facts: [] };
  const settings = { iceServers: [server], iceTransportPolicy: "relay" };
  let pair = [];
  try {
    pair = [new RTCPeerConnection(settings), new RTCPeerConnection(settings)];
    return await run(pair, target, onProgress);
  } catch (error) {
    return { grade: "bad", verdict: `This browser refuses: ${error.message}`, facts: [] };
  } finally {
    for (const connection of pair) connection.close();
  }
}

async function run([caller, callee], target, onProgress) {
  const began = performance.now();
  const errors = [];
  let relayedAfter = null;
  for (const [from, to] of [[caller, callee], [callee, caller]]) {
    from.onicecandidate = ({ candidate }) => {
      if (!candidate?.candidate) return;
      relayedAfter ??= performance.now() - began;
      to.addIceCandidate(candidate).catch(() => {}); // of a test that is over
    };
    from.onicecandidateerror = (event) => errors.push(event);
  }
  // A lost message stays lost, so that loss shows.
  const channel = caller.createDataChannel("test", { ordered: false, maxRetransmits: 0 });
  callee.ondatachannel = ({ channel }) => (channel.onmessage = ({ data }) => channel.send(data));
  const opened = new Promise((resolve) => (channel.onopen = () => resolve(true)));

  onProgress("asking for relayed addresses");
  await caller.setLocalDescription(await caller.createOffer());
  await callee.setRemoteDescription(caller.localDescription);
  await callee.setLocalDescription(await callee.createAnswer());
  await caller.setRemoteDescription(callee.localDescription);
  await Promise.race([opened, gathered([caller, callee]), wait(GATHER_MS)]);
  if (relayedAfter === null) {
    const verdict = errors.length ? cause(worst(errors), target) : unreachable(target);
    return { grade: "bad", verdict, facts: [] };
  }
  const facts = [`relayed address after ${Math.round(relayedAfter)} ms`];

  onProgress("connecting");
  if (!(await Promise.race([opened, wait(CONNECT_MS)]))) {
    const verdict = "Relayed addresses were given, but nothing came from one to the other. Peers that the policy refuses, or a firewall before the relay ports, do that.";
    return { grade: "bad", verdict, facts };
  }
  facts.push(`connected after ${Math.round(performance.now() - began)} ms`);
  const times = await exchange(channel, onProgress);
  return judge(times, facts);
}

// Waits until both sides have no more candidates to come.
function gathered(connections) {
  return Promise.all(connections.map((connection) => new Promise((resolve) => {
    const look = () => connection.iceGatheringState === "complete" && resolve();
    connection.addEventListener("icegatheringstatechange", look);
    look();
  })));
}

// Sends messages that come back; their round trips in milliseconds.
async function exchange(channel, onProgress) {
  const sent = new Map();
  const times = [];
  const answered = new Promise((resolve) => {
    channel.onmessage = ({ data }) => {
      const number = parseInt(data, 10);
      if (sent.has(number)) times.push(performance.now() - sent.get(number));
      sent.delete(number);
      if (times.length === MESSAGES) resolve();
    };
  });
  for (let number = 0; number < MESSAGES && channel.readyState === "open"; number += 1) {
    sent.set(number, performance.now());
    channel.send(`${number}:`.padEnd(MESSAGE_LENGTH, "."));
    if (number % 20 === 0) onProgress(`sending, ${number} of ${MESSAGES}`);
    await wait(PAUSE_MS);
  }
  await Promise.race([answered, wait(LAST_ANSWERS_MS)]);
  return times.sort((a, b) => a - b);
}

function judge(times, facts) {
  const loss = 1 - times.length / MESSAGES;
  facts.push(`${times.length} of ${MESSAGES} messages came back`);
  if (times.length === 0) return { grade: "bad", verdict: "Connected, but no message came back.", facts };
  const ms = (time) => `${time < 10 ? time.toFixed(1) : Math.round(time)} ms`;
  facts.push(`round trip ${ms(quantile(times, 0.5))}, at worst ${ms(times.at(-1))}`);
  if (loss === 0) return { grade: "good", verdict: "Works: nothing was lost.", facts };
  const share = `${(loss * 100).toFixed(1)} % was lost`;
  return loss <= LOSS_GOOD ? { grade: "good", verdict: `Works: ${share}.`, facts } : { grade: "poor", verdict: `Works badly: ${share}.`, facts };
}
