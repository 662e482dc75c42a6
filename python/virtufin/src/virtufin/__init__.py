"""The Virtufin platform."""
