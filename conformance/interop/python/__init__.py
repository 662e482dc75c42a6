"""The interop programs that run on oxgrpc and on genuine grpcio."""
