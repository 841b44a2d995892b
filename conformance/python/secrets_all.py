"""CREDENTIAL VAULT PREFIX: every operation on secrets."""

import sys
from datetime import datetime, timezone

from azure.keyvault.secrets import SecretClient
from common import credential, refusal, say

cred, vault, prefix = sys.argv[1:]
client = SecretClient(vault, credential(cred))
name = prefix + "-a"


def put(n, value):
    return client.set_secret(n, value, content_type="text/plain", tags={"team": "blue"})


def count():
    return len(list(client.list_properties_of_secret_versions(name)))


# Versions.
first = put(name, "first")
put(name, "second")
say("get", client.get_secret(name).value)
old = client.get_secret(name, first.properties.version)
say("get-version", old.value, old.properties.content_type, old.properties.tags["team"], old.properties.enabled)
say("level", old.properties.recovery_level, old.properties.recoverable_days)
say("versions", count())

# Properties.
version = client.get_secret(name).properties.version
u = client.update_secret_properties(
    name, version, content_type="application/json", tags={"team": "green"},
    not_before=datetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
    expires_on=datetime(2035, 1, 2, 3, 4, 5, tzinfo=timezone.utc))
say("update", u.content_type, u.tags["team"], int(u.not_before.timestamp()), int(u.expires_on.timestamp()))
client.update_secret_properties(name, version, enabled=False)
say("disabled", refusal(client.get_secret, name))
client.update_secret_properties(name, version, enabled=True)
say("enabled", refusal(client.get_secret, name))

# More than one page.
for i in range(30):
    put(f"{prefix}-l{i:02}", "x")
say("list", sum(1 for p in client.list_properties_of_secrets() if p.name.startswith(prefix + "-")))

# Deletion.
d = client.begin_delete_secret(name, _polling_interval=0.05).result()
say("deleted", d.name, bool(d.recovery_id) and d.scheduled_purge_date > d.deleted_date)
say("get-deleted", refusal(client.get_secret, name))
say("set-deleted", refusal(put, name, "third"))
client.get_deleted_secret(name)
say("list-deleted", any(s.name == name for s in client.list_deleted_secrets()))
client.begin_recover_deleted_secret(name, _polling_interval=0.05).wait()
say("recovered", client.get_secret(name).value)

# Backup.
blob = client.backup_secret(name)
client.begin_delete_secret(name, _polling_interval=0.05).wait()
client.purge_deleted_secret(name)
say("purged", refusal(client.get_deleted_secret, name))
client.restore_secret_backup(blob)
say("restored", client.get_secret(name).value, count())

# Refusals.
say("missing", refusal(client.get_secret, prefix + "-none"))
say("max", refusal(put, prefix + "-max", "m" * 25600))
say("too-big", refusal(put, prefix + "-big", "b" * 25601))
