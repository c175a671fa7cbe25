"use strict";
// The console of one node: asks /api/state once a second and shows what changed. No library, nothing from elsewhere.

const EVERY_MS = 1000, PATIENCE_MS = 5000, POINTS = 60, WINDOW_MS = 10000;
const $ = (id) => document.getElementById(id);
const history = [];                       // states of the last WINDOW_MS, for rates and latencies
const lines = { ops: [], write: [], sync: [] };
let token = "", lastSeen = 0, asking = false;

// -- numbers for people

function bytes(n) {
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (n < 1024 || unit === "TiB") return (unit === "B" || n >= 100 ? n.toFixed(0) : n.toFixed(1)) + " " + unit;
    n /= 1024;
  }
}
function count(n) {
  return n >= 1e6 ? (n / 1e6).toFixed(2) + " M" : n >= 1e4 ? (n / 1e3).toFixed(1) + " k" : n < 10 && n % 1 ? n.toFixed(1) : n.toFixed(0);
}
function seconds(s) {
  if (s === null) return "–";
  if (!isFinite(s)) return "> 10 s";
  return s >= 1 ? s.toFixed(1) + " s" : s >= 1e-3 ? (s * 1e3).toFixed(s >= 1e-2 ? 0 : 1) + " ms" : (s * 1e6).toFixed(0) + " µs";
}
function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  return s < 120 ? s + " s" : s < 7200 ? Math.round(s / 60) + " min" : s < 172800 ? Math.round(s / 3600) + " h" : Math.round(s / 86400) + " days";
}
function clock(ms) { return ms ? new Date(ms).toLocaleString() : "–"; }

// The latency that a share of what lies between two histograms did not exceed; between bounds it is interpolated.
function quantile(bounds, before, after, share) {
  const counts = after.map((n, i) => Math.max(0, n - before[i]));
  const total = counts.reduce((a, b) => a + b, 0);
  if (!total) return null;
  let seen = 0;
  for (let i = 0; i < counts.length; i++) {
    if (seen + counts[i] >= share * total) {
      if (i === bounds.length) return Infinity;
      const low = i ? bounds[i - 1] : 0;
      return low + (bounds[i] - low) * (share * total - seen) / counts[i];
    }
    seen += counts[i];
  }
  return null;
}

// -- the page; text only ever goes in as text

function rows(table, all) {
  const body = $(table).tBodies[0];
  body.replaceChildren(...all.map((cells) => {
    const row = document.createElement("tr");
    for (const [text, name] of cells) {
      const cell = document.createElement("td");
      cell.textContent = text;
      if (name) cell.className = name;
      row.append(cell);
    }
    return row;
  }));
}
function text(id, value) { if ($(id).textContent !== value) $(id).textContent = value; }
function draw(id, value) {
  const line = lines[id];
  line.push(value);
  if (line.length > POINTS) line.shift();
  const top = Math.max(...line, 1e-9);
  const points = line.map((v, i) => `${((i + POINTS - line.length) * 120 / (POINTS - 1)).toFixed(1)},${(29 - 27 * v / top).toFixed(1)}`);
  document.querySelector(`#${id}-line polyline`).setAttribute("points", points.join(" "));
}

