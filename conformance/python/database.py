"""CREDENTIAL TABLE, as the tutorial: the settings of Service Connector and a
token as the password."""

import os
import sys

import psycopg2
from common import credential, say

cred, table = sys.argv[1:]
token = credential(cred).get_token("https://ossrdbms-aad.database.windows.net/.default")
conn = psycopg2.connect(os.getenv("AZURE_POSTGRESQL_CONNECTIONSTRING") + " password=" + token.token)
conn.autocommit = True
cur = conn.cursor()
cur.execute("select current_user, current_database()")
say("who", *cur.fetchone())
for name, sql in (
    ("select", f"select * from {table}"), ("insert", f"insert into {table} values (1)"),
    ("create", "create table made_by_the_app (a int)"), ("become", "set role postgres"),
):
    try:
        cur.execute(sql)
        say(name, "ok")
    except psycopg2.Error as e:
        say(name, e.pgcode)
conn.close()
