// Elements and numbers as text. Whatever a client may choose becomes a text node, never markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

// An element. Properties are set as properties, those of `attributes` as attributes.
export function element(tag, { attributes = {}, ...properties } = {}, ...children) {
  const made = document.createElement(tag);
  Object.assign(made, properties);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child != null));
  return made;
}

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Text that is not touched while it is the same: readers of the screen and selections stay.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
export const count = (number) => whole.format(number);
export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

// Three digits and a unit: 604 kB, 1.23 Mbit/s.
export function scaled(number, unit) {
  const prefixes = ["", "k", "M", "G", "T", "P"];
  let step = 0;
  while (number >= 999.5 && step < prefixes.length - 1) {
    number /= 1000;
    step += 1;
  }
  const digits = step === 0 || number >= 99.95 ? 0 : number >= 9.995 ? 1 : 2;
  return `${number.toFixed(digits)} ${prefixes[step]}${unit}`;
}

export const bytes = (number) => scaled(number, "B");
export const bitRate = (number) => scaled(number, "bit/s");

// The two largest units: 3d 4h, 12m 40s.
export function duration(seconds) {
  const units = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  let first = units.findIndex(([, size]) => seconds >= size);
  if (first < 0) first = units.length - 1;
  let left = Math.floor(seconds);
  return units
    .slice(first, first + 2)
    .map(([name, size]) => {
      const text = `${Math.floor(left / size)}${name}`;
      left %= size;
      return text;
    })
    .join(" ");
}

export const clock = (unixSeconds, seconds = false) =>
  new Date(unixSeconds * 1000).toLocaleTimeString([], {
    hour: "2-digit",
    minute: "2-digit",
    second: seconds ? "2-digit" : undefined,
    hourCycle: "h23",
  });

// What the names of the server's counters mean.
const MEANINGS = {
  incomplete: "Username, realm or nonce missing",
  password_algorithms: "Not the password algorithms that were offered",
  wrong_realm: "Another realm",
  unknown_user: "Unknown user",
  wrong_password: "Wrong password",
  expired: "Time-limited credential is over",
  revoked: "Revoked by an operator",
  foreign_nonce: "Nonce of another client or server",
  stale_nonce: "Nonce too old: usual, the client asks again",
  too_many_failures: "Failed too often: refused, whatever the password",
  allocations_per_user: "Allocations of one user",
  allocations_per_address: "Allocations of one client address",
  allocations_total: "Allocations of the server",
  permissions_or_channels: "Permissions or channels of one allocation",
  relay_ports: "No free relay port",
  malformed: "Neither STUN nor ChannelData",
  unexpected: "A message that no server expects",
  unknown_attribute: "Unknown attribute that must be understood",
  no_allocation: "From a client without an allocation",
  no_channel: "On a channel that is not bound",
  no_permission: "To or from a peer without permission",
  peer_refused: "To or from a peer that the policy closes",
  client_refused: "From a client that the policy closes",
  bad_indication: "Send indication without peer or data",
  hop_limit: "Hop limit used up",
  too_large: "Too large for the other side",
  allocation_bandwidth: "Beyond the bandwidth of an allocation",
  user_bandwidth: "Beyond the bandwidth of a user",
  icmp_limit: "ICMP errors beyond their limit",
  reply_limit: "Requests of strangers beyond their limit",
  failure_limit: "Failed authentications beyond their limit",
  listener_overflow: "Receive buffer of a listener was full",
  relay_overflow: "Receive buffer of a relay port was full",
  not_sent: "Not sent by the kernel",
  tcp_queue_full: "TCP client too slow",
  tcp_memory: "TCP clients too slow, all together",
};

export const meaning = (name) => {
  const words = name.replaceAll("_", " ");
  return MEANINGS[name] ?? words[0].toUpperCase() + words.slice(1);
};
