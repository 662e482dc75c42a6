"""Measures oxgrpc by what others wrote: grpcio's own tests, and grpc's interop cases with other implementations."""
