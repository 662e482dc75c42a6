// Calls that were made here, to look at and to make again. Of their metadata only the names are kept.

import { clock, el } from "./dom.js";

const KEPT = 200;

export function remembered() {
  try {
    return JSON.parse(localStorage.getItem("history") ?? "[]");
  } catch {
    return [];
  }
}

export function remember(call) {
  const { service, method, requests, metadata, status, ms } = call;
  const entry = { service, method, requests, metadata: metadata.map(([name]) => name), status, ms, at: Date.now() };
  try {
    localStorage.setItem("history", JSON.stringify([entry, ...remembered()].slice(0, KEPT)));
  } catch {
    // The browser's store is full or switched off: calls work without it.
  }
}

export function historyPage() {
  const filter = el("input", { type: "search", placeholder: "Filter", "aria-label": "Filter calls", oninput: show });
  const rows = el("tbody");
  function show() {
    const wanted = filter.value.toLowerCase();
    rows.replaceChildren(...remembered()
      .map((call, index) => [call, index])
      .filter(([call]) => `${call.service} ${call.method} ${call.status} ${call.requests.join(" ")}`.toLowerCase().includes(wanted))
      .map(([call, index]) => el("tr", {},
        el("td", {}, clock(new Date(call.at))),
        el("td", {}, el("a", { href: `#/call/${encodeURIComponent(call.service)}/${encodeURIComponent(call.method)}/${index}` }, `${call.service} ${call.method}`),
          el("pre", { className: "muted" }, call.requests.join("\n").slice(0, 300))),
        el("td", { className: call.status === "OK" ? "good" : "bad" }, call.status))));
    if (!rows.children.length) rows.append(el("tr", {}, el("td", { colSpan: 3, className: "muted" }, "No calls.")));
  }
  show();
  const forget = el("button", { onclick() { localStorage.removeItem("history"); show(); } }, "Forget all");
  return { element: [el("h1", {}, "History"), el("div", { className: "card" }, el("div", { className: "row" }, filter, forget),
    el("table", {}, el("thead", {}, el("tr", {}, el("th", {}, "Time"), el("th", {}, "Call"), el("th", {}, "Status"))), rows))] };
}
