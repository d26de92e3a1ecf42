// The dashboard: asks the admin API of the server that it came from, and shows the answers.

import { Chart } from "./chart.js";
import { parseUrl, testRelay } from "./relay_test.js";
import { bitRate, byId, bytes, clock, count, duration, element, meaning, plural, scaled, setText, svg } from "./text.js";

const POLL_MS = 2000;
const ANSWER_MS = 8000;
const PAGE = 25; // allocations
const RATE_WINDOW_MS = 10_000; // of the tiles: workers publish once a second only
const INFO_EVERY = 5; // polls
const TOLD_MS = 5000;
const TYPING_MS = 300;
const TOKEN = "turnstone-token"; // in sessionStorage

// ---- the API ----

class Refused extends Error {}

let tokenAsked = null;

// Has the operator type the token; everything that asks meanwhile waits.
function askToken(problem) {
  tokenAsked ??= new Promise((resolve) => {
    setProblem(byId("token-problem"), problem);
    byId("token").showModal();
    byId("token-form").onsubmit = (event) => {
      event.preventDefault();
      const token = byId("token-input").value.trim();
      byId("token-input").value = "";
      if (!/^[\x21-\x7e]+$/.test(token)) {
        setProblem(byId("token-problem"), "A token has visible ASCII characters only.");
        return;
      }
      sessionStorage.setItem(TOKEN, token);
      tokenAsked = null;
      byId("token").close();
      resolve();
    };
  });
  return tokenAsked;
}

// Without the token there is nothing to see. Browsers let a dialog be closed all the same.
byId("token").addEventListener("cancel", (event) => event.preventDefault());
byId("token").addEventListener("close", () => tokenAsked && byId("token").showModal());

async function ask(path, method = "GET") {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = {};
    if (token) headers.authorization = `Bearer ${token}`;
    const answer = await fetch(path, { method, headers, cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
    if (answer.status === 401) {
      await askToken(token && token === sessionStorage.getItem(TOKEN) ? "The server does not know this token." : null);
      continue;
    }
    const body = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Refused(body.error ?? `The server answers ${answer.status}.`);
    return body;
  }
}

// ---- small things of the page ----

function setProblem(node, text) {
  node.hidden = !text;
  setText(node, text ?? "");
}

let toldTimer;
function tell(text) {
  const told = byId("told");
  told.hidden = false;
  setText(told, text);
  clearTimeout(toldTimer);
  toldTimer = setTimeout(() => (told.hidden = true), TOLD_MS);
}

const facts = (pairs) => pairs.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);

// Replaces children only if they say something else.
function replace(node, children) {
  const text = children.map((child) => child.textContent).join("\n");
  if (node.dataset.text === text) return;
  node.dataset.text = text;
  node.replaceChildren(...children);
}

// ---- the server as a whole ----

let info = null;

