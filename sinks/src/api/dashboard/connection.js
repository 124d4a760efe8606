// Requests with the token, and the stream, which connects again by itself.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8_000;
/** The server sends something each second. */
const SILENCE_MS = 10_000;

let askForToken = null;

/** Says how to get a token from the user: a function that resolves once there is one. */
export function onUnauthorized(ask) {
  askForToken = ask;
}

function headers(extra) {
  const token = sessionStorage.getItem("sluice-token");
  return token ? { ...extra, Authorization: `Bearer ${token}` } : extra;
}

async function request(path, options = {}) {
  for (;;) {
    const response = await fetch(path, { ...options, headers: headers(options.headers ?? {}) });
    if (response.status !== 401 || !askForToken) return response;
    await askForToken();
  }
}

async function problemOf(response) {
  const problem = await response.json().catch(() => null);
  return new Error(problem?.detail ?? `the server answered ${response.status}`);
}

/** What a resource answers. */
export async function get(path) {
  const response = await request(path);
  if (!response.ok && response.status !== 503) throw await problemOf(response);
  return response.json();
}

/** Sends a change. */
export async function send(method, path, body) {
  const options = { method };
  if (body) {
    options.body = JSON.stringify(body);
    options.headers = { "Content-Type": "application/json" };
  }
  const response = await request(path, options);
  if (!response.ok) throw await problemOf(response);
  return response.json();
}

/** Calls `onFrame({topic: data})` for every frame once it is whole, and `onState("live" | "lost")`. Never ends. */
export async function follow(onFrame, onState) {
  let wait = FIRST_WAIT_MS;
  for (;;) {
    try {
      const response = await request("/api/v1/stream");
      if (!response.ok) throw await problemOf(response);
      onState("live");
      wait = FIRST_WAIT_MS;
      await readFrames(response.body.getReader(), onFrame);
    } catch {
      // Whatever it was: the server is asked again.
    }
    onState("lost");
    await new Promise((resolve) => setTimeout(resolve, wait * (0.5 + Math.random())));
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
  }
}

async function readFrames(reader, onFrame) {
  const decoder = new TextDecoder();
  let [text, frame] = ["", {}];
  for (;;) {
    const { done, value } = await within(reader, SILENCE_MS);
    if (done) return;
    text += decoder.decode(value, { stream: true });
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const [topic, data] of blocks.map(parse)) {
      if (topic) frame[topic] = data;
      if (topic !== "frame") continue;
      onFrame(frame);
      frame = {};
    }
  }
}

function parse(block) {
  const field = (name) => block.split("\n").find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
  return field("event") ? [field("event"), JSON.parse(field("data"))] : [];
}

async function within(reader, limit) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => {
      reader.cancel().catch(() => {});
      reject(new Error("the server is silent"));
    }, limit);
  });
  try {
    return await Promise.race([reader.read(), late]);
  } finally {
    clearTimeout(timer);
  }
}
