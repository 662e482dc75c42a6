// The gateway's routes, relative to where the page lies, so that it works below any path of a proxy.

/** Settings live as long as the tab: they may hold secrets. */
export const settings = {
  get apiKey() { return sessionStorage.getItem("apiKey") ?? ""; },
  set apiKey(key) { sessionStorage.setItem("apiKey", key); },
  /** Metadata for every call: [[name, value], …]. */
  get metadata() { return JSON.parse(sessionStorage.getItem("metadata") ?? "[]"); },
  set metadata(pairs) { sessionStorage.setItem("metadata", JSON.stringify(pairs)); },
};

/** An answer that is an error. */
export class ApiError extends Error {
  constructor(status, { code = 2, message = "", details = [] } = {}) {
    super(message || `HTTP ${status}`);
    Object.assign(this, { status, code, details });
  }
}

/** Calls a route. Answers with the response once its headers are there; throws an ApiError for an error. */
export async function request(method, path, body, signal) {
  const headers = {};
  if (settings.apiKey) headers["x-api-key"] = settings.apiKey;
  if (body !== undefined) headers["content-type"] = typeof body === "string" ? "text/plain" : "application/json";
  const options = { method, headers, signal, cache: "no-store" };
  if (body !== undefined) options.body = typeof body === "string" ? body : JSON.stringify(body);
  let response;
  try {
    response = await fetch(new URL(path.replace(/^\//, ""), document.baseURI), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { code: 14, message: "the gateway cannot be reached" });
  }
  if (response.ok) return response;
  throw new ApiError(response.status, await response.json().catch(() => ({})));
}

export async function json(method, path, body) {
  return (await request(method, path, body)).json();
}

/** The lines of a response as they come. */
export async function* lines(response) {
  let rest = "";
  for await (const chunk of decoded(response.body.getReader())) {
    const parts = (rest + chunk).split("\n");
    rest = parts.pop();
    yield* parts;
  }
  if (rest) yield rest;
}

async function* decoded(reader) {
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield decoder.decode(value, { stream: true });
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Server-sent events of a response: [name, data]. */
export async function* events(response) {
  let name = "message", data = [];
  for await (const raw of lines(response)) {
    const line = raw.replace(/\r$/, "");
    if (line === "") {
      if (data.length) yield [name, data.join("\n")];
      name = "message"; data = [];
    }
    else if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
}

export const segment = encodeURIComponent;
/** A key may have slashes, which stay, and anything else, which is escaped. */
export const keyPath = (key) => key.split("/").map(segment).join("/");
