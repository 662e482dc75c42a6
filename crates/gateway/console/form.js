// A form for a message, made of its schema. Form and JSON are two views of one value.

import { el } from "./dom.js";

const INTEGERS = /^(u?int|s?fixed|sint)(32|64)$/;
const WRAPPERS = /^google\.protobuf\.(Bool|Bytes|Double|Float|Int32|Int64|String|UInt32|UInt64)Value$/;
const JSON_TYPES = ["Any", "Struct", "Value", "ListValue"].map((name) => `google.protobuf.${name}`);

/** Makes a form for the message type `name`: `{element, read(), write(value)}`. `read` throws where something is wrong. */
export function messageForm(schema, name, depth = 0) {
  const { fields } = schema.types[name];
  const groups = new Map();
  const parts = [];
  const container = el("div");
  for (const field of fields) {
    if (field.oneof) {
      if (!groups.has(field.oneof)) {
        const group = oneofForm(schema, field.oneof, fields.filter((other) => other.oneof === field.oneof), depth);
        groups.set(field.oneof, group);
        parts.push(group);
        container.append(group.element);
      }
      continue;
    }
    const part = fieldForm(schema, field, depth);
    parts.push(part);
    container.append(part.element);
  }
  if (!parts.length) container.append(el("p", { className: "muted" }, "No fields."));
  return {
    element: container,
    read() { return Object.assign({}, ...parts.map((part) => part.read())); },
    write(value) { for (const part of parts) part.write(value ?? {}); },
  };
}

const given = (object, field) => object[field.jsonName] ?? object[field.name];

function oneofForm(schema, name, fields, depth) {
  const choice = el("select", { "aria-label": name, onchange: show },
    el("option", { value: "" }, "(none)"), fields.map((field) => el("option", { value: field.jsonName }, field.name)));
  const place = el("div");
  let chosen = null;
  function show() {
    const field = fields.find((field) => field.jsonName === choice.value);
    chosen = field ? { field, input: valueForm(schema, field.value, field.name, depth) } : null;
    place.replaceChildren(...(chosen ? [chosen.input.element] : []));
  }
  return {
    element: el("fieldset", { className: "field" }, el("legend", {}, name, " ", el("small", {}, "one of")), choice, place),
    read() { return chosen ? { [chosen.field.jsonName]: chosen.input.read() ?? chosen.input.empty } : {}; },
    write(value) {
      const field = fields.find((field) => given(value, field) !== undefined);
      choice.value = field?.jsonName ?? "";
      show();
      if (chosen) chosen.input.write(given(value, chosen.field));
    },
  };
}

function fieldForm(schema, field, depth) {
  if (field.key) return entriesForm(schema, field, depth);
  if (field.list) return listForm(schema, field, depth);
  const input = valueForm(schema, field.value, field.name, depth);
  return {
    element: labelled(field, input),
    read() {
      const value = input.read();
      return value === undefined ? {} : { [field.jsonName]: value };
    },
    write(value) { input.write(given(value, field)); },
  };
}

function typeName(value) {
  return value.type ?? value.kind;
}

function labelled(field, input) {
  const title = el("span", {}, field.name, " ", el("small", {}, typeName(field.value) + (field.optional ? ", optional" : "")));
  if (input.isGroup) return el("div", { className: "field", role: "group", "aria-label": field.name }, title, input.element);
  return el("label", { className: "field" }, title, input.element);
}

function listForm(schema, field, depth) {
  const items = [];
  const place = el("div");
  function add(value) {
    const input = valueForm(schema, field.value, `${field.name} ${items.length + 1}`, depth);
    input.write(value);
    const remove = el("button", { type: "button", "aria-label": `Remove from ${field.name}`, onclick() {
      items.splice(items.indexOf(item), 1);
      item.element.remove();
    } }, "Remove");
    const item = { input, element: el("div", { className: "row" }, input.element, remove) };
    items.push(item);
    place.append(item.element);
  }
  const button = el("button", { type: "button", onclick: () => add() }, `Add to ${field.name}`);
  return {
    element: el("fieldset", { className: "field" }, el("legend", {}, field.name, " ", el("small", {}, `list of ${typeName(field.value)}`)), place, button),
    read() { return items.length ? { [field.jsonName]: items.map(({ input }) => input.read() ?? input.empty) } : {}; },
    write(value) {
      items.splice(0);
      place.replaceChildren();
      for (const item of given(value, field) ?? []) add(item);
    },
  };
}

function entriesForm(schema, field, depth) {
  const entries = [];
  const place = el("div");
  function add(key = "", value) {
    const name = el("input", { value: key, "aria-label": `Key of ${field.name}`, placeholder: "key" });
    const input = valueForm(schema, field.value, `Value of ${field.name}`, depth);
    input.write(value);
    const remove = el("button", { type: "button", "aria-label": `Remove from ${field.name}`, onclick() {
      entries.splice(entries.indexOf(entry), 1);
      entry.element.remove();
    } }, "Remove");
    const entry = { name, input, element: el("div", { className: "row" }, name, input.element, remove) };
    entries.push(entry);
    place.append(entry.element);
  }
  const button = el("button", { type: "button", onclick: () => add() }, `Add to ${field.name}`);
  return {
    element: el("fieldset", { className: "field" }, el("legend", {}, field.name, " ", el("small", {}, `map to ${typeName(field.value)}`)), place, button),
    read() {
      const read = entries.map(({ name, input }) => [name.value, input.read() ?? input.empty]);
      return read.length ? { [field.jsonName]: Object.fromEntries(read) } : {};
    },
    write(value) {
      entries.splice(0);
      place.replaceChildren();
      for (const [key, item] of Object.entries(given(value, field) ?? {})) add(key, item);
    },
  };
}

