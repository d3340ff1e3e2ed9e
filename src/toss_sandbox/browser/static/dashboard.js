// The dashboard: reads the control API every few seconds and shows it; the buttons post to the same API.

const REFRESH_MILLISECONDS = 3000;
const CALLS_SHOWN = 50;
const UNFINISHED = ["READY", "IN_PROGRESS"];

const find = (id) => document.getElementById(id);
const won = (amount) => `${amount.toLocaleString("ko-KR")}원`;
const clockTime = (moment) => new Date(moment).toLocaleString("sv-SE", { timeZone: "Asia/Seoul" });

async function api(path, { method = "GET", body } = {}) {
  const response = await fetch(`/sandbox${path}`, {
    method,
    ...(body && { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }),
  });
  const answer = await response.text();
  if (!response.ok) throw new Error(`${response.status} ${answer}`);
  return answer ? JSON.parse(answer) : null;
}

// ── Drawing: everything is put in as text, never as markup ──────────────────────────────────────

function cell(content, className = "") {
  const node = document.createElement("td");
  node.className = className;
  node.append(content ?? "–");
  return node;
}

function row(...cells) {
  const node = document.createElement("tr");
  node.append(...cells);
  return node;
}

function badge(text, kind) {
  const node = document.createElement("span");
  node.className = `badge ${kind}`;
  node.textContent = text;
  return node;
}

function button(label, data) {
  const node = document.createElement("button");
  node.textContent = label;
  Object.assign(node.dataset, data);
  return node;
}

function link(text, href) {
  const node = document.createElement("a");
  node.textContent = text;
  node.href = href;
  return node;
}

/** Replaces a table's rows only when they changed: a click is not lost to a refresh, and a selection stays. */
function fill(id, items, draw, nothing) {
  const body = find(id);
  const state = JSON.stringify(items);
  if (body.dataset.state === state) return;
  body.dataset.state = state;
  body.replaceChildren(...items.map(draw));
  if (items.length) return;
  const empty = cell(nothing, "muted");
  empty.colSpan = 9;
  body.append(row(empty));
}

function paymentRow(payment) {
  const { paymentKey, status } = payment;
  const kinds = { DONE: "good", WAITING_FOR_DEPOSIT: "wait", READY: "wait", IN_PROGRESS: "wait" };
  const checkout = `/v1/payments/${encodeURIComponent(paymentKey)}/checkout`;
  const key = status === "READY" ? link(paymentKey, checkout) : paymentKey;
  const expire = button("만료시키기", { expire: paymentKey, testid: `expire-${paymentKey}` });
  return row(
    cell(clockTime(payment.requestedAt)),
    cell(payment.orderId, "code"),
    cell(won(payment.totalAmount), "number"),
    cell(payment.method),
    cell(badge(status, kinds[status] ?? "bad")),
    cell(key, "code"),
    cell(UNFINISHED.includes(status) ? expire : ""),
  );
}

function callRow(call) {
  const isGood = call.status !== null && call.status < 400;
  return row(
    cell(clockTime(call.at)),
    cell(`${call.method} ${call.path}`, "code"),
    cell(badge(call.status ?? "응답 없음", isGood ? "good" : "bad")),
    cell(call.code, "code"),
    cell(call.fault, "code"),
    cell(call.orderId, "code"),
    cell(call.idempotencyKey, "code"),
  );
}

function faultRow(fault) {
  const conditions = ["orderId", "paymentKey", "code", "status", "delaySeconds", "retryAfterSeconds"];
  const shown = conditions.filter((name) => fault[name] != null).map((name) => `${name} ${fault[name]}`);
  if (fault.probability !== 1) shown.push(`확률 ${fault.probability}`);
  return row(
    cell(fault.operation),
    cell(fault.kind, "code"),
    cell(shown.join(", ") || null, "code"),
    cell(fault.times === null ? "해제할 때까지" : String(fault.times)),
  );
}

function offsetText(seconds) {
  const [minutes, hours] = [Math.floor(seconds / 60), Math.floor(seconds / 3600)];
  const parts = [[Math.floor(hours / 24), "일"], [hours % 24, "시간"], [minutes % 60, "분"], [seconds % 60, "초"]];
  return parts.filter(([count]) => count).map(([count, unit]) => `${count}${unit}`).join(" ") || "0초";
}

// ── Refreshing ──────────────────────────────────────────────────────────────────────────────────

async function refresh() {
  const paths = ["/clock", "/faults", "/payments", `/calls?limit=${CALLS_SHOWN}`];
  const [clock, { faults }, payments, { calls }] = await Promise.all(paths.map((path) => api(path)));
  find("now").textContent = clockTime(clock.now);
  find("offset").textContent = offsetText(clock.offsetSeconds);
  fill("faults", faults, faultRow, "걸려 있는 장애가 없습니다. (none armed)");
  fill("payments", payments, paymentRow, "아직 결제가 없습니다. (none yet)");
  fill("calls", calls.reverse(), callRow, "아직 호출이 없습니다. (none yet)");
  find("state").textContent = `${new Date().toLocaleTimeString("ko-KR")} 갱신`;
}

/** Runs one action, shows what came of it, and says on the page when the sandbox refused or is gone. */
async function attempt(action = () => {}) {
  const problem = find("problem");
  try {
    await action();
    await refresh();
    problem.hidden = true;
  } catch (error) {
    problem.textContent = `샌드박스가 거절했거나 응답하지 않습니다: ${error.message}`;
    problem.hidden = false;
  }
}

function faultOrder(form) {
  const { times, probability, delaySeconds, ...texts } = Object.fromEntries(new FormData(form));
  const given = Object.entries(texts).filter(([, value]) => value !== "");
  return {
    ...Object.fromEntries(given),
    times: times === "" ? null : Number(times),
    probability: Number(probability),
    ...(delaySeconds !== "" && { delaySeconds: Number(delaySeconds) }),
  };
}

document.addEventListener("click", ({ target }) => {
  const { advance, expire } = target.closest("button")?.dataset ?? {};
  if (advance) attempt(() => api("/clock", { method: "POST", body: { advanceSeconds: Number(advance) } }));
  if (expire) attempt(() => api(`/payments/${encodeURIComponent(expire)}/expire`, { method: "POST" }));
});
find("refresh").addEventListener("click", () => attempt());
find("clear-faults").addEventListener("click", () => attempt(() => api("/faults", { method: "DELETE" })));
find("fault-form").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(() => api("/faults", { method: "POST", body: faultOrder(event.target) }));
});

setInterval(() => document.hidden || attempt(), REFRESH_MILLISECONDS);
attempt();