function show(s) {
  history.push(s);
  // What was counted anew (a restart, CONFIG RESETSTAT) cannot be compared with what was before.
  if (history.length > 1 && s.counters.commands < history[history.length - 2].counters.commands) history.splice(0, history.length - 1);
  while (history.length > 2 && s.now_ms - history[0].now_ms > WINDOW_MS) history.shift();
  const first = history[0], last = history.length > 1 ? history[history.length - 2] : s;
  const per = (name) => s.now_ms > last.now_ms ? (s.counters[name] - last.counters[name]) * 1000 / (s.now_ms - last.now_ms) : 0;
  const within = (kind, share) => quantile(s.bounds_s, first.latency[kind], s.latency[kind], share);

  document.title = `${s.raft.node_id} ${s.raft.role} · zattredis`;
  text("node", s.raft.node_id);
  const state = s.unready.length ? "not ready" : s.raft.role === "leader" ? "leader" : `${s.raft.role}, ready`;
  text("state", state);
  $("state").className = "badge " + (s.unready.length ? "bad" : "good");
  text("leader", s.raft.leader_id
    ? `${s.raft.leader_id} leads since ${clock(s.raft.leader_since_ms)} (${span(s.now_ms - s.raft.leader_since_ms)}), term ${s.raft.term}`
    : `nobody leads, term ${s.raft.term}`);
  $("leader").className = s.raft.leader_id ? "" : "bad";

  const ops = per("commands");
  text("ops", count(ops));
  draw("ops", ops);
  for (const kind of ["write", "sync", "command"]) {
    const high = within(kind, 0.99);
    text(kind, high === null ? "–" : `${seconds(within(kind, 0.5))} / ${seconds(high)}`);
    if (kind !== "command") draw(kind, high !== null && isFinite(high) ? high : 0);
  }
  text("clients", `${s.clients.connected} (${s.clients.blocked}) of ${s.clients.max}`);
  text("network", `${bytes(per("net_input_bytes"))}/s / ${bytes(per("net_output_bytes"))}/s`);
  text("memory", bytes(s.memory.resident));
  text("disk", bytes(s.storage.free_bytes) + (s.storage.refuses_writes ? " FULL" : ""));
  $("disk").className = s.storage.refuses_writes ? "bad" : "";

  rows("members", s.members.map((m) => [
    [m.id + (m.id === s.raft.node_id ? " (this node)" : "")], [m.address],
    [m.role, m.role === "leader" ? "good" : m.role === "unknown" ? "warn" : ""], [m.voter],
    [m.connected === "yes" ? "up" : "down", m.connected === "yes" ? "good" : "bad"],
    [m.lag < 0 ? "?" : count(m.lag), m.lag > 1000 ? "n warn" : "n"], [m.match_index < 0 ? "?" : String(m.match_index), "n"],
  ]));
  text("raft", `cluster ${s.raft.cluster_id} · ${s.raft.elections} elections by this node · ${s.raft.leader_changes} leaders seen` +
    (s.raft.change === "none" ? "" : ` · membership change: ${s.raft.change}`));
  targets(s);

  facts("storage", [
    ["log", `${bytes(s.storage.log_bytes)}, ${count(s.storage.log_entries)} entries`], ["state", bytes(s.storage.state_bytes)],
    ["keys", count(s.keys)], ["free", bytes(s.storage.free_bytes)],
    ["committed / applied", `${s.raft.commit_index} / ${s.raft.applied_index}`],
    ["sync under way for", s.sync_in_flight_ms ? seconds(s.sync_in_flight_ms / 1000) : "–"],
    ["last snapshot", s.storage.snapshot_running ? "being made" : clock(s.storage.snapshot_last_ms)],
    ["entries since", count(s.storage.snapshot_entries_since)],
    ["snapshots sent / received", `${s.storage.snapshots_sent} / ${s.storage.snapshots_installed}`],
    ["outcome unknown / refused", `${s.counters.outcome_unknown} / ${s.counters.refused}`],
    ["directory", s.storage.directory],
  ]);
  const before = new Map(last.commands.map((c) => [c.name, c.calls]));
  rows("commands", s.commands.map((c) => [
    [c.name], [count(s.now_ms > last.now_ms ? Math.max(0, c.calls - (before.get(c.name) ?? c.calls)) * 1000 / (s.now_ms - last.now_ms) : 0), "n"],
    [count(c.calls), "n"], [c.calls ? (c.usec / c.calls).toFixed(1) : "–", "n"], [count(c.failed), c.failed ? "n warn" : "n"],
  ]));
  text("slower", s.slower_than_us < 0 ? "SLOWLOG is off" : `slower than ${seconds(s.slower_than_us / 1e6)}, newest first`);
  rows("slow", s.slow.map((c) => [[clock(c.time_ms)], [seconds(c.usec / 1e6), "n"], [c.command, "command"], [c.client + (c.name ? ` (${c.name})` : "")]]));
  text("version", `zattredis ${s.version}, up ${span(s.uptime_s * 1000)}`);
  text("seen", "as of " + new Date(s.now_ms).toLocaleTimeString());
  if (s.unready.length) alarm("This node is not ready: " + s.unready.join("; "));
  else if (s.storage.refuses_writes) alarm("Too little disk is free: writes are refused until there is room");
  else if (!$("alarm").classList.contains("kept")) $("alarm").hidden = true;
}