/** An input for one value. `read` gives undefined for what is left empty, `empty` is what stands for it in a list. */
function valueForm(schema, value, name, depth) {
  if (value.kind === "bool") return choiceForm(name, ["true", "false"], (text) => text === "true", false);
  if (value.kind === "enum") {
    if (value.type === "google.protobuf.NullValue") return choiceForm(name, ["null"], () => null, null);
    const { values } = schema.types[value.type];
    return choiceForm(name, values, (text) => text, values[0]);
  }
  if (value.kind === "bytes") return bytesForm(name);
  if (value.kind === "message") return messageValueForm(schema, value.type, name, depth);
  if (INTEGERS.test(value.kind)) {
    // Text: numbers of 64 bits do not fit into JavaScript's.
    return textForm(name, { inputMode: "numeric" }, (text) => {
      if (!/^-?\d+$/.test(text)) throw new Error(`${name}: ${text} is no integer`);
      return value.kind.endsWith("64") ? text : Number(text);
    }, "0");
  }
  if (value.kind === "double" || value.kind === "float") {
    return textForm(name, { inputMode: "decimal" }, (text) => {
      if (["NaN", "Infinity", "-Infinity"].includes(text)) return text;
      if (Number.isNaN(Number(text))) throw new Error(`${name}: ${text} is no number`);
      return Number(text);
    }, 0);
  }
  return textForm(name, {}, (text) => text, "");
}

function textForm(name, properties, parse, empty) {
  const input = el("input", { type: "text", autocomplete: "off", "aria-label": name, ...properties });
  return {
    element: input, empty,
    read() { return input.value === "" ? undefined : parse(input.value); },
    write(value) { input.value = value ?? ""; },
  };
}

function choiceForm(name, options, parse, empty) {
  const select = el("select", { "aria-label": name }, el("option", { value: "" }, "(default)"), options.map((option) => el("option", {}, option)));
  return {
    element: select, empty,
    read() { return select.value === "" ? undefined : parse(select.value); },
    write(value) { select.value = value === undefined ? "" : String(value); },
  };
}

function bytesForm(name) {
  const input = el("input", { type: "text", "aria-label": `${name} as base64`, placeholder: "base64" });
  const file = el("input", { type: "file", "aria-label": `${name} from a file`, async onchange() {
    const octets = new Uint8Array(await file.files[0].arrayBuffer());
    let text = "";
    for (let at = 0; at < octets.length; at += 32768) text += String.fromCharCode(...octets.subarray(at, at + 32768));
    input.value = btoa(text);
  } });
  return {
    element: el("div", { className: "row" }, input, file), isGroup: true, empty: "",
    read() { return input.value === "" ? undefined : input.value; },
    write(value) { input.value = value ?? ""; },
  };
}

function messageValueForm(schema, type, name, depth) {
  if (type === "google.protobuf.Timestamp") {
    const time = textForm(name, { placeholder: "2026-01-31T12:00:00Z" }, (text) => text, "1970-01-01T00:00:00Z");
    const now = el("button", { type: "button", onclick: () => time.write(new Date().toISOString()) }, "Now");
    return { ...time, element: el("div", { className: "row" }, time.element, now), isGroup: true };
  }
  if (type === "google.protobuf.Duration") return textForm(name, { placeholder: "1.5s" }, (text) => text, "0s");
  if (type === "google.protobuf.FieldMask") return textForm(name, { placeholder: "name,address.street" }, (text) => text, "");
  if (WRAPPERS.test(type)) {
    const kind = type.match(WRAPPERS)[1].toLowerCase();
    return valueForm(schema, { kind }, name, depth);
  }
  if (JSON_TYPES.includes(type)) {
    const area = el("textarea", { "aria-label": `${name} as JSON`, placeholder: "JSON" });
    return {
      element: area, empty: null,
      read() { return area.value.trim() === "" ? undefined : JSON.parse(area.value); },
      write(value) { area.value = value === undefined ? "" : JSON.stringify(value, null, 2); },
    };
  }
  // Built when it is wanted: types may contain themselves.
  let inner = null;
  const set = el("input", { type: "checkbox", onchange: show });
  const place = el("div");
  function show() {
    inner = set.checked ? messageForm(schema, type, depth + 1) : null;
    place.replaceChildren(...(inner ? [inner.element] : []));
  }
  return {
    element: el("fieldset", {}, el("legend", {}, el("label", {}, set, ` set ${name}`)), place), isGroup: true, empty: {},
    read() { return inner?.read(); },
    write(value) {
      set.checked = value !== undefined && value !== null;
      show();
      inner?.write(value);
    },
  };
}
