// A pipeline on a simulated cluster under harsh faults, which can be killed and started again.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const EXAMPLE = new URL("../../config/pipelines/demo.toml", import.meta.url).pathname;
const PATIENCE_MS = 60_000;

/** So many ports in a row that nobody listens on. */
async function freePorts(wanted) {
  const listen = (port) => new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(null));
    server.listen(port, "127.0.0.1", () => resolve(server));
  });
  for (;;) {
    const first = await listen(0);
    const { port } = first.address();
    const rest = await Promise.all(Array.from({ length: wanted - 1 }, (_, at) => listen(port + 1 + at)));
    for (const server of [first, ...rest]) server?.close();
    if (rest.every(Boolean)) return port;
  }
}

export class Pipeline {
  constructor(binary) {
    this.binary = binary;
    this.folder = mkdtempSync(join(tmpdir(), "sluice-dashboard-"));
    this.processes = [];
  }

  async begin() {
    const port = await freePorts(5);
    const [rpc, api] = [port + 3, port + 4];
    this.api = `http://127.0.0.1:${api}`;
    const url = (at) => `http://127.0.0.1:${port + at}`;
    this.env = { ...process.env, RUST_LOG: "error", SLUICE_OUT: join(this.folder, "out"), SLUICE_API_LISTEN: `127.0.0.1:${api}`,
      SLUICE_AMS_URL: url(0), SLUICE_US_URL: url(1), SLUICE_ASIA_URL: url(2), SLUICE_RPC_URL: `http://127.0.0.1:${rpc}` };
    this.spawn("cluster", "--faults", "harsh", "--slot-time", "200ms", "--grpc-port", String(port), "--rpc-port", String(rpc));
    await this.run();
  }

  /** Runs the pipeline, with an alert that always fires beside the default ones. */
  async run() {
    const rule = 'stages.alerts.rules.always={ metric = "tip_slot", threshold = "> 0", severity = "info" }';
    this.pipeline = this.spawn("run", EXAMPLE, "--set", rule);
    const began = Date.now();
    while (Date.now() - began < PATIENCE_MS) {
      const answer = await fetch(`${this.api}/api/v1/performance/metrics`).then((response) => response.json()).catch(() => null);
      if (answer?.readings.some(({ metric }) => metric === "latency_ms")) return;
      await sleep(200);
    }
    throw new Error("the pipeline did not come up");
  }

  spawn(...words) {
    const child = spawn(this.binary, words, { env: this.env, stdio: ["ignore", "ignore", "inherit"] });
    this.processes.push(child);
    return child;
  }

  /** Ends the pipeline as a crash does. */
  async kill() {
    const ended = new Promise((resolve) => this.pipeline.once("exit", resolve));
    this.pipeline.kill("SIGKILL");
    await ended;
  }

  end() {
    for (const child of this.processes) child.kill("SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }

  async get(path) {
    const response = await fetch(`${this.api}${path}`);
    return response.json();
  }
}