function showInfo(answer) {
  const isFirst = info === null;
  if (info?.started_unix_s !== answer.started_unix_s) forget();
  info = answer;
  document.title = `${info.realm} – turnstone`;
  setText(byId("summary"), `${info.realm} · ${info.version} · up ${duration(info.uptime_s)}`);
  const listeners = info.listeners.map(({ transport, address }) => `${transport.toUpperCase()} ${address}`);
  const relays = info.relay.addresses.map(({ bound, advertised }) => (bound === advertised ? bound : `${bound}, told as ${advertised}`));
  const date = (unixS) => new Date(unixS * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short", hourCycle: "h23" });
  replace(byId("facts"), facts([
    ["Version", info.version],
    ["Realm", info.realm],
    ["Started", date(info.started_unix_s)],
    ["Workers", String(info.workers)],
    ["Listeners", listeners.join("\n")],
    ["Relay addresses", relays.join("\n")],
    ["Relay ports", info.relay.ports],
    ...(info.web === null ? [] : [["Passed on", passedOn(info.web)]]),
    ["Configuration", info.config.file ?? "no file"],
    ["Loaded", `${date(info.config.loaded_unix_s)}, generation ${info.config.generation}`],
  ]));
  replace(byId("limits"), Object.entries(info.limits).map(([key, number]) =>
    element("div", {}, element("dt", {}, element("code", {}, key)), element("dd", {}, limit(key, number)))));
  if (isFirst) fillTest();
}

function passedOn({ servers, failures }) {
  const lines = servers.map(({ kind, address, connections, passed_on }) =>
    `${kind} to ${address}: ${count(connections)} now, ${count(passed_on)} so far`);
  const closed = Object.values(failures).reduce((sum, number) => sum + number, 0);
  return [...lines, ...(closed > 0 ? [`${count(closed)} closed instead`] : [])].join("\n");
}

function limit(key, number) {
  if (number === 0 && /_kbit_per_s$|_per_s$|_per_minute$/.test(key)) return "no limit";
  if (key.endsWith("_kbit_per_s")) return bitRate(number * 1000);
  if (key.endsWith("_bytes")) return bytes(number);
  if (/_per_s$|_per_minute$/.test(key)) return count(number);
  return key.endsWith("_s") ? duration(number) : count(number);
}

// ---- the numbers ----

const charts = {
  traffic: new Chart(byId("chart-traffic"), {
    title: "Traffic",
    series: [
      { name: "bits_per_s_to_peers", label: "to peers", kind: "to-peers" },
      { name: "bits_per_s_to_client", label: "to clients", kind: "to-client" },
    ],
    format: bitRate,
    smallest: 1000,
  }),
  allocations: new Chart(byId("chart-allocations"), {
    title: "Allocations",
    series: [{ name: "allocations", label: "live", kind: "plain" }],
    format: (number) => (number % 1 ? "" : count(number)),
    smallest: 4,
  }),
  failures: new Chart(byId("chart-failures"), {
    title: "Failures and drops",
    note: "in 10 s",
    series: [
      { name: "failures", label: "failures", kind: "failing" },
      { name: "drops", label: "drops", kind: "dropping" },
    ],
    format: (number) => (number % 1 ? "" : count(number)),
    smallest: 4,
  }),
};

let polls = []; // of the last seconds: when, and what it said

// Another server, whose numbers begin at 0.
function forget() {
  polls = [];
  list.seen.clear();
}

function rates(now) {
  const at = performance.now();
  polls = polls.filter((poll) => at - poll.at <= RATE_WINDOW_MS);
  polls.push({ at, now });
  const [{ at: then, now: before }] = polls;
  const per = (name) => (at === then ? null : Math.max(((now[name] - before[name]) * 1000) / (at - then), 0));
  return { per };
}

function showStatistics(statistics) {
  const { now, series } = statistics;
  const { per } = rates(now);
  const limits = info?.limits;
  setText(byId("tile-allocations"), count(now.allocations));
  setText(byId("tile-allocations-more"), limits ? `of ${count(limits.allocations_total)}` : "");
  for (const way of ["to_peers", "to_client"]) {
    const id = `tile-${way.replace("_", "-")}`;
    const [bytesPerS, packetsPerS] = [per(`bytes_${way}`), per(`packets_${way}`)];
    setText(byId(id), bytesPerS === null ? "–" : bitRate(bytesPerS * 8));
    setText(byId(`${id}-more`), packetsPerS === null ? "" : `${scaled(packetsPerS, "")} packets/s`.replace("  ", " "));
  }
  showPorts(now.relay_ports);
  setText(byId("tile-tcp"), count(now.tcp_connections));
  setText(byId("tile-tcp-more"), limits ? `of ${count(limits.tcp_connections)}` : "");
  const sum = (numbers) => numbers.reduce((sum, number) => sum + number, 0);
  setText(byId("tile-failures"), count(sum(series.failures)));
  setText(byId("tile-failures-more"), `${plural(sum(series.drops), "dropped packet")}`);
  for (const chart of Object.values(charts)) chart.update(series, statistics.interval_s);
  showCauses(statistics);
  showState(now);
}

function showPorts({ live, held, resting, free }) {
  const all = Math.max(live + held + resting + free, 1);
  setText(byId("tile-ports"), count(live + held));
  setText(byId("tile-ports-more"), `${count(resting)} resting, ${count(free)} free`);
  let x = 0;
  const parts = [["live", live + held], ["resting", resting]].map(([kind, number]) => {
    // Few of many are seen too.
    const width = number === 0 ? 0 : Math.max((number / all) * 1000, 8);
    x += width;
    return svg("rect", { class: kind, x: x - width, width, height: 6 });
  });
  byId("tile-ports-bar").replaceChildren(...parts);
}

function showState({ draining, workers_respond, allocations }) {
  const state = byId("state");
  if (!workers_respond) {
    state.className = "pill bad";
    setText(state, "A worker does not respond");
  } else if (draining) {
    state.className = "pill poor";
    const left = draining.deadline_s === null ? "" : `, ${duration(draining.deadline_s)} at most`;
    setText(state, `Draining: ${count(allocations)} left${left}`);
  } else {
    state.className = "pill good";
    setText(state, "Serving");
  }
}

function showCauses(statistics) {
  const groups = [
    ["Authentication failures", statistics.authentication_failures],
    ["Limits reached", statistics.limits_reached],
    ["Peers refused", statistics.refused_peers],
    ["Packets dropped", statistics.drops],
    ["Allocations ended", statistics.ended],
  ];
  replace(byId("causes"), groups.map(([title, numbers]) => {
    const some = Object.entries(numbers).filter(([, number]) => number > 0).sort(([, a], [, b]) => b - a);
    const most = some[0]?.[1];
    const rows = some.map(([name, number]) => {
      const bar = svg("svg", { class: "bar", "aria-hidden": "true", preserveAspectRatio: "none", viewBox: "0 0 100 4" },
        svg("rect", { width: Math.max((number / most) * 100, 1), height: 4 }));
      return element("li", {}, element("span", { title: name }, meaning(name)), element("b", {}, count(number)), bar);
    });
    const list = rows.length ? element("ul", {}, ...rows) : element("p", { className: "muted" }, "None.");
    return element("div", {}, element("h3", {}, title), list);
  }));
}

// ---- allocations ----

const list = { filter: "", cursor: null, before: [], next: null, isTurning: false, seen: new Map(), rows: new Map() };

async function loadAllocations() {
  const asked = new URLSearchParams({ limit: PAGE });
  if (list.filter) asked.set("user", list.filter);
  if (list.cursor) asked.set("cursor", list.cursor);
  const { allocations, next } = await ask(`v1/allocations?${asked}`);
  if (asked.get("cursor") !== list.cursor || (asked.get("user") ?? "") !== list.filter) return; // another page by now
  list.next = next;
  showAllocations(allocations);
}

// Bits per second each way since the last poll that had this allocation.
function rateOf(allocation, at) {
  const before = list.seen.get(allocation.id);
  if (!before || at - before.at < POLL_MS / 4) return before?.rate ?? null;
  const per = (name) => Math.max(((allocation[name] - before[name]) * 8000) / (at - before.at), 0);
  return { toPeers: per("bytes_to_peers"), toClient: per("bytes_to_client") };
}

function showAllocations(allocations) {
  const at = performance.now();
  const [seen, rows] = [new Map(), new Map()];
  for (const allocation of allocations) {
    const rate = rateOf(allocation, at);
    const { bytes_to_peers, bytes_to_client } = allocation;
    seen.set(allocation.id, { at, rate, bytes_to_peers, bytes_to_client });
    const row = list.rows.get(allocation.id) ?? new Row(allocation);
    row.show(allocation, rate);
    rows.set(allocation.id, row);
  }
  const body = byId("rows");
  for (const [id, row] of list.rows) if (!rows.has(id)) row.node.remove();
  let place = body.firstElementChild;
  for (const { node } of rows.values()) {
    if (node === place) place = place.nextElementSibling;
    else body.insertBefore(node, place);
  }
  Object.assign(list, { seen, rows });

  const isEmpty = allocations.length === 0;
  byId("no-rows").hidden = !isEmpty;
  const isPart = list.before.length > 0 || list.next !== null;
  const nobody = list.filter ? `${list.filter} has no allocation.` : "No client has an allocation.";
  setText(byId("no-rows"), isPart ? "No allocation on this page." : nobody);
  byId("pages").hidden = !isPart;
  byId("previous").disabled = list.before.length === 0;
  byId("next").disabled = list.next === null;
  setText(byId("page-number"), `Page ${list.before.length + 1}`);
}

class Row {
  constructor({ id, user, username, client, transport, relayed }) {
    const two = () => [element("b"), element("small")];
    this.peers = two();
    this.client = two();
    this.age = two();
    const name = element("button", { type: "button", className: "link", onclick: () => showDetail(id) }, user);
    const end = element("button", { type: "button", className: "small", onclick: () => confirmEnd(id, user, client) }, "End");
    end.setAttribute("aria-label", `End the allocation of ${user}, ${client}`);
    const cell = (label, kind, ...children) => element("td", { className: kind, attributes: { "data-label": label } }, ...children);
    this.node = element("tr", {},
      element("th", { scope: "row" }, name, username === user ? null : element("small", {}, username)),
      cell("Client", "address", element("span", { className: "badge" }, transport.toUpperCase()), " ", client),
      cell("Relayed", "address", relayed.join("\n")),
      cell("Age", "number", ...this.age),
      cell("To peers", "number to-peers", ...this.peers),
      cell("To client", "number to-client", ...this.client),
      cell("", "actions", end));
  }

  show(allocation, rate) {
    setText(this.age[0], duration(allocation.age_s));
    setText(this.age[1], allocation.idle_s > 9 ? `idle ${duration(allocation.idle_s)}` : "");
    setText(this.peers[0], rate ? bitRate(rate.toPeers) : "–");
    setText(this.peers[1], bytes(allocation.bytes_to_peers));
    setText(this.client[0], rate ? bitRate(rate.toClient) : "–");
    setText(this.client[1], bytes(allocation.bytes_to_client));
  }
}

async function showDetail(id) {
  const dialog = byId("detail");
  const title = `Allocation ${id}`;
  const show = (...children) => {
    // Another may have been opened meanwhile.
    if (byId("detail-title").textContent === title) byId("detail-body").replaceChildren(...children);
  };
  setText(byId("detail-title"), title);
  show(element("p", { className: "muted", role: "status" }, "Measuring for a second…"));
  dialog.showModal();
  try {
    show(...detail(await ask(`v1/allocations/${encodeURIComponent(id)}`)));
  } catch (error) {
    show(element("p", { className: "problem" }, error.message));
  }
}

function detail(it) {
  const { rates } = it;
  const way = (bitsPerS, packetsPerS, allBytes, packets) =>
    `${bitRate(bitsPerS)}, ${count(packetsPerS)} packets/s\n${bytes(allBytes)} in ${plural(packets, "packet")}`;
  const lost = [
    ["dropped on the way to the client", it.dropped_to_client],
    ["beyond the bandwidth to peers", it.limited_to_peers],
    ["beyond the bandwidth to the client", it.limited_to_client],
  ].filter(([, number]) => number > 0);
  const table = (title, names, rows) => [
    element("h3", {}, `${title} (${rows.length})`),
    rows.length === 0 ? element("p", { className: "muted" }, "None.") : element("table", {},
      element("thead", {}, element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, name)))),
      element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((text) => element("td", {}, text)))))),
  ];
  return [
    element("dl", { className: "facts" }, ...facts([
      ["User", it.user],
      ["Username", it.username],
      ["Client", `${it.client} over ${it.transport.toUpperCase()}`],
      ["Server", it.server],
      ["Relayed", it.relayed.join("\n")],
      ["Age", `${duration(it.age_s)}, idle for ${duration(it.idle_s)}`],
      ["Ends", `in ${duration(it.expires_s)}, unless it is refreshed`],
      ["To peers", way(rates.bits_per_s_to_peers, rates.packets_per_s_to_peers, it.bytes_to_peers, it.packets_to_peers)],
      ["To client", way(rates.bits_per_s_to_client, rates.packets_per_s_to_client, it.bytes_to_client, it.packets_to_client)],
      ["Lost", lost.map(([name, number]) => `${count(number)} ${name}`).join("\n") || "nothing"],
    ])),
    ...table("Permissions", ["Peer address", "Ends in"], it.permissions.map(({ address, expires_s }) => [address, duration(expires_s)])),
    ...table("Channels", ["Number", "Peer", "Ends in"], it.channels.map(({ number, peer, expires_s }) => [`0x${number.toString(16)}`, peer, duration(expires_s)])),
  ];
}

