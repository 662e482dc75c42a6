// Key/value state of a service: look, edit, and see where somebody else was quicker.

import { json, keyPath, request, segment } from "./api.js";
import { el, notice } from "./dom.js";

const ABORTED = 10;

export async function statePage(service = "") {
  const { services } = await json("GET", "/v1/console/services");
  const name = el("input", { value: service, list: "services", required: true, placeholder: "service", "aria-label": "Service" });
  const choose = el("form", { className: "card row", onsubmit(event) {
    event.preventDefault();
    location.hash = `#/state/${segment(name.value.trim())}`;
  } }, name, el("datalist", { id: "services" }, services.map((known) => el("option", { value: known.name }))),
  el("button", { className: "primary", type: "submit" }, "Show"));
  const element = [el("h1", {}, service ? `State of ${service}` : "State"), choose];
  if (!service) return { element };

  const rows = el("tbody");
  const editor = el("section", { className: "card", "aria-label": "Editor" });

  async function list() {
    const { values = {} } = await json("GET", `/v1/state/${segment(service)}`);
    rows.replaceChildren(...Object.entries(values).sort().map(([key, value]) => el("tr", {},
      el("td", {}, el("button", { onclick: () => open(key) }, key)), el("td", { className: "mono" }, value.slice(0, 120)))));
    if (!rows.children.length) rows.append(el("tr", {}, el("td", { colSpan: 2, className: "muted" }, "No values.")));
  }

  async function open(key) {
    const found = await json("GET", `/v1/state/${segment(service)}/${keyPath(key)}`);
    edit(key, found.value, found.etag);
  }

  /** Shows a value to edit; without a key, a new one. */
  function edit(key, value, etag) {
    const own = el("input", { value: key ?? "", readOnly: key !== undefined, required: true, "aria-label": "Key" });
    const area = el("textarea", { value: value ?? "", "aria-label": "Value", rows: 8 });
    const tag = el("p", { className: "muted" }, etag ? `etag ${etag}` : "new");
    const problem = el("div", { role: "alert" });

    async function save(condition) {
      problem.replaceChildren();
      try {
        const answer = await json("POST", "/v1/state/save-state", { service, key: own.value, value: area.value, ...condition });
        notice(`Saved ${own.value}`);
        await list();
        edit(own.value, area.value, answer.etag);
      } catch (error) {
        await refused(error, () => save({}));
      }
    }

    async function remove(condition) {
      problem.replaceChildren();
      const query = condition.etag ? `?etag=${segment(condition.etag)}` : "";
      try {
        await request("DELETE", `/v1/state/${segment(service)}/${keyPath(own.value)}${query}`);
        notice(`Deleted ${own.value}`);
        await list();
        edit();
      } catch (error) {
        await refused(error, () => remove({}));
      }
    }

    async function refused(error, insist) {
      if (error.code !== ABORTED) {
        problem.replaceChildren(el("p", { className: "bad" }, error.message));
        return;
      }
      const now = await json("GET", `/v1/state/${segment(service)}/${keyPath(own.value)}`);
      problem.replaceChildren(el("fieldset", { className: "conflict" },
        el("legend", { className: "bad" }, "Somebody else has changed this value"),
        el("pre", {}, now.etag ? now.value : "(deleted)"),
        el("div", { className: "row" },
          el("button", { type: "button", onclick: () => edit(own.value, now.value, now.etag) }, "Take theirs"),
          el("button", { type: "button", onclick: insist }, "Keep mine"))));
    }

    editor.replaceChildren(el("h2", {}, key ?? "New value"), el("form", { onsubmit(event) {
      event.preventDefault();
      save(etag ? { etag } : { createOnly: true });
    } }, el("label", { className: "field" }, el("span", {}, "Key"), own),
    el("label", { className: "field" }, el("span", {}, "Value"), area), tag, problem,
    el("div", { className: "row" }, el("button", { className: "primary", type: "submit" }, "Save"),
      etag ? el("button", { type: "button", onclick: () => remove({ etag }) }, "Delete") : null,
      key === undefined ? null : el("button", { type: "button", onclick: () => edit() }, "New"))));
  }

  await list();
  edit();
  element.push(el("div", { className: "columns" },
    el("section", { className: "card", "aria-label": "Keys" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", {}, "Key"), el("th", {}, "Value"))), rows)), editor));
  return { element };
}
