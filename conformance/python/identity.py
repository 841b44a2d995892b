"""CLIENT-ID OBJECT-ID RESOURCE-ID of a user-assigned identity: a token by
every way of naming an identity. MSAL has managed identity since 1.29; Debian
12 has 1.21, so only the SDK is tried where MSAL is older."""

import sys

import msal
from azure.identity import ManagedIdentityCredential
from common import claims, say

client_id, object_id, resource_id = sys.argv[1:]
none = "00000000-0000-0000-0000-00000000dead"
resource = "https://vault.azure.net"


def show(name, token):
    try:
        c = claims(token())
        say(name, c["oid"], c["aud"])
    except Exception:  # every client has its own exception
        say(name, "refused")


for kind, options in {
    "system": {}, "client-id": {"client_id": client_id}, "object-id": {"identity_config": {"object_id": object_id}},
    "resource-id": {"identity_config": {"mi_res_id": resource_id}}, "unknown": {"client_id": none},
}.items():
    show("sdk-" + kind, lambda: ManagedIdentityCredential(**options).get_token(resource + "/.default").token)

if hasattr(msal, "ManagedIdentityClient"):
    import requests

    for kind, identity in {
        "system": msal.SystemAssignedManagedIdentity(), "client-id": msal.UserAssignedManagedIdentity(client_id=client_id),
        "object-id": msal.UserAssignedManagedIdentity(object_id=object_id),
        "resource-id": msal.UserAssignedManagedIdentity(resource_id=resource_id),
        "unknown": msal.UserAssignedManagedIdentity(client_id=none),
    }.items():
        client = msal.ManagedIdentityClient(identity, http_client=requests.Session())
        show("msal-" + kind, lambda: client.acquire_token_for_client(resource=resource)["access_token"])
