// Drives the dashboard as an operator does. Its argument is what dashboard.py has made; the last line
// of the output is a note.
import { strict as assert } from "node:assert";
import { chromium } from "playwright-core";
import { trust } from "./peers/trust.mjs";

const asked = JSON.parse(process.argv[2]);
const complaints = []; // what a browser says that should say nothing

trust(`${process.env.HOME}/.pki/nssdb`);
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // Browsers otherwise look for no relay by way of loopback.
    "--allow-loopback-in-peer-connection",
  ],
});

async function blank(options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on("console", (message) => {
    // The one answer that asks for the token.
    if (["error", "warning"].includes(message.type()) && !/401/.test(message.text())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.setDefaultTimeout(20_000);
  if (process.env.DASHBOARD_FILES) await serveFrom(page, process.env.DASHBOARD_FILES);
  return page;
}

async function open(options) {
  const page = await blank(options);
  await page.goto(asked.url);
  await page.locator("#token[open]").waitFor();
  await page.fill("#token-input", "wrong-wrong-wrong-wrong");
  await page.keyboard.press("Enter");
  await page.locator("#token-problem:not([hidden])").waitFor();
  await page.fill("#token-input", asked.token);
  await page.keyboard.press("Enter");
  await page.locator("#rows tr").first().waitFor();
  return page;
}

// Files as they are edited, under the headers that the server sends.
async function serveFrom(page, directory) {
  await page.route(/\.(css|js|svg)$|\/$/, async (route) => {
    const name = new URL(route.request().url()).pathname.slice(1) || "page.html";
    await route.fulfill({ response: await route.fetch(), path: `${directory}/${name}` });
  });
}

const shot = (page, name, fullPage = true) =>
  asked.screenshots && page.screenshot({ path: `${asked.screenshots}/${name}.png`, fullPage });

// "79.9 kbit/s" as a number.
function bits(text) {
  const [, number, prefix] = /^([\d.]+) ([kM]?)bit\/s$/.exec(text);
  return number * { "": 1, k: 1e3, M: 1e6 }[prefix];
}

const row = (page, user) => page.locator("#rows tr").filter({ has: page.getByRole("button", { name: user, exact: true }) });

// Bounded, and looked at again and again.
async function eventually(what, condition) {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  assert.fail(typeof what === "function" ? what() : what);
}

// Everybody is there, by the very name, and as nothing but text.
async function names(page) {
  const shown = await page.locator("#rows th button").allTextContents();
  assert.deepEqual(shown.toSorted(), asked.users.toSorted());
  const facts = await page.locator("#facts").textContent();
  assert.match(facts, /Passed onhttp to 127\.0\.0\.1:\d+: 0 now, 0 so far/);
  assert.equal(await page.locator("#rows :is(script, img)").count(), 0);
  assert.match(await page.title(), /^example.org/);
}

async function rates(page) {
  const rate = async (kind) => {
    const text = await row(page, asked.steady).locator(`td.${kind} b`).textContent();
    return text === "–" ? 0 : bits(text);
  };
  const near = (value, expected) => Math.abs(value / expected - 1) < 0.25;
  let last;
  await eventually(() => `rates: ${last}`, async () => {
    last = [await rate("to-peers"), await rate("to-client")];
    return near(last[0], asked.bitsToPeers) && near(last[1], asked.bitsToClient);
  });
  return last;
}

async function detail(page) {
  await row(page, asked.steady).getByRole("button", { name: asked.steady, exact: true }).click();
  await page.locator("#detail-body table").first().waitFor();
  const text = await page.locator("#detail-body").innerText();
  assert.match(text, /0x4000/);
  assert.match(text, /127\.0\.0\.1/);
  assert.match(text, /Channels \(1\)/);
  await shot(page, "detail", false);
  await page.keyboard.press("Escape");
}

async function end(page) {
  const button = row(page, asked.ended).getByRole("button", { name: /^End the allocation/ });
  await button.click();
  await shot(page, "confirm", false);
  await page.getByRole("button", { name: "Keep it" }).click();
  assert.equal(await row(page, asked.ended).count(), 1, "ended without a yes");
  await button.click();
  await page.getByRole("button", { name: "End it" }).click();
  await eventually("the allocation does not end", async () => (await row(page, asked.ended).count()) === 0);
}

async function filter(page) {
  await page.fill("#filter-user", asked.steady);
  await eventually("the filter does nothing", async () => (await page.locator("#rows tr").count()) === 1);
  await page.fill("#filter-user", "");
  await eventually("the filter stays", async () => (await page.locator("#rows tr").count()) > 1);
}

// Pages of two, so that there are several: forward to the end, everybody is seen once, and back.
async function pages(page) {
  const each = /limit=25/;
  await page.route(each, (route) => route.continue({ url: route.request().url().replace(each, "limit=2") }));
  const names = () => page.locator("#rows th button").allTextContents();
  await eventually("there is one page", async () => page.locator("#next:enabled").isVisible());
  await eventually("a page is too long", async () => (await names()).length === 2);
  const [first, seen] = [await names(), [...(await names())]];
  const turn = async (button) => {
    const before = await names();
    await page.click(button);
    await eventually("the page does not turn", async () => String(await names()) !== String(before));
  };
  while (await page.locator("#next").isEnabled()) {
    await turn("#next");
    seen.push(...(await names()));
    assert.ok(seen.length <= asked.users.length, `somebody twice: ${seen}`);
  }
  assert.deepEqual(seen.toSorted(), asked.users.filter((user) => user !== asked.ended).toSorted());
  while (await page.locator("#previous").isEnabled()) await turn("#previous");
  assert.equal(await page.locator("#page-number").innerText(), "Page 1");
  assert.deepEqual(await names(), first);
  await page.unroute(each);
  await eventually("the pages stay short", async () => (await names()).length === asked.users.length - 1);
}

// By way of the socket nobody asks for a token, and pages of others are refused.
async function forwarded() {
  const page = await blank({});
  await page.goto(asked.forwarded);
  await page.locator("#rows tr").first().waitFor();
  assert.equal(await page.locator("#token[open]").count(), 0);
  const user = asked.users.at(-1);
  await row(page, user).getByRole("button", { name: /^End the allocation/ }).click();
  await page.getByRole("button", { name: "End it" }).click();
  await eventually("the allocation does not end", async () => (await row(page, user).count()) === 0);
  const other = await blank({});
  await other.goto(asked.url);
  const sent = other.waitForResponse(asked.forwarded + "v1/drain");
  await other.evaluate((url) => void fetch(url, { method: "POST", mode: "no-cors" }).catch(() => {}), asked.forwarded + "v1/drain");
  assert.equal((await sent).status(), 403);
}

async function test(page, credential) {
  await page.fill("#test-username", asked.steady);
  await page.fill("#test-credential", credential);
  await page.click("#test-start");
  await page.locator("#test-start:enabled").waitFor({ timeout: 60_000 });
  return { verdict: await page.locator("#test-verdict").innerText(), results: await page.locator("#test-results li").allInnerTexts() };
}

async function tests(page) {
  const good = await test(page, asked.password);
  assert.match(good.verdict, /^All 3 transports work from this browser\.$/);
  for (const [index, start] of ["UDP 127.0.0.1:", "TCP 127.0.0.1:", "TLS localhost:"].entries()) {
    assert.ok(good.results[index].startsWith(start), good.results[index]);
    assert.match(good.results[index], /Works/);
    assert.match(good.results[index], /200 of 200 messages/);
  }
  await shot(page, "works");
  const bad = await test(page, "not the password");
  assert.match(bad.verdict, /^No transport works/);
  for (const result of bad.results) assert.match(result, /refuses the username or the credential \(401\)/);
  const urls = await page.inputValue("#test-urls");
  await page.fill("#test-urls", "turn:127.0.0.1:9?transport=tcp\nhttp://example.org");
  const nobody = await test(page, asked.password);
  assert.match(nobody.results[0], /No TCP connection to 127\.0\.0\.1:9: nothing listens there/);
  assert.match(nobody.results[1], /This is no TURN URL/);
  await page.fill("#test-urls", urls);
}

// The same with credentials that the page fetches by itself, from where the server tells it.
async function service(page) {
  await page.getByRole("radio", { name: "from the credential service" }).check();
  assert.match(await page.inputValue("#test-service"), /^http:\/\/127\.0\.0\.1:\d+\/ice-servers$/);
  const fetched = async (key) => {
    await page.fill("#test-key", key);
    await page.click("#test-start");
    await page.locator("#test-start:enabled").waitFor({ timeout: 60_000 });
    return page.locator("#test-verdict").innerText();
  };
  assert.match(await fetched("another-key"), /answers 401: the key is missing or wrong/);
  assert.match(await fetched(asked.key), /^All 3 transports work/);
}

try {
  const page = await open({ viewport: { width: 1280, height: 900 }, colorScheme: "light" });
  const response = await page.request.get(asked.url);
  assert.match(response.headers()["content-security-policy"], /default-src 'none'/);
  await names(page);
  const [toPeers, toClient] = await rates(page);
  await filter(page);
  await detail(page);
  await end(page);
  await pages(page);
  await tests(page);
  await service(page);
  await page.locator("#chart-traffic path.line").first().waitFor({ timeout: 40_000 });
  await eventually("the failures are not shown", async () => /Wrong password/.test(await page.locator("#causes").innerText()));
  await shot(page, "light");
  const dark = await open({ viewport: { width: 1280, height: 900 }, colorScheme: "dark" });
  await rates(dark);
  await shot(dark, "dark");
  const phone = await open({ viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, colorScheme: "light", hasTouch: true });
  await rates(phone);
  const overflow = await phone.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `${overflow} px too wide for a phone`);
  await shot(phone, "phone");
  await shot(await open({ viewport: { width: 360, height: 740 }, colorScheme: "dark" }), "phone-dark");
  assert.deepEqual(complaints, []);
  await forwarded();
  console.log(`${Math.round(toPeers / 1e3)} kbit/s to peers and ${Math.round(toClient / 1e3)} kbit/s to the client shown, UDP, TCP and TLS work`);
} finally {
  await browser.close();
}