function confirmEnd(id, user, client) {
  const dialog = byId("confirm");
  setText(byId("confirm-text"), `${user} from ${client}`);
  dialog.returnValue = "cancel";
  dialog.onclose = async () => {
    if (dialog.returnValue !== "end") return;
    try {
      await ask(`v1/allocations/${encodeURIComponent(id)}`, "DELETE");
      tell(`The allocation of ${user} has ended.`);
    } catch (error) {
      tell(error.message);
    }
    await loadAllocations().catch(() => {}); // the next poll says why
  };
  dialog.showModal();
}

async function turnPage(cursor) {
  list.cursor = cursor;
  list.isTurning = true;
  await loadAllocations().catch((error) => tell(error.message));
  list.isTurning = false;
}

// A second click before the page is there would be about the page before.
byId("next").onclick = () => {
  if (list.isTurning) return;
  list.before.push(list.cursor);
  turnPage(list.next);
};
byId("previous").onclick = () => {
  if (!list.isTurning) turnPage(list.before.pop());
};

let typing;
function filter() {
  clearTimeout(typing);
  list.filter = byId("filter-user").value.trim();
  list.before = [];
  turnPage(null);
}
byId("filter").onsubmit = (event) => {
  event.preventDefault();
  filter();
};
byId("filter-user").oninput = () => {
  clearTimeout(typing);
  typing = setTimeout(filter, TYPING_MS);
};

