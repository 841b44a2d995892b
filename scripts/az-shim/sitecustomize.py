"""Cures a fault of Debian's az 2.45: `az role …` reads client.config, which
the azure-mgmt-authorization that Debian ships beside it calls client._config.

Put this directory into PYTHONPATH for az alone:

    PYTHONPATH=/path/to/hawser/scripts/az-shim az role assignment list

Python imports sitecustomize by itself. Nothing is changed on disk, and an az
that has no such fault is left as it is.
"""
import importlib.abc
import importlib.machinery
import sys

_FACTORY = "azure.cli.command_modules.role._client_factory"


class _WithConfig:
    """The management client, whose groups of operations have `config`."""

    def __init__(self, client):
        self._client = client

    def __getattr__(self, name):
        value = getattr(self._client, name)
        if hasattr(value, "_config") and not hasattr(value, "config"):
            value.config = value._config
        return value


class _Finder(importlib.abc.MetaPathFinder):
    """Wraps the one function that makes the client, when it is imported."""

    def find_spec(self, name, path=None, target=None):
        if name != _FACTORY:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            make = module._auth_client_factory
            module._auth_client_factory = lambda *a, **k: _WithConfig(make(*a, **k))

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _Finder())
