// What both browsers need: a secure context (http://localhost) that holds call.js,
// and a call whose methods run in that page.
import { readFileSync } from "node:fs";
import http from "node:http";

const script = readFileSync(new URL("call.js", import.meta.url), "utf8");

export async function callInPage(page, config) {
  const server = http.createServer((_, response) => {
    response.setHeader("content-type", "text/html");
    response.end(`<!doctype html><body><script>${script}</script>`);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  await page.goto(`http://localhost:${server.address().port}/`);
  await page.evaluate(async (config) => void (globalThis.call = await startCall(config)), config);
  const run = (method) => (argument) =>
    page.evaluate(({ method, argument }) => call[method](argument), { method, argument: argument ?? null });
  return Object.fromEntries(["offer", "answer", "accept", "result", "close"].map((m) => [m, run(m)]));
}
