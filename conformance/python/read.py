"""CREDENTIAL VAULT NAME"""

import sys

from azure.core.exceptions import HttpResponseError
from azure.keyvault.secrets import SecretClient
from common import credential, say

cred, vault, name = sys.argv[1:]
try:
    say("get", SecretClient(vault, credential(cred)).get_secret(name).value)
except HttpResponseError as e:
    if not e.status_code or not e.error:
        raise
    say("get", e.status_code, e.error.code)
