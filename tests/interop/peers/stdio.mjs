// The peers' protocol: one JSON line in, {"method", "argument"}; one JSON line out, {"value"} or {"error"}.
// After "close" the harness kills what is left in the namespace, the browser included.
import readline from "node:readline";

export async function serve(start) {
  let call;
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { method, argument } = JSON.parse(line);
    let reply;
    try {
      if (method === "start") {
        call = await start(argument);
        reply = { value: null };
      } else {
        reply = { value: (await call[method](argument)) ?? null };
      }
    } catch (error) {
      reply = { error: String(error?.message ?? error) };
    }
    process.stdout.write(`${JSON.stringify(reply)}\n`);
  }
}
