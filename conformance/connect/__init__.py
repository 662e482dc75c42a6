"""The connectrpc conformance suite, with a client and a server on oxgrpc or on genuine grpcio."""
