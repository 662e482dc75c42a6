// A call as commands that do the same. Values that may be secrets are replaced by variables of a shell.

const SECRET = /auth|cookie|credential|key|password|secret|session|token/i;

export const isSecret = (name) => SECRET.test(name);

const variable = (name) => name.toUpperCase().replace(/[^A-Z0-9]/g, "_");
const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** A header as a word of a shell: a variable stays one. */
function header(name, value) {
  return isSecret(name) ? `"${name}: $${variable(name)}"` : quote(`${name}: ${value}`);
}

/** `call`: {service, method, path, target, tls, requests, metadata, apiKey}. */
export function asOxgrpc({ target, tls, path, requests, metadata }) {
  const words = ["oxgrpc", "call"];
  if (!tls) words.push("--plaintext");
  for (const [name, value] of metadata) words.push("-H", header(name, value));
  words.push("-d", quote(requests.join("\n")), target, path.replace(/^\//, ""));
  return words.join(" ");
}

/** A unary call by REST; a server stream as lines of JSON. */
export function asCurl({ base, service, method, serverStreaming, requests, metadata, hasKey }) {
  const words = ["curl", "-sS"];
  for (const [name, value] of metadata) words.push("-H", header(name, value));
  if (hasKey) words.push("-H", header("x-api-key", ""));
  words.push("-H", quote("content-type: application/json"));
  const body = { service, method, request_data: requests[0] ?? "{}" };
  const route = serverStreaming ? "v1/gateway/invoke-json-stream" : "v1/gateway/invoke-json";
  words.push("-d", quote(JSON.stringify(body)), quote(new URL(route, base).href));
  return words.join(" ");
}

const python = (text) => JSON.stringify(text);

/** A unary call by the Python client. */
export function asPython({ grpc, service, method, requests, metadata, hasKey }) {
  const [host, port] = splitAddress(grpc);
  const secret = hasKey || metadata.some(([name]) => isSecret(name));
  const value = (name, own) => (isSecret(name) ? `os.environ[${python(variable(name))}]` : python(own));
  const extra = [];
  if (hasKey) extra.push(`api_key=os.environ["X_API_KEY"]`);
  if (metadata.length) extra.push(`metadata=[${metadata.map(([name, own]) => `(${python(name)}, ${value(name, own)})`).join(", ")}]`);
  const options = [`host=${python(host)}`, `grpc_port=${port}`, ...extra].join(", ");
  return [
    "import asyncio",
    "import json",
    ...(secret ? ["import os"] : []),
    "",
    "from virtufin.api.client import ApiClient",
    "",
    "",
    "async def main():",
    `    async with ApiClient(${options}) as client:`,
    `        request = json.loads(${python(requests[0] ?? "{}")})`,
    `        response = await client.invoke_async(${python(service)}, ${python(method)}, request)`,
    "        print(json.dumps(response))",
    "",
    "",
    "asyncio.run(main())",
    "",
  ].join("\n");
}

function splitAddress(address) {
  const at = address.lastIndexOf(":");
  return [address.slice(0, at).replace(/^\[|\]$/g, ""), Number(address.slice(at + 1))];
}
