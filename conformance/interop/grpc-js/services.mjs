// The services of ../test.proto, and what both ends do with their arguments.
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const proto = fileURLToPath(new URL("../test.proto", import.meta.url));
const definition = loader.loadSync(proto, { keepCase: true, defaults: true });

export const { TestService, UnimplementedService } = grpc.loadPackageDefinition(definition).grpc.testing;

export const payload = (size) => ({ body: Buffer.alloc(size) });
