"""What the Python clients share: printing, credentials by name, refusals."""

import base64
import json
import os

from azure.core.exceptions import HttpResponseError
from azure.identity import (
    CertificateCredential,
    ClientAssertionCredential,
    ClientSecretCredential,
    DefaultAzureCredential,
    ManagedIdentityCredential,
)


def say(name, *values):
    print(name, *[str(v).lower() if isinstance(v, bool) else v for v in values], flush=True)


def credential(name):
    """A leading "nodiscovery-" is what code says for an authority that
    login.microsoftonline.com does not know (spelled instance_discovery in
    1.13.0b2, disable_instance_discovery later)."""
    off = name.startswith("nodiscovery-")
    name = name.replace("nodiscovery-", "")
    options = {"instance_discovery": False, "disable_instance_discovery": True} if off else {}
    tenant, app = os.environ.get("AZURE_TENANT_ID"), os.environ.get("AZURE_CLIENT_ID")
    if name == "default":
        return DefaultAzureCredential(**options)
    if name == "managed":
        return ManagedIdentityCredential()
    if name == "secret":
        return ClientSecretCredential(tenant, app, os.environ["AZURE_CLIENT_SECRET"], **options)
    if name == "certificate":
        return CertificateCredential(tenant, app, os.environ["CERTIFICATE"], **options)
    if name == "workload":
        # 1.14 has a WorkloadIdentityCredential; before, this one did the exchange.
        return ManagedIdentityCredential(client_id=app, **options)
    if name == "assertion":
        return ClientAssertionCredential(tenant, app, lambda: open(os.environ["AZURE_FEDERATED_TOKEN_FILE"]).read(), **options)
    raise SystemExit(f"no credential is called {name}")


def refusal(call, *args, **kwargs):
    """The status and code of an answer, or "allowed"."""
    try:
        call(*args, **kwargs)
        return "allowed"
    except HttpResponseError as e:
        return f"{e.status_code} {e.error.code}" if e.status_code and e.error else f"failed: {e}"


def claims(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
