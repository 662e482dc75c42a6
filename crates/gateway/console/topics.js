// Events of a topic, or of all, as they come; and publishing one.

import { events, request } from "./api.js";
import { clock, el, notice } from "./dom.js";

/** Events that are shown; older ones make way. */
const SHOWN = 500;

export function topicsPage() {
  const topic = el("input", { placeholder: "all topics", "aria-label": "Topic" });
  const list = el("div", { className: "messages", tabIndex: 0, "aria-label": "Events" });
  const state = el("p", { className: "muted", "aria-live": "polite" }, "Not subscribed.");
  const follow = el("button", { className: "primary", type: "submit" }, "Subscribe");
  let abort = null;
  let count = 0;

  function decode(base64) {
    const octets = Uint8Array.from(atob(base64 ?? ""), (sign) => sign.charCodeAt(0));
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(octets);
    } catch {
      return `${octets.length} octets: ${base64}`;
    }
  }

  function stop() {
    abort?.abort();
    abort = null;
    follow.textContent = "Subscribe";
  }

  async function subscribe(event) {
    event.preventDefault();
    if (abort) {
      stop();
      state.textContent = "Not subscribed.";
      return;
    }
    const own = abort = new AbortController();
    follow.textContent = "Unsubscribe";
    const name = topic.value.trim();
    const path = name ? `/v1/pubsub/subscribe?topic=${encodeURIComponent(name)}` : "/v1/gateway/subscribe";
    count = 0;
    try {
      const response = await request("GET", path, undefined, own.signal);
      for await (const [kind, data] of events(response)) {
        if (kind === "subscribed") state.textContent = "Subscribed; waiting for events.";
        else if (kind === "status") throw new Error(JSON.parse(data).message);
        else show(JSON.parse(data));
      }
      state.textContent = "The subscription has ended.";
    } catch (error) {
      if (error.name !== "AbortError") state.textContent = error.message;
    }
    if (abort === own) stop();
  }

  function show(event) {
    state.textContent = `${++count} received`;
    list.prepend(el("div", { className: "message" },
      el("time", {}, clock(event.timestamp ? new Date(event.timestamp) : new Date())),
      el("strong", {}, event.topic), " ", el("small", {}, event.messageId ?? event.id ?? ""),
      el("pre", {}, decode(event.data)),
      event.metadata && Object.keys(event.metadata).length ? el("pre", { className: "muted" }, JSON.stringify(event.metadata)) : null));
    while (list.children.length > SHOWN) list.lastChild.remove();
  }

  const to = el("input", { required: true, placeholder: "topic", "aria-label": "Publish to topic" });
  const data = el("textarea", { "aria-label": "Event data", placeholder: "text or JSON" });
  const problem = el("p", { className: "bad", role: "alert" });
  async function publish(event) {
    event.preventDefault();
    problem.textContent = "";
    const octets = new TextEncoder().encode(data.value);
    let text = "";
    for (const octet of octets) text += String.fromCharCode(octet);
    try {
      await request("POST", "/v1/pubsub/publish", { topic: to.value.trim(), data: btoa(text) });
      notice(`Published to ${to.value.trim()}`);
    } catch (error) {
      problem.textContent = error.message;
    }
  }

  const element = [
    el("h1", {}, "Topics"),
    el("div", { className: "columns" },
      el("section", { className: "card" }, el("h2", {}, "Events"),
        el("form", { className: "row", onsubmit: subscribe }, topic, follow), state, list),
      el("form", { className: "card", onsubmit: publish }, el("h2", {}, "Publish"),
        el("label", { className: "field" }, el("span", {}, "Topic"), to),
        el("label", { className: "field" }, el("span", {}, "Data"), data), problem,
        el("button", { className: "primary", type: "submit" }, "Publish"))),
  ];
  return { element, leave: stop };
}
