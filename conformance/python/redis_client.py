"""CREDENTIAL: redis-py with a token as the password."""

import base64
import json
import os
import sys

import redis
from common import credential, say

token = credential(sys.argv[1]).get_token("https://redis.azure.com/.default").token
payload = token.split(".")[1]
oid = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["oid"]
client = redis.Redis(host=os.environ["AZURE_REDIS_HOST"], port=int(os.getenv("AZURE_REDIS_PORT", "6380")),
                     username=oid, password=token, ssl=True, ssl_ca_certs=os.environ["SSL_CERT_FILE"], decode_responses=True)
for name, *args in (("get", "GET", "thing"), ("set", "SET", "made", "1"), ("flush", "FLUSHALL"), ("become", "ACL", "LIST")):
    try:
        value = client.execute_command(*args)
        say(name, "OK" if value is True else "nothing" if value is None else value)
    except redis.exceptions.NoPermissionError:
        say(name, "NOPERM")
