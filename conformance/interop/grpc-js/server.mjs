// The interop server on @grpc/grpc-js. It prints its port.
//     server.mjs [--cert FILE --key FILE]
import { readFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { parseArgs } from "node:util";
import grpc from "@grpc/grpc-js";
import { TestService, payload } from "./services.mjs";

const INITIAL = "x-grpc-test-echo-initial";
const TRAILING = "x-grpc-test-echo-trailing-bin";

function echoMetadata(call) {
  const initial = call.metadata.get(INITIAL);
  if (initial.length > 0) {
    const metadata = new grpc.Metadata();
    metadata.set(INITIAL, initial[0]);
    call.sendMetadata(metadata);
  }
  const trailing = new grpc.Metadata();
  for (const value of call.metadata.get(TRAILING)) trailing.add(TRAILING, value);
  return trailing;
}

const statusOf = ({ response_status: status }) => status && status.code && { code: status.code, details: status.message };

async function respond(call, request) {
  for (const { size, interval_us: interval } of request.response_parameters) {
    if (interval > 0) await setTimeout(interval / 1000);
    call.write({ payload: payload(size) });
  }
}

const handlers = {
  EmptyCall: (call, callback) => callback(null, {}),

  UnaryCall(call, callback) {
    const trailing = echoMetadata(call);
    const status = statusOf(call.request);
    if (status) callback({ ...status, metadata: trailing });
    else callback(null, { payload: payload(call.request.response_size) }, trailing);
  },

  StreamingInputCall(call, callback) {
    let total = 0;
    call.on("data", (request) => (total += request.payload.body.length));
    call.on("end", () => callback(null, { aggregated_payload_size: total }));
  },

  async StreamingOutputCall(call) {
    await respond(call, call.request);
    call.end();
  },

  async FullDuplexCall(call) {
    const trailing = echoMetadata(call);
    try {
      // Reading to the end must not destroy what is written to.
      for await (const request of call.iterator({ destroyOnReturn: false })) {
        const status = statusOf(request);
        if (status) {
          call.emit("error", { ...status, metadata: trailing });
          return;
        }
        await respond(call, request);
      }
      call.end(trailing);
    } catch (error) {
      if (!call.cancelled) throw error;
    }
  },
};

const { values } = parseArgs({ options: { cert: { type: "string" }, key: { type: "string" } } });
const server = new grpc.Server();
server.addService(TestService.service, handlers);
const credentials = values.cert
  ? grpc.ServerCredentials.createSsl(null, [
      { private_key: readFileSync(values.key), cert_chain: readFileSync(values.cert) },
    ])
  : grpc.ServerCredentials.createInsecure();
server.bindAsync("127.0.0.1:0", credentials, (error, port) => {
  if (error) throw error;
  console.log(port);
});
