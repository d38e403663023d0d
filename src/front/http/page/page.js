"use strict";

// The status page. Asks /status every second and shows what it says. Names and messages come from configs and
// upstreams, so text is only ever set as text; nothing here writes markup.

const EVERY = 1000;
const DAYS = 30; // that the chart of tokens shows
const KEPT = 300; // looks that the small charts remember
const looks = { requests: [], open: [], errors: [], failovers: [] };
let before = null;
let today = null; // the ledger's line of this day, and the tokens of the days before it
let spent = [];
const drawn = new Map();

const at = (id) => document.getElementById(id);

function make(name, text, kind) {
  const element = document.createElement(name);
  if (text !== undefined && text !== null) element.textContent = String(text);
  if (kind) element.className = kind;
  return element;
}

function shape(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// Draws a part anew only when what it shows has changed, so that marked text stays marked.
function draw(id, value, fill) {
  const text = JSON.stringify(value);
  if (drawn.get(id) === text) return;
  drawn.set(id, text);
  const element = at(id);
  element.replaceChildren();
  fill(element, value);
}

function tint(state) {
  if (["ready", "ok", "running", "serving"].includes(state)) return "good";
  if (["no key", "disabled", "unknown", "stopped", "idle"].includes(state)) return "quiet";
  if (["draining", "restarting", "left"].includes(state)) return "warn";
  return "bad";
}

function span(seconds) {
  const units = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
  const parts = [];
  let left = Math.max(0, Math.round(seconds));
  for (const [size, unit] of units) {
    if (left >= size || (size === 1 && parts.length === 0)) {
      parts.push(Math.floor(left / size) + " " + unit);
      left %= size;
    }
    if (parts.length === 2) break;
  }
  return parts.join(" ");
}

const number = (value) => Number(value || 0).toLocaleString("en");
const millis = (value) => (value >= 1000 ? (value / 1000).toFixed(1) + " s" : Math.round(value) + " ms");

function spark(values) {
  const [width, height] = [100, 30];
  const most = Math.max(1, ...values);
  const step = width / Math.max(59, values.length - 1); // a minute at least
  const from = width - step * Math.max(0, values.length - 1);
  const points = values.map((value, n) => [from + n * step, height - 2 - (value / most) * (height - 4)]);
  const line = points.map(([x, y]) => x.toFixed(2) + "," + y.toFixed(2)).join(" ");
  const svg = shape("svg", { viewBox: "0 0 100 30", preserveAspectRatio: "none", "aria-hidden": "true" });
  if (points.length > 1) {
    svg.append(shape("polygon", { class: "spark-area", points: `${from},${height} ${line} ${width},${height}` }));
    svg.append(shape("polyline", { class: "spark-line", points: line }));
  }
  return svg;
}

function tile(value, label, values) {
  const element = make("div", null, "tile");
  element.append(make("b", value), make("span", label), spark(values));
  return element;
}

function remember(list, value) {
  list.push(value);
  if (list.length > KEPT) list.shift();
}

function totals(status, seconds) {
  const per = (name) => (before ? Math.max(0, status[name] - before[name]) : 0);
  const rate = seconds > 0 ? per("requests") / seconds : 0;
  remember(looks.requests, rate);
  remember(looks.open, status.open_requests);
  remember(looks.errors, per("errors"));
  remember(looks.failovers, per("failovers"));
  const tiles = [
    tile(number(status.requests), before ? `requests, ${rate.toFixed(1)} per second` : "requests", looks.requests),
    tile(number(status.open_requests), "open now", looks.open),
    tile(number(status.errors), "answered with an error", looks.errors),
    tile(number(status.failovers), "saved by another attempt", looks.failovers),
  ];
  if (today) {
    const unpriced = today.cost_unknown && today.cost_usd ? "; not all prices are known" : "";
    tiles.push(tile(money(today.cost_usd), `${number(tokensOf(today))} tokens today${unpriced}`, spent));
  }
  if (typeof status.faults === "number") tiles.push(tile(number(status.faults), "faults injected", []));
  at("totals").replaceChildren(...tiles);
}

function fact(list, name, value, kind) {
  if (value === undefined || value === null || value === "") return;
  const held = make("dd", value instanceof Node ? null : value, kind);
  if (value instanceof Node) held.append(value);
  list.append(make("dt", name), held);
}

function provider(status) {
  const off = ["no key", "disabled"].includes(status.state);
  const card = make("article", null, off ? "card off" : "card");
  const head = make("header");
  const name = make("h3", status.name + " ");
  if (status.kind !== status.name) name.append(make("small", status.kind, "quiet"));
  head.append(name, make("span", status.state, "pill " + tint(status.state)));
  const facts = make("dl", null, "facts");
  if (!off || status.attempts > 0) {
    fact(facts, "health", status.health, tint(status.health));
    const limit = status.max_concurrent ? ` of ${status.max_concurrent}` : "";
    const waiting = status.waiting ? `, ${status.waiting} waiting` : "";
    fact(facts, "open", `${status.open}${limit}${waiting}`);
    if (status.latency_ms !== null && status.latency_ms !== undefined) {
      fact(facts, "first output", millis(status.latency_ms));
    }
    const rate = (status.error_rate * 100).toFixed(1) + " % failing of late";
    const attempts = `${number(status.attempts)} (${number(status.failures)} failed)`;
    fact(facts, "attempts", attempts);
    if (status.error_rate > 0) fact(facts, "errors", rate, status.error_rate > 0.1 ? "warn" : "");
  }
  for (const breaker of status.breakers || []) fact(facts, "breaker", breaker, "bad");
  if (status.embargo_s) fact(facts, "asked to wait", span(status.embargo_s), "warn");
  for (const bucket of status.buckets || []) {
    const held = make("div");
    const meter = make("meter");
    meter.max = Math.max(1, bucket.size);
    meter.low = bucket.size * 0.15;
    meter.value = Math.max(0, bucket.level);
    meter.title = `${number(bucket.level)} of ${number(bucket.size)} left`;
    held.append(make("span", `${number(Math.max(0, bucket.level))} of ${number(bucket.size)} left`), meter);
    fact(facts, bucket.name, held);
  }
  for (const key of status.keys || []) fact(facts, "key", `${key.name}: ${key.state}`, key.state === "ready" ? "" : "warn");
  card.append(head, facts);
  return card;
}

// Columns that are empty all the way down are left out.
function table(element, heads, rows) {
  const cells = rows.map((row) => row.map((cell) => (cell instanceof Node ? cell : make("td", cell))));
  const used = heads.map((_, n) => cells.some((row) => row[n].textContent !== ""));
  const line = make("tr");
  heads.forEach((text, n) => used[n] && line.append(make("th", text, cells[0][n].className.includes("number") ? "number" : "")));
  const head = make("thead");
  head.append(line);
  const body = make("tbody");
  for (const row of cells) {
    const shown = make("tr");
    shown.append(...row.filter((_, n) => used[n]));
    body.append(shown);
  }
  element.replaceChildren(head, body);
}

function actors(element, list) {
  const rows = list.map((actor) => {
    const parts = actor.path.split("/");
    const name = make("td");
    const depth = parts.length - 1;
    if (depth > 0) name.append(make("span", "\u00a0\u00a0\u00a0".repeat(depth - 1) + "└ ", "branch"));
    name.append(make("span", parts[depth], "mono"));
    return [
      name,
      make("td", actor.state, tint(actor.state)),
      make("td", actor.restarts || "", actor.restarts ? "number warn" : "number"),
      make("td", actor.mailbox || "", "number"),
      make("td", actor.last_failure || "", "wrap quiet"),
    ];
  });
  table(element, ["actor", "state", "restarts", "mailbox", "last failure"], rows);
}

// Requests that are shown until all are asked for.
const FEW = 12;
let all = false;

// One request of those that ended. Who was tried stands without the model where that is the one asked for.
function requestRow(request) {
  const tried = request.route.replaceAll("/" + request.model + ":", ":").replaceAll("_", " ");
  const outcome = request.fault ? `${request.outcome}: ${request.fault.replaceAll("_", " ")}` : request.outcome;
  const tokens = request.output_tokens === null ? "" : `${number(request.input_tokens)} → ${number(request.output_tokens)}`;
  return [
    make("td", new Date(request.began).toLocaleTimeString(), "quiet"),
    make("td", request.model),
    make("td", outcome + (request.cached ? ", cached" : ""), tint(request.outcome)),
    make("td", tried, "wrap"),
    make("td", millis(request.total_ms), "number"),
    make("td", tokens, "number"),
    make("td", request.cost_usd === null ? "" : money(request.cost_usd), "number"),
    make("td", request.id, "mono quiet"),
  ];
}

function recent(answer) {
  const list = (answer && answer.requests) || [];
  at("recent-section").hidden = list.length === 0;
  if (list.length > 0) {
    const heads = ["began", "model", "outcome", "tried", "took", "tokens", "cost", "request"];
    const shown = all ? list : list.slice(0, FEW);
    draw("recent", shown, (element) => table(element, heads, shown.map(requestRow)));
    const more = at("recent-more");
    more.hidden = list.length <= FEW;
    more.textContent = all ? "show fewer" : `show all ${list.length}`;
    more.onclick = () => { all = !all; recent(answer); };
  }
}

function money(cost) {
  if (typeof cost !== "number") return "unknown";
  return "$" + (cost === 0 ? "0" : cost.toFixed(cost < 1 ? 4 : 2));
}
const tokensOf = (line) =>
  ["input", "output", "cache_read", "cache_creation"].reduce((sum, name) => sum + (line[name] || 0), 0);

function usage(answer) {
  const days = (answer && answer.by_day) || [];
  const models = (answer && answer.by_model) || [];
  at("usage-section").hidden = days.length === 0;
  if (days.length === 0) return;
  const sorted = [...days].sort((a, b) => String(a.key).localeCompare(String(b.key)));
  const last = sorted[sorted.length - 1];
  today = last.key === new Date().toISOString().slice(0, 10) ? last : null;
  spent = sorted.map(tokensOf);
  draw("usage-chart", days, (element) => {
    const most = Math.max(1, ...sorted.map(tokensOf));
    const known = new Map(days.map((day) => [day.key, day]));
    const ago = (n) => new Date(Date.now() - n * 86_400_000).toISOString().slice(0, 10);
    const shown = Array.from({ length: DAYS }, (_, n) => ago(DAYS - 1 - n));
    const svg = shape("svg", { viewBox: `0 0 ${DAYS * 10} 60`, preserveAspectRatio: "none", role: "img", "aria-label": "tokens by day" });
    svg.append(shape("rect", { class: "base", x: 0, y: 59.5, width: DAYS * 10, height: 0.5 }));
    shown.forEach((key, n) => {
      const day = known.get(key);
      if (!day) return;
      const height = (tokensOf(day) / most) * 58;
      const bar = shape("rect", { class: "bar", x: n * 10 + 1, y: 60 - height, width: 8, height });
      const title = shape("title", {});
      title.textContent = `${day.key}: ${number(tokensOf(day))} tokens, ${money(day.cost_usd)}`;
      bar.append(title);
      svg.append(bar);
    });
    const axis = make("p", null, "axis");
    axis.append(make("span", shown[0]), make("span", `at most ${number(most)} tokens a day`), make("span", "today"));
    element.append(svg, axis);
  });
  draw("usage", models, (element) => {
    const rows = models.map((line) => [
      make("td", line.key || "(nobody was asked)"),
      make("td", number(line.requests), "number"),
      make("td", number(tokensOf(line)), "number"),
      make("td", line.cost_usd === null && !line.cost_unknown ? "$0" : money(line.cost_usd), "number"),
    ]);
    table(element, ["model", "requests", "tokens", "cost"], rows);
  });
}

function show(status, seconds) {
  document.title = `cproxy: ${status.state}`;
  at("version").textContent = status.version;
  at("lamp").className = "lamp " + tint(status.state);
  at("where").textContent = `${status.state} at ${status.address}, up ${span(status.uptime_s)}, process ${status.pid}`;
  const reload = status.config.last_reload === "ok" ? "" : `; the last change was refused: ${status.config.last_reload}`;
  at("config").textContent = `Config: ${status.config.source}, generation ${status.config.generation}${reload}`;
  draw("alerts", status.warnings, (element, list) => {
    for (const warning of list) element.append(make("p", warning, "alert warn"));
  });
  totals(status, seconds);
  const order = { ready: 0, draining: 1, quarantined: 1, "no key": 2, disabled: 3 };
  const list = [...status.providers].sort((a, b) => (order[a.state] ?? 1) - (order[b.state] ?? 1));
  draw("providers", list, (element) => element.append(...list.map(provider)));
  draw("actors", status.actors, actors);
}

function silent(reason) {
  at("lamp").className = "lamp bad";
  document.title = "cproxy: no answer";
  drawn.clear();
  at("alerts").replaceChildren(make("p", `The daemon does not answer (${reason}); trying again.`, "alert bad"));
}

async function ask(path) {
  const response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(5000) });
  if (!response.ok) throw new Error("status " + response.status);
  return response.json();
}

// What is told apart from the status; a daemon that does not keep it says so, and its place stays empty.
async function more(turn) {
  if (turn % 2 === 0) recent(await ask("/requests"));
  if (turn % 30 === 0) usage(await ask("/usage"));
}

async function look(turn) {
  if (!document.hidden) {
    try {
      const status = await ask("/status");
      const now = performance.now();
      show(status, before ? (now - before.at) / 1000 : 0);
      before = { at: now, ...status };
      await more(turn);
    } catch (error) {
      silent(error.message);
    }
  }
  setTimeout(look, EVERY, turn + 1);
}

look(0);
