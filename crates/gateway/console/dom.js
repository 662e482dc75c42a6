// Elements without a framework.

// Names that are attributes only: their properties cannot be set.
const ATTRIBUTES = new Set(["list", "role"]);

/** Makes an element. Properties that begin with "on" are listeners; those with a dash are attributes. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.includes("-") || ATTRIBUTES.has(name)) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Says something in passing, to readers of screens too. */
export function notice(text) {
  const place = document.getElementById("notice");
  place.replaceChildren(el("p", {}, text));
  clearTimeout(notice.timer);
  notice.timer = setTimeout(() => place.replaceChildren(), 4000);
}

/** Formats JSON text without touching its numbers: 64-bit ones are text, but a backend's may not be. */
export function pretty(text) {
  let depth = 0, inside = false, out = "";
  for (let at = 0; at < text.length; at++) {
    const sign = text[at];
    if (inside) {
      out += sign;
      if (sign === "\\") out += text[++at] ?? "";
      else if (sign === '"') inside = false;
      continue;
    }
    if (sign === '"') { inside = true; out += sign; }
    else if (sign === "{" || sign === "[") {
      const closing = text.slice(at + 1).match(/^\s*[}\]]/);
      if (closing) { out += sign + closing[0].trim(); at += closing[0].length; }
      else out += sign + "\n" + "  ".repeat(++depth);
    }
    else if (sign === "}" || sign === "]") out += "\n" + "  ".repeat(--depth) + sign;
    else if (sign === ",") out += ",\n" + "  ".repeat(depth);
    else if (sign === ":") out += ": ";
    else if (!/\s/.test(sign)) out += sign;
  }
  return out;
}

/** The time of day, to the millisecond. */
export function clock(date = new Date()) {
  return date.toTimeString().slice(0, 8) + "." + String(date.getMilliseconds()).padStart(3, "0");
}
