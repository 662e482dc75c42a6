"""The Virtufin API: its client is :mod:`virtufin.api.client`."""
