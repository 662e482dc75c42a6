// The interop client on @grpc/grpc-js: one case, as grpc's doc/interop-test-descriptions.md has it.
//     client.mjs --port PORT --case CASE [--ca FILE --server-name NAME]
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import grpc from "@grpc/grpc-js";
import { TestService, UnimplementedService, payload } from "./services.mjs";

const MESSAGE = "test status message";
const SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
// What is asked for, and what is sent with it.
const PING_PONG = [[31415, 27182], [9, 8], [2653, 1828], [58979, 45904]];
const INITIAL = "x-grpc-test-echo-initial";
const TRAILING = "x-grpc-test-echo-trailing-bin";
const LARGE = { response_size: 314159, payload: payload(271828) };

const ping = ([response, request]) => ({ response_parameters: [{ size: response }], payload: payload(request) });

// All that a client learns of a call.
function unary(client, method, request, metadata = new grpc.Metadata()) {
  return new Promise((resolve) => {
    const seen = {};
    const finish = () => "status" in seen && "ended" in seen && resolve(seen);
    const call = client[method](request, metadata, (error, response) => {
      Object.assign(seen, { ended: true, response });
      finish();
    });
    call.on("metadata", (initial) => (seen.initial = initial));
    call.on("status", (status) => {
      seen.status = status;
      finish();
    });
  });
}

// A stream, its messages one after the other, and its status.
function watch(call) {
  const status = new Promise((resolve) => call.on("status", resolve));
  call.on("error", () => {});
  const initial = new Promise((resolve) => call.on("metadata", resolve));
  const messages = call[Symbol.asyncIterator] && call[Symbol.asyncIterator]();
  return { call, status, initial, next: async () => (await messages.next()).value };
}

function expectEcho(initial, trailing) {
  assert.deepEqual(initial.get(INITIAL), ["test_initial_metadata_value"]);
  assert.deepEqual(trailing.get(TRAILING), [Buffer.from([0xab, 0xab, 0xab])]);
}

function expectStatus(status, code, details) {
  assert.equal(status.code, code);
  if (details !== undefined) assert.equal(status.details, details);
}

const cases = {
  async empty_unary({ test }) {
    const { status, response } = await unary(test, "EmptyCall", {});
    expectStatus(status, grpc.status.OK);
    assert.deepEqual(response, {});
  },

  async large_unary({ test }) {
    const { response } = await unary(test, "UnaryCall", LARGE);
    assert.deepEqual(response.payload.body, Buffer.alloc(314159));
  },

  async client_streaming({ test }) {
    const response = await new Promise((resolve, reject) => {
      const call = test.StreamingInputCall((error, message) => (error ? reject(error) : resolve(message)));
      for (const size of [27182, 8, 1828, 45904]) call.write({ payload: payload(size) });
      call.end();
    });
    assert.equal(response.aggregated_payload_size, 74922);
  },

  async server_streaming({ test }) {
    const sizes = [31415, 9, 2653, 58979];
    const got = [];
    const call = test.StreamingOutputCall({ response_parameters: sizes.map((size) => ({ size })) });
    for await (const { payload: { body } } of call) got.push(body.length);
    assert.deepEqual(got, sizes);
  },

  async ping_pong({ test }) {
    const { call, status, next } = watch(test.FullDuplexCall());
    for (const sizes of PING_PONG) {
      call.write(ping(sizes));
      assert.deepEqual((await next()).payload.body, Buffer.alloc(sizes[0]));
    }
    call.end();
    assert.equal(await next(), undefined);
    expectStatus(await status, grpc.status.OK);
  },

  async empty_stream({ test }) {
    const { call, status, next } = watch(test.FullDuplexCall());
    call.end();
    assert.equal(await next(), undefined);
    expectStatus(await status, grpc.status.OK);
  },

  async cancel_after_begin({ test }) {
    const call = test.StreamingInputCall(() => {});
    setImmediate(() => call.cancel());
    expectStatus(await watch(call).status, grpc.status.CANCELLED);
  },

  async cancel_after_first_response({ test }) {
    const { call, status, next } = watch(test.FullDuplexCall());
    call.write(ping(PING_PONG[0]));
    assert.equal((await next()).payload.body.length, PING_PONG[0][0]);
    call.cancel();
    expectStatus(await status, grpc.status.CANCELLED);
  },

  async timeout_on_sleeping_server({ test }) {
    const { call, status } = watch(test.FullDuplexCall({ deadline: Date.now() + 1 }));
    call.write({ payload: payload(27182) });
    call.resume();
    expectStatus(await status, grpc.status.DEADLINE_EXCEEDED);
  },

  async status_code_and_message({ test }) {
    const request = { response_status: { code: grpc.status.UNKNOWN, message: MESSAGE } };
    expectStatus((await unary(test, "UnaryCall", request)).status, grpc.status.UNKNOWN, MESSAGE);
    const { call, status } = watch(test.FullDuplexCall());
    call.resume();
    call.write(request);
    call.end();
    expectStatus(await status, grpc.status.UNKNOWN, MESSAGE);
  },

  async special_status_message({ test }) {
    const request = { response_status: { code: grpc.status.UNKNOWN, message: SPECIAL } };
    expectStatus((await unary(test, "UnaryCall", request)).status, grpc.status.UNKNOWN, SPECIAL);
  },

  async unimplemented_method({ test }) {
    expectStatus((await unary(test, "UnimplementedCall", {})).status, grpc.status.UNIMPLEMENTED);
  },

  async unimplemented_service({ unimplemented }) {
    expectStatus((await unary(unimplemented, "UnimplementedCall", {})).status, grpc.status.UNIMPLEMENTED);
  },

  async custom_metadata({ test }) {
    const metadata = new grpc.Metadata();
    metadata.set(INITIAL, "test_initial_metadata_value");
    metadata.set(TRAILING, Buffer.from([0xab, 0xab, 0xab]));
    const seen = await unary(test, "UnaryCall", LARGE, metadata);
    assert.equal(seen.response.payload.body.length, 314159);
    expectEcho(seen.initial, seen.status.metadata);
    const { call, status, initial, next } = watch(test.FullDuplexCall(metadata));
    call.write(ping([314159, 271828]));
    assert.equal((await next()).payload.body.length, 314159);
    call.end();
    assert.equal(await next(), undefined);
    expectEcho(await initial, (await status).metadata);
  },
};

const text = { type: "string" };
const { values } = parseArgs({ options: { port: text, case: text, ca: text, "server-name": text } });
const credentials = values.ca
  ? grpc.credentials.createSsl(readFileSync(values.ca))
  : grpc.credentials.createInsecure();
const options = values.ca ? { "grpc.ssl_target_name_override": values["server-name"] } : {};
const target = [`127.0.0.1:${values.port}`, credentials, options];
const test = new TestService(...target);
const unimplemented = new UnimplementedService(...target);
await cases[values.case]({ test, unimplemented });
test.close();
unimplemented.close();