function targets(s) {
  const wanted = s.members.filter((m) => m.voter === "yes" && m.id !== s.raft.leader_id).map((m) => m.id);
  const select = $("target");
  if ([...select.options].slice(1).map((o) => o.value).join() !== wanted.join()) {
    select.replaceChildren(select.options[0], ...wanted.map((id) => new Option(id, id)));
  }
  document.querySelector("#transfer button").disabled = !wanted.length;
}
function facts(id, pairs) {
  $(id).replaceChildren(...pairs.map(([name, value]) => {
    const both = document.createElement("div"), term = document.createElement("dt"), data = document.createElement("dd");
    term.textContent = name;
    data.textContent = value;
    both.append(term, data);
    return both;
  }));
}
function alarm(message, kept = false, done = false) {
  $("alarm").className = (kept ? "kept" : "") + (done ? " done" : "");
  text("alarm", message);
  $("alarm").hidden = false;
  if (kept) setTimeout(() => $("alarm").classList.remove("kept"), 6000);
}

// -- asking the node

async function ask() {
  if (asking) return;
  asking = true;
  try {
    const answer = await fetch("api/state", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) throw new Error(`${answer.status} ${(await answer.text()).trim()}`);
    const state = await answer.json();
    token = state.token;
    lastSeen = Date.now();
    document.body.classList.remove("stale");
    show(state);
  } catch (error) {
    document.body.classList.add("stale");
    text("state", "no answer");
    $("state").className = "badge bad";
    alarm(`The node does not answer${lastSeen ? " since " + new Date(lastSeen).toLocaleTimeString() : ""}: ${error.message}`);
  } finally {
    asking = false;
  }
}

let decide = null;                        // answers the question that is open
function sure(question) {
  decide?.(false);
  text("question", question);
  $("sure").returnValue = "no";
  if (!$("sure").open) $("sure").showModal();
  return new Promise((resolve) => { decide = resolve; });
}
$("sure").addEventListener("close", () => {
  if ($("sure").open) return;             // of the question before: events of a busy browser come late
  decide?.($("sure").returnValue === "yes");
  decide = null;
});
async function act(form, question, path, fields, told) {
  if (!await sure(question)) return;
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const answer = await fetch(path, {
      method: "POST", headers: { "Content-Type": "application/json", "X-Zattredis-Token": token }, body: JSON.stringify(fields),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(text.startsWith("{") ? JSON.parse(text).error : text.trim());
    alarm(told(JSON.parse(text)), true, true);
  } catch (error) {
    alarm("Not done: " + error.message, true);
  } finally {
    button.disabled = false;
    ask();
  }
}
$("transfer").addEventListener("submit", (event) => {
  event.preventDefault();
  const target = $("target").value;
  act(event.target, `Hand the leadership to ${target || "the voter that is furthest"}? Clients see a short pause.`, "api/transfer",
    { target }, (answer) => `${answer.leader} leads now`);
});
$("snapshot").addEventListener("submit", (event) => {
  event.preventDefault();
  act(event.target, "Make a snapshot of this node's state now?", "api/snapshot", {}, () => "The snapshot is made");
});
$("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* a browser without storage forgets it */ }
});
try { const theme = localStorage.getItem("theme"); if (theme) document.documentElement.dataset.theme = theme; } catch { /* as above */ }

ask();
setInterval(ask, EVERY_MS);
