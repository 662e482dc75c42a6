"""Plugins for tokens."""

from __future__ import annotations

import inspect
from typing import Any

from ._plugin import AuthMetadataContext, AuthMetadataPlugin, AuthMetadataPluginCallback


def _answer(callback: AuthMetadataPluginCallback, token: str | None, error: Exception | None) -> None:
    callback((("authorization", f"Bearer {token}"),), error)


class GoogleCallCredentials(AuthMetadataPlugin):
    """The tokens of credentials of ``oauth2client``."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials
        # Those that sign their tokens themselves have to be told for whom.
        self._is_jwt = "additional_claims" in inspect.getfullargspec(credentials.get_access_token).args

    def __call__(self, context: AuthMetadataContext, callback: AuthMetadataPluginCallback) -> None:
        claims = {"additional_claims": {"aud": context.service_url}} if self._is_jwt else {}
        try:
            token = self._credentials.get_access_token(**claims).access_token
        except Exception as error:
            _answer(callback, None, error)
        else:
            _answer(callback, token, None)


class AccessTokenAuthMetadataPlugin(AuthMetadataPlugin):
    """One token."""

    def __init__(self, access_token: str) -> None:
        self._access_token = access_token
        # The same for every call, which need not wait for a thread to say it.
        self._always = (("authorization", f"Bearer {access_token}"),)

    def __call__(self, context: AuthMetadataContext, callback: AuthMetadataPluginCallback) -> None:
        callback(self._always, None)