// ---- the test from this browser ----

// Where this browser probably reaches a listener. Of a listener on all addresses it is what clients
// are told of the relay; null if they are told nothing of its family.
function reachable(address) {
  const [, host, port] = /^(.*):(\d+)$/.exec(address);
  const isV6 = host.startsWith("[");
  const known = info.relay.addresses.find(({ bound }) => `[${bound}]` === host || bound === host);
  const any = info.relay.addresses.find(({ bound }) => bound.includes(":") === isV6);
  const isAny = host === "0.0.0.0" || host === "[::]";
  const told = isAny ? any?.advertised : known?.advertised;
  if (isAny && !told) return null;
  return `${told ? (isV6 ? `[${told}]` : told) : host}:${port}`;
}

// The URL of a listener. Over TLS browsers compare the host with the certificate, so it is a name of the
// first one, if it has any but wildcards.
function turnUrl({ transport, address }) {
  const at = reachable(address);
  if (transport !== "tls") return `turn:${at}?transport=${transport}`;
  const name = info.certificates[0]?.names.find((name) => !name.startsWith("*.") && !name.includes(":"));
  return `turns:${name ? at.replace(/^.*(?=:\d+$)/, name) : at}?transport=tcp`;
}

function fillTest() {
  const open = info.listeners.filter(({ address, leaving }) => !leaving && reachable(address));
  const urls = open.map(turnUrl);
  byId("test-urls").value = [...new Set(urls)].join("\n");
  const service = info.credentials && reachable(info.credentials.listen);
  if (service) byId("test-service").value = `http://${service}/ice-servers`;
  byId("test-urls").rows = Math.max(2, urls.length);
}

