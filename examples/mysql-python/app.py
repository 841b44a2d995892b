"""An app without a secret: it queries Azure Database for MySQL as its managed
identity. The settings are those of Service Connector. Debian's packages are
enough: python3-azure and python3-pymysql (or pip install azure-identity
pymysql)."""

import os
import ssl

import pymysql
from azure.identity import DefaultAzureCredential

# For a user-assigned identity the connection names its client id.
credential = DefaultAzureCredential(managed_identity_client_id=os.getenv("AZURE_MYSQL_CLIENTID"))

# The token is the password; PyMySQL sends it as it is, so TLS must be on.
token = credential.get_token("https://ossrdbms-aad.database.windows.net/.default")
connection = pymysql.connect(
    host=os.environ["AZURE_MYSQL_HOST"],
    port=int(os.getenv("AZURE_MYSQL_PORT", "3306")),
    user=os.environ["AZURE_MYSQL_USER"],
    password=token.token,
    database=os.environ["AZURE_MYSQL_NAME"],
    ssl=ssl.create_default_context(),
)
with connection, connection.cursor() as cursor:
    cursor.execute("select current_user(), database(), version()")
    user, database, version = cursor.fetchone()
    print(f"MySQL: connected to {database} as {user} with a token, server {version}")
