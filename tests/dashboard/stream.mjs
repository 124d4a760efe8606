// The API's own stream: every client gets the same frames, so what a page shows at a moment is what one of the last said.

const KEPT = 6;

export class Stream {
  constructor(api) {
    this.frames = [];
    this.now = {};
    this.slots = new Map();
    this.closing = new AbortController();
    this.reading = this.read(api).catch(() => {});
  }

  async read(api) {
    const response = await fetch(`${api}/api/v1/stream`, { signal: this.closing.signal });
    const decoder = new TextDecoder();
    let text = "";
    for await (const piece of response.body) {
      text += decoder.decode(piece, { stream: true });
      const blocks = text.split("\n\n");
      text = blocks.pop();
      for (const block of blocks) this.event(block);
    }
  }

  event(block) {
    const field = (name) => block.split("\n").find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
    const [topic, data] = [field("event"), field("data")];
    if (!topic) return;
    // The topics of a second come in the same order, the metrics first.
    if (topic === "metrics") this.frames = [...this.frames, {}].slice(-KEPT);
    const value = JSON.parse(data);
    this.now[topic] = value;
    if (topic === "slots") for (const slot of value) this.slots.set(slot.slot, slot);
    if (this.frames.length) Object.assign(this.frames.at(-1), { ...this.now });
  }

  close() {
    this.closing.abort();
    return this.reading;
  }
}
