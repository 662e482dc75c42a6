"""Calls through the proxies that people put in front of gRPC: nghttpx, haproxy and nginx."""
