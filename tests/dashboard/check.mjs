// Holds the dashboard to the API's answers, in Chromium, at two widths and in both themes, while everything goes wrong.
//
//   node check.mjs BINARY [FOLDER]     screenshots go to FOLDER
//
// Fails if a number on the page is not what the API said, if something is logged to the console, overflows, or is out of
// reach of the keyboard, if axe finds anything, or if the page does not come back after the server was killed.

import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { chromium } from "playwright-core";
import { Pipeline } from "./pipeline.mjs";
import { differences, read, word, wrongCells } from "./shown.mjs";
import { Stream } from "./stream.mjs";

const [binary, folder] = process.argv.slice(2);
const BROWSER = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((path) => path && existsSync(path));
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const LOOKS = 8;
const problems = [];

function hold(what, fits) {
  if (!fits) problems.push(what);
  return fits;
}

async function until(what, look, patience = 30_000) {
  const began = Date.now();
  while (Date.now() - began < patience) {
    const found = await look();
    if (found) return found;
    await sleep(100);
  }
  hold(`${what} never came`, false);
  return null;
}

/** A page of this size and theme; what it logs and asks for elsewhere is a problem, unless its server is away. */
async function open(browser, api, width, colorScheme) {
  const page = await browser.newPage({ viewport: { width, height: 1000 }, colorScheme });
  page.isAway = false;
  const name = `${width} ${colorScheme}`;
  page.on("console", (message) => hold(`${name}: console: ${message.text()}`, page.isAway || !["error", "warning"].includes(message.type())));
  page.on("pageerror", (error) => hold(`${name}: ${error.message}`, false));
  page.on("request", (request) => hold(`${name}: asks ${request.url()}`, request.url().startsWith(api)));
  await page.goto(`${api}/performance`);
  await until(`${name}: a live page`, () => page.evaluate(() => document.querySelectorAll("#slot-map .cell").length > 20 && document.querySelectorAll("#graph .node").length > 5));
  return page;
}

/** Every number on the page is the one that the API gave in the frame that the page shows. */
async function compare(page, name, stream) {
  let numbers = 0;
  let first = null;
  for (let look = 0; look < LOOKS; look += 1) {
    const shown = await page.evaluate(read);
    const frame = await stream.frame(shown.frame);
    for (const difference of differences(shown, frame)) hold(`${name}: frame ${shown.frame}: ${difference}`, false);
    // A page begins with the newest of each slot; from the next frame on it has what all others have.
    first ??= shown.frame;
    if (shown.frame > first) for (const wrong of wrongCells(shown.cells, frame)) hold(`${name}: frame ${shown.frame}: ${wrong}`, false);
    numbers = JSON.stringify(shown).match(/\d[\d,.]*/g).length;
    await sleep(700);
  }
  hold(`${name}: the page stands still at frame ${first}`, Number(await page.evaluate(() => document.body.dataset.frame)) > first);
  return numbers;
}

async function layout(page, name) {
  const { inner, scroll, wide } = await page.evaluate(() => ({
    inner: window.innerWidth, scroll: document.documentElement.scrollWidth,
    wide: [...document.querySelectorAll("main *")].filter((element) => !element.closest(".scroll, .hidden, svg") && element.getBoundingClientRect().right > window.innerWidth + 1).map((element) => element.tagName + (element.id ? `#${element.id}` : "")),
  }));
  hold(`${name}: ${scroll} px wide in a window of ${inner}`, scroll <= inner);
  hold(`${name}: beyond the edge: ${wide.join(", ")}`, wide.length === 0);
}

async function accessible(page, name) {
  await page.evaluate(AXE);
  const { violations, passes } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  for (const one of violations) hold(`${name}: axe ${one.id}: ${one.help}: ${one.nodes.map(({ target }) => target.join(" ")).slice(0, 3).join("; ")}`, false);
  hold(`${name}: axe looked at nothing`, passes.length > 10);
}

