"""Measures oxgrpc by what others wrote: grpcio's own tests, grpc's interop cases and connectrpc's conformance suite."""
