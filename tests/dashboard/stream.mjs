// The API's own stream: every client gets the same under one number, so what a page shows with a number is what that
// frame says.

import { setTimeout as sleep } from "node:timers/promises";

const KEPT = 60;
const PATIENCE_MS = 30_000;

export class Stream {
  constructor(api) {
    this.frames = new Map();
    this.slots = new Map();
    this.closing = new AbortController();
    this.reading = this.read(api).catch(() => {});
  }

  async read(api) {
    const response = await fetch(`${api}/api/v1/stream`, { signal: this.closing.signal });
    const decoder = new TextDecoder();
    let text = "";
    let frame = {};
    for await (const piece of response.body) {
      text += decoder.decode(piece, { stream: true });
      const blocks = text.split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const field = (name) => block.split("\n").find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
        const topic = field("event");
        if (topic) frame[topic] = JSON.parse(field("data"));
        if (topic !== "frame") continue;
        this.take(frame);
        frame = {};
      }
    }
  }

  /** Keeps a frame, with the states of all slots at it. */
  take(frame) {
    for (const slot of frame.slots ?? []) this.slots.set(slot.slot, slot);
    this.frames.set(frame.frame.number, { ...frame, slots: new Map(this.slots) });
    this.frames.delete(frame.frame.number - KEPT);
  }

  /** Frame `number`, as soon as it is here. */
  async frame(number) {
    const began = Date.now();
    while (!this.frames.has(number)) {
      if (Date.now() - began > PATIENCE_MS) throw new Error(`frame ${number} never came, of ${[...this.frames.keys()].join(", ")}`);
      await sleep(20);
    }
    return this.frames.get(number);
  }

  close() {
    this.closing.abort();
    return this.reading;
  }
}
