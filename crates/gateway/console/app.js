// The pages and which of them is shown: `#/page/arguments`.

import { json, segment, settings } from "./api.js";
import { callPage } from "./call.js";
import { el, notice } from "./dom.js";
import { historyPage } from "./history.js";
import { statePage } from "./state.js";
import { topicsPage } from "./topics.js";

const REFRESH_MS = 5000;

function health(host) {
  const word = { serving: "good", down: "bad" }[host.health] ?? "muted";
  const since = host.since ? ` since ${new Date(host.since).toLocaleTimeString()}` : "";
  return el("li", {}, el("code", {}, host.address), " ", el("span", { className: word }, host.health + since), host.reason ? el("div", { className: "bad" }, host.reason) : null);
}

async function servicesPage() {
  const place = el("div");
  async function show() {
    const { services } = await json("GET", "/v1/console/services");
    place.replaceChildren(...services.map((service) => el("section", { className: "card", "aria-label": service.name },
      el("h2", {}, service.name),
      el("ul", { className: "plain" }, service.hosts.map(health)),
      service.error ? el("p", { className: "bad" }, service.error) : null,
      el("ul", { className: "plain" }, service.methods.map((method) => el("li", {},
        el("a", { href: `#/call/${segment(service.name)}/${segment(method.fullName)}` }, method.fullName),
        " ", el("small", {}, [method.clientStreaming ? "stream in" : "", method.serverStreaming ? "stream out" : ""].filter(Boolean).join(", "))))))));
    if (!services.length) place.replaceChildren(el("p", {}, "No services are registered."));
  }
  await show();
  // What has the focus keeps it: the list is renewed only while nothing in it is used.
  const timer = setInterval(() => { if (!place.contains(document.activeElement)) show().catch((error) => notice(error.message)); }, REFRESH_MS);
  return { element: [el("h1", {}, "Services"), place], leave: () => clearInterval(timer) };
}

function settingsPage() {
  const key = el("input", { type: "password", value: settings.apiKey, autocomplete: "off", "aria-label": "API key" });
  const pairs = el("textarea", { "aria-label": "Metadata for every call", value: settings.metadata.map((pair) => pair.join(": ")).join("\n"), placeholder: "name: value" });
  return { element: [el("h1", {}, "Settings"), el("form", { className: "card", onsubmit(event) {
    event.preventDefault();
    settings.apiKey = key.value;
    settings.metadata = pairs.value.split("\n").filter((line) => line.includes(":")).map((line) => {
      const at = line.indexOf(":");
      return [line.slice(0, at).trim().toLowerCase(), line.slice(at + 1).trim()];
    });
    notice("Kept until this tab is closed");
  } }, el("label", { className: "field" }, el("span", {}, "API key ", el("small", {}, "sent as x-api-key")), key),
  el("label", { className: "field" }, el("span", {}, "Metadata for every call ", el("small", {}, "a line each")), pairs),
  el("button", { className: "primary", type: "submit" }, "Keep"))] };
}

const PAGES = {
  services: servicesPage,
  call: (service, method, again) => callPage(service, method, again),
  topics: topicsPage,
  state: statePage,
  history: historyPage,
  settings: settingsPage,
};

let current = {};
let turn = 0;

async function show() {
  const own = ++turn;
  const [name, ...words] = (location.hash.replace(/^#\//, "") || "services").split("/").map(decodeURIComponent);
  current.leave?.();
  current = {};
  const main = document.getElementById("main");
  for (const link of document.querySelectorAll("nav a")) {
    const isCurrent = link.hash === `#/${name}` || (name === "call" && link.hash === "#/services");
    if (isCurrent) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  try {
    const page = await (PAGES[name] ?? servicesPage)(...words);
    // Another page was asked for in the meantime.
    if (own !== turn) return page.leave?.();
    current = page;
    main.replaceChildren(...page.element);
  } catch (error) {
    if (own !== turn) return;
    const way = error.status === 401 ? el("p", {}, el("a", { href: "#/settings" }, "Enter the API key")) : el("button", { onclick: show }, "Try again");
    main.replaceChildren(el("div", { className: "card" }, el("p", { className: "bad", role: "alert" }, error.message), way));
  }
  main.focus({ preventScroll: true });
  main.dataset.page = name;
}

addEventListener("hashchange", show);
show();