const source = () => byId("test").elements.source.value;

byId("test").onchange = () => {
  byId("by-hand").hidden = source() !== "hand";
  byId("by-service").hidden = source() !== "service";
};

// What the operator gives, as iceServers with one URL each.
async function testedServers() {
  let servers;
  if (source() === "hand") {
    const urls = byId("test-urls").value.split(/\s+/).filter(Boolean);
    servers = [{ urls, username: byId("test-username").value, credential: byId("test-credential").value }];
    if (!servers[0].username || !servers[0].credential) throw new Error("Username and credential are missing.");
  } else {
    servers = await fromService(byId("test-service").value.trim(), byId("test-key").value);
  }
  const single = servers.flatMap(({ urls, username, credential }) => [urls].flat().map((urls) => ({ urls, username, credential })));
  const relaying = single.filter(({ urls }) => !/^stuns?:/i.test(urls));
  if (relaying.length === 0) throw new Error("There is no URL of a TURN server.");
  return relaying;
}

async function fromService(url, key) {
  if (!url || !key) throw new Error("The address of the service and its key are missing.");
  let answer;
  try {
    const headers = { authorization: `Bearer ${key}` };
    answer = await fetch(url, { headers, cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(ANSWER_MS) });
  } catch {
    throw new Error(`The credential service does not answer this page. Either its address is wrong, or the key's origins lack ${location.origin}. It must be HTTPS unless it is on this machine.`);
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(`The credential service answers ${answer.status}${body.error ? `: ${body.error}` : "."}`);
  const servers = body.iceServers ?? body; // services answer either way
  if (!Array.isArray(servers)) throw new Error("The credential service answers without iceServers.");
  return servers;
}

async function test() {
  const [verdict, results] = [byId("test-verdict"), byId("test-results")];
  results.replaceChildren();
  verdict.className = "verdict";
  setText(verdict, "Testing…");
  const grades = [];
  for (const server of await testedServers()) {
    const target = parseUrl(server.urls);
    const name = target ? `${target.label} ${target.address}` : server.urls;
    const result = await testRelay(server, (doing) => setText(byId("test-progress"), `${name}: ${doing}`));
    grades.push(result.grade);
    const said = element("p", {}, result.verdict);
    const more = element("p", { className: "muted" }, result.facts.join(" · "));
    results.append(element("li", { className: result.grade }, element("h3", {}, name), said, more));
  }
  const working = grades.filter((grade) => grade !== "bad").length;
  const worst = ["bad", "poor", "good"].find((grade) => grades.includes(grade));
  verdict.className = `verdict ${working ? (worst === "bad" ? "poor" : worst) : "bad"}`;
  setText(verdict, summary(working, grades.length, worst === "poor"));
}

function summary(working, all, isPoor) {
  if (working === 0) return "No transport works from this browser.";
  if (working < all) return `${working} of ${all} transports work from this browser.`;
  const subject = ["The transport works", "Both transports work"][all - 1] ?? `All ${all} transports work`;
  return `${subject} from this browser${isPoor ? ", but not well" : ""}.`;
}

byId("test").onsubmit = async (event) => {
  event.preventDefault();
  const start = byId("test-start");
  start.disabled = true;
  try {
    await test();
  } catch (error) {
    byId("test-verdict").className = "verdict bad";
    setText(byId("test-verdict"), error.message);
  }
  setText(byId("test-progress"), "");
  start.disabled = false;
};

// ---- again and again ----

let isPaused = false;
let lastAnswer = 0;

byId("pause").onclick = ({ currentTarget }) => {
  isPaused = !isPaused;
  currentTarget.setAttribute("aria-pressed", isPaused);
  setText(currentTarget, isPaused ? "Go on" : "Pause");
};

async function poll(number) {
  if (!isPaused && !document.hidden) {
    try {
      if (info === null || number % INFO_EVERY === 0) showInfo(await ask("v1/info"));
      const [statistics] = await Promise.all([ask("v1/statistics"), loadAllocations()]);
      showStatistics(statistics);
      lastAnswer = Date.now() / 1000;
      setProblem(byId("problem"), null);
      document.body.classList.remove("stale");
    } catch (error) {
      const isRefused = error instanceof Refused;
      if (!isRefused) {
        byId("state").className = "pill bad";
        setText(byId("state"), "No answer");
        document.body.classList.add("stale");
      }
      setProblem(byId("problem"), isRefused ? error.message : `The server does not answer.${lastAnswer ? ` What is shown is of ${clock(lastAnswer, true)}.` : ""} Asking again.`);
    }
  }
  setTimeout(poll, POLL_MS, number + 1);
}

poll(0);
