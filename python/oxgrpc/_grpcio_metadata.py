"""The version of grpcio whose API this is, where other packages look for it."""

from . import __version__ as __version__
