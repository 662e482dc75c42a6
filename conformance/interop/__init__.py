"""Runs grpc's interop cases between oxgrpc and the other implementations, each as client and as server."""