/** Everything that can be used can be reached with the tab key, and shows that it has the focus. */
async function keyboard(page, stream) {
  await page.evaluate(() => document.activeElement?.blur());
  const reached = new Set();
  for (let step = 0; step < 80; step += 1) {
    await page.keyboard.press("Tab");
    const { where, outlined } = await page.evaluate(() => {
      const { activeElement: at } = document;
      return { where: at.id || at.closest("[id]")?.id || at.className, outlined: at === document.body || getComputedStyle(at).outlineStyle !== "none" };
    });
    hold(`the focus can't be seen on ${where}`, outlined);
    reached.add(where);
  }
  for (const wanted of ["skip", "range", "theme", "charts", "slot-map", "graph", "endpoints", "alert-state", "alerts", "events"]) hold(`the keyboard does not reach ${wanted}`, reached.has(wanted));

  await page.focus("#charts canvas");
  const label = () => page.evaluate(() => document.querySelector("#charts canvas").getAttribute("aria-label"));
  await page.keyboard.press("ArrowLeft");
  hold("arrows do not move a chart's crosshair", / at \d\d:\d\d:\d\d/.test(await label()));
  await page.keyboard.press("Escape");

  await page.focus("#slot-map [tabindex='0']");
  await page.keyboard.press("End");
  for (let step = 0; step < 30; step += 1) await page.keyboard.press("ArrowLeft");
  const { number, detail } = await page.evaluate(() => ({
    number: Number(document.body.dataset.frame),
    detail: Object.fromEntries([...document.querySelectorAll("#slot-detail dt")].map((dt) => [dt.textContent, dt.nextElementSibling.textContent])),
  }));
  const slot = (await stream.frame(number)).slots.get(Number(detail.Slot));
  hold(`slot ${detail.Slot} at frame ${number}: shown ${JSON.stringify(detail)}, the API said ${JSON.stringify(slot)}`,
    slot && word(slot) === detail.State && (slot.blockhash ?? "–") === detail.Blockhash && String(slot.parent_slot ?? "–") === detail.Parent);
}

async function silencing(page, pipeline) {
  await page.selectOption("#alert-state", "firing");
  const button = page.getByRole("button", { name: "Silence always" });
  await button.click();
  await page.fill("[name=created_by]", "a check");
  await page.fill("[name=comment]", "it always fires");
  await page.keyboard.press("Enter");
  const active = async () => (await pipeline.get("/api/v1/silences")).silences.filter(({ state }) => state === "active");
  const [silence] = (await until("a silence", async () => ((await active()).length ? active() : null))) ?? [];
  hold(`the silence is ${JSON.stringify(silence)}`, silence?.matchers.includes('rule="always"') && silence.created_by === "a check");
  await page.getByRole("button", { name: /End the silence/ }).click();
  await until("the end of the silence", async () => (await active()).length === 0);
  await page.selectOption("#alert-state", "");
}

/** The page says that it has lost its server, and goes on by itself with the next one. */
async function comesBack(page, pipeline, picture) {
  page.isAway = true;
  await page.evaluate(() => { window.isTheSamePage = true; });
  await pipeline.kill();
  await until("the banner", () => page.isVisible("#banner"));
  hold("a lost connection looks healthy", (await page.textContent("#health")) === "No connection");
  await picture(page, "lost");
  await pipeline.run();
  await until("the page after a restart", async () => !(await page.isVisible("#banner")));
  await sleep(3_000);
  page.isAway = false;
  hold("the page was loaded anew", await page.evaluate(() => window.isTheSamePage === true));
}

async function main() {
  if (folder) mkdirSync(folder, { recursive: true });
  const picture = (page, name) => (folder ? page.screenshot({ path: join(folder, `${name}.png`), fullPage: true }) : null);
  const pipeline = new Pipeline(binary);
  let browser = null;
  try {
    await pipeline.begin();
    browser = await chromium.launch({ executablePath: BROWSER, args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"] });
    const stream = new Stream(pipeline.api);
    let numbers = 0;
    for (const width of [1440, 390]) {
      for (const theme of ["light", "dark"]) {
        const [page, name] = [await open(browser, pipeline.api, width, theme), `${width} ${theme}`];
        numbers += await compare(page, name, stream);
        await layout(page, name);
        await accessible(page, name);
        await picture(page, `${width}-${theme}`);
        await page.close();
      }
    }
    const page = await open(browser, pipeline.api, 1440, "light");
    await keyboard(page, stream);
    await stream.close();
    await silencing(page, pipeline);
    await comesBack(page, pipeline, picture);
    const after = new Stream(pipeline.api);
    await until("frames after the restart", () => after.frames.size > 2);
    await compare(page, "after a restart", after);
    await picture(page, "back");
    await after.close();
    console.log(`${numbers} numbers compared ${LOOKS} times, at two widths in two themes`);
  } finally {
    await browser?.close();
    pipeline.end();
  }
}

if (!binary || !BROWSER) {
  console.error(binary ? "there is no chromium; name one in CHROMIUM" : "usage: node check.mjs BINARY [FOLDER]");
  process.exit(2);
}
await main();
for (const problem of new Set(problems)) console.error(problem);
process.exit(problems.length ? 1 : 0);
