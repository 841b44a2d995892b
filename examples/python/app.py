"""An app without a secret: it reads a Key Vault secret and queries PostgreSQL
as its managed identity. Debian's packages are enough: python3-azure,
python3-msal and python3-psycopg2 (or pip install azure-identity
azure-keyvault-secrets msal psycopg2-binary)."""

import os
from datetime import datetime, timezone

import msal
import psycopg2
from azure.identity import DefaultAzureCredential
from azure.keyvault.secrets import SecretClient

credential = DefaultAzureCredential()

# The secret that the settings name.
vault = SecretClient(os.environ["KEY_VAULT_URL"], credential)
secret = vault.get_secret(os.environ["SECRET_NAME"])
print(f"Key Vault:  read {secret.id} ({len(secret.value)} characters) with azure-identity")

# A setting whose value is a Key Vault reference is a variable like any other.
print(f"Setting:    GREETING is {os.environ['GREETING']!r}")

# The token is the password.
token = credential.get_token("https://ossrdbms-aad.database.windows.net/.default")
connection = psycopg2.connect(os.environ["AZURE_POSTGRESQL_CONNECTIONSTRING"] + " password=" + token.token)
with connection, connection.cursor() as cursor:
    cursor.execute("select current_user, current_database(), current_setting('server_version')")
    user, database, version = cursor.fetchone()
    print(f"PostgreSQL: connected to {database} as {user} with a token, server {version}")
connection.close()

# The same with MSAL, without the Azure SDK. MSAL for Python has managed
# identity since 1.29; Debian 12 has 1.21.
if hasattr(msal, "ManagedIdentityClient"):
    import requests

    client = msal.ManagedIdentityClient(msal.SystemAssignedManagedIdentity(), http_client=requests.Session())
    result = client.acquire_token_for_client(resource="https://vault.azure.net")
    if "access_token" not in result:
        raise SystemExit(f"MSAL: {result}")
    end = datetime.now(timezone.utc).timestamp() + result["expires_in"]
    print(f"MSAL:       got a token that lasts until {datetime.fromtimestamp(end, timezone.utc):%Y-%m-%dT%H:%M:%SZ}")
else:
    print(f"MSAL:       {msal.__version__} has no managed identity yet (1.29 has)")
