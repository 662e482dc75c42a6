// One method: a form, the call, and what it answers. All four kinds are the same page: messages go out one by one, and come
// in as they come.

import { ApiError, json, lines, request, segment, settings } from "./api.js";
import { asCurl, asOxgrpc, asPython, isSecret } from "./copy.js";
import { clock, el, notice, pretty } from "./dom.js";
import { messageForm } from "./form.js";
import { remember, remembered } from "./history.js";

/** Messages that are shown; older ones make way, so that a long stream does not fill the page. */
const SHOWN = 500;

export async function callPage(service, method, again) {
  const [{ services, grpc }, schema] = await Promise.all([
    json("GET", "/v1/console/services"),
    json("GET", `/v1/console/schema/${segment(service)}/${segment(method)}`),
  ]);
  const backend = services.find((known) => known.name.toLowerCase() === service.toLowerCase());
  const known = backend?.methods.find((own) => own.fullName === schema.fullName);
  const { clientStreaming, serverStreaming } = schema;
  const form = messageForm(schema, schema.input);
  const area = el("textarea", { "aria-label": "Request as JSON", spellcheck: false, rows: 10, hidden: true });
  const problem = el("p", { className: "bad", role: "alert" });
  let running = null;

  // Form and JSON are two views of one value.
  const asText = el("input", { type: "checkbox", onchange() {
    try {
      if (asText.checked) area.value = JSON.stringify(form.read(), null, 2);
      else form.write(JSON.parse(area.value || "{}"));
      problem.textContent = "";
    } catch (error) {
      asText.checked = !asText.checked;
      problem.textContent = error.message;
    }
    area.hidden = !asText.checked;
    form.element.hidden = asText.checked;
  } });
  const read = () => (asText.checked ? area.value.trim() || "{}" : JSON.stringify(form.read()));

  const names = el("div");
  const pairs = [];
  function addPair(name = "", value = "") {
    const inputs = [
      el("input", { value: name, placeholder: "name", "aria-label": "Metadata name", oninput() { inputs[1].type = isSecret(inputs[0].value) ? "password" : "text"; } }),
      el("input", { value, placeholder: "value", "aria-label": "Metadata value", type: isSecret(name) ? "password" : "text", autocomplete: "off" }),
    ];
    pairs.push(inputs);
    names.append(el("div", { className: "row" }, inputs));
  }
  for (const [name, value] of settings.metadata) addPair(name, value);
  const metadata = () => pairs.map(([name, value]) => [name.value.trim(), value.value]).filter(([name]) => name);
  const timeout = el("input", { type: "number", min: 0, placeholder: "none", "aria-label": "Timeout in milliseconds" });

  const start = el("button", { className: "primary", type: "submit" }, clientStreaming ? "Start" : "Call");
  const send = el("button", { type: "button", disabled: true, onclick: sendOne }, "Send");
  const close = el("button", { type: "button", disabled: true, onclick: closeSending }, "Close sending");
  const cancel = el("button", { type: "button", disabled: true, onclick: cancelCall }, "Cancel");
  const status = el("p", { className: "status", "aria-live": "polite" });
  const messages = el("div", { className: "messages", tabIndex: 0, "aria-label": "Messages" });
  const headers = el("pre", { className: "muted" });
  let count = 0;

  function show(text, isOut) {
    count += isOut ? 0 : 1;
    messages.append(el("div", { className: isOut ? "message out" : "message in" },
      el("time", {}, `${clock()} ${isOut ? "sent" : "received"}`), el("pre", {}, pretty(text))));
    while (messages.children.length > SHOWN) messages.firstChild.remove();
    if (serverStreaming) status.textContent = `${count} received`;
  }

  function buttons() {
    start.disabled = running !== null;
    send.disabled = close.disabled = running === null || !clientStreaming || running.closed;
    cancel.disabled = running === null;
  }

  function fail(error) {
    const details = error instanceof ApiError && error.details.length ? `\n${JSON.stringify(error.details, null, 2)}` : "";
    problem.textContent = error.message + details;
  }

  async function begin(event) {
    event.preventDefault();
    problem.textContent = status.textContent = headers.textContent = "";
    messages.replaceChildren();
    count = 0;
    let first;
    try {
      first = clientStreaming ? null : read();
    } catch (error) {
      return fail(error);
    }
    const call = { service, method, metadata: metadata(), requests: [], closed: false, abort: new AbortController() };
    running = call;
    buttons();
    let ended = { status: "UNAVAILABLE", message: "the answer broke off", details: [] };
    try {
      const body = { service, method, metadata: Object.fromEntries(call.metadata), timeoutMs: Number(timeout.value) || 0 };
      const response = await request("POST", "/v1/console/calls", body, call.abort.signal);
      for await (const line of lines(response)) {
        const part = JSON.parse(line);
        if (part.id) {
          call.id = part.id;
          if (first !== null) {
            await give(call, first);
            await closeSending();
          }
        }
        else if (part.headers) headers.textContent = Object.entries(part.headers).map(([name, value]) => `${name}: ${value}`).join("\n");
        else if (part.message !== undefined && part.status === undefined) show(part.message, false);
        else ended = part;
      }
      finish(call, ended);
    } catch (error) {
      // A request that does not fit leaves a call without one: it goes.
      call.abort.abort();
      running = null;
      buttons();
      if (error.name !== "AbortError") fail(error);
      else finish(call, { status: "CANCELLED", message: "", details: [] });
    }
  }

  function finish(call, { status: word, message, details, ms }) {
    running = null;
    buttons();
    const time = ms === undefined ? "" : ` in ${ms.toFixed(1)} ms`;
    status.replaceChildren(el("strong", { className: word === "OK" ? "good" : "bad" }, word), `${time} ${message ?? ""}`,
      details?.length ? el("pre", {}, JSON.stringify(details, null, 2)) : "");
    remember({ ...call, status: word, ms });
  }

  async function give(call, text) {
    await request("POST", `/v1/console/calls/${call.id}/messages`, text);
    call.requests.push(text);
    if (clientStreaming) show(text, true);
  }

  async function sendOne() {
    problem.textContent = "";
    try {
      await give(running, read());
    } catch (error) {
      fail(error);
    }
  }

  async function closeSending() {
    if (!running || running.closed) return;
    running.closed = true;
    buttons();
    await request("POST", `/v1/console/calls/${running.id}/end`).catch(fail);
  }

  async function cancelCall() {
    if (running?.id) await request("DELETE", `/v1/console/calls/${running.id}`).catch(fail);
    else running?.abort.abort();
  }

  async function copy(make) {
    try {
      const requests = running?.requests.length ? running.requests : [read()];
      const host = backend?.hosts[0];
      const text = make({
        service, method, requests, metadata: metadata(), serverStreaming, grpc,
        path: known?.path ?? `/${schema.fullName}`, target: host?.address ?? grpc, tls: host?.tls ?? false,
        base: document.baseURI, hasKey: Boolean(settings.apiKey),
      });
      copied.value = text;
      copied.hidden = false;
      await navigator.clipboard?.writeText(text).then(() => notice("Copied"), () => {});
    } catch (error) {
      fail(error);
    }
  }
  const copied = el("textarea", { readOnly: true, hidden: true, "aria-label": "Copied command" });

  if (again !== undefined) {
    const call = remembered()[again];
    if (call) {
      area.value = call.requests[0] ?? "{}";
      try { form.write(JSON.parse(area.value)); } catch { /* The text view shows it as it is. */ }
      for (const name of call.metadata) if (!metadata().some(([own]) => own === name)) addPair(name, "");
    }
  }

  const kind = clientStreaming ? (serverStreaming ? "bidirectional stream" : "client stream") : (serverStreaming ? "server stream" : "unary");
  const element = [
    el("h1", {}, `${service} / ${method.split(".").pop()} `, el("small", {}, kind)),
    el("div", { className: "columns" },
      el("form", { className: "card", onsubmit: begin },
        el("h2", {}, "Request ", el("small", {}, schema.input)),
        el("label", {}, asText, " as JSON"),
        form.element, area, problem,
        el("details", { open: pairs.length > 0 }, el("summary", {}, "Metadata and timeout"), names,
          el("button", { type: "button", onclick: () => addPair() }, "Add metadata"),
          el("label", { className: "field" }, el("span", {}, "Timeout ", el("small", {}, "ms")), timeout)),
        el("div", { className: "row" }, start, clientStreaming ? send : null, clientStreaming ? close : null, cancel)),
      el("section", { className: "card", "aria-label": "Response" },
        el("h2", {}, "Response ", el("small", {}, schema.output)), status, messages,
        el("details", {}, el("summary", {}, "Headers"), headers))),
    el("section", { className: "card", "aria-label": "Copy" }, el("h2", {}, "The same elsewhere"),
      el("div", { className: "row" },
        el("button", { onclick: () => copy(asOxgrpc) }, "Copy as oxgrpc"),
        clientStreaming ? null : el("button", { onclick: () => copy(asCurl) }, "Copy as curl"),
        clientStreaming || serverStreaming ? null : el("button", { onclick: () => copy(asPython) }, "Copy as Python")),
      copied),
  ];
  return { element, leave() { running?.abort.abort(); } };
}
