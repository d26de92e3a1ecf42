// Has a browser trust the authority of the tests: what it trusts is a database of NSS.
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";

export function trust(directory) {
  mkdirSync(directory, { recursive: true });
  const certutil = (...more) => execFileSync("certutil", ["-d", `sql:${directory}`, ...more]);
  certutil("-N", "--empty-password");
  certutil("-A", "-t", "C,,", "-n", "interop", "-i", process.env.INTEROP_CA);
}
