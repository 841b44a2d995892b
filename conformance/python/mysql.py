"""CREDENTIAL TABLE, as the tutorial: the settings of Service Connector and a
token as the password."""

import os
import ssl
import sys

import pymysql
from common import credential, say

cred, table = sys.argv[1:]
token = credential(cred).get_token("https://ossrdbms-aad.database.windows.net/.default")
conn = pymysql.connect(
    host=os.environ["AZURE_MYSQL_HOST"], port=int(os.getenv("AZURE_MYSQL_PORT", "3306")),
    user=os.environ["AZURE_MYSQL_USER"], password=token.token, database=os.environ["AZURE_MYSQL_NAME"],
    ssl=ssl.create_default_context(), autocommit=True,
)
cur = conn.cursor()
cur.execute("select substring_index(current_user(), '@', 1), database()")
say("who", *cur.fetchone())
for name, sql in (
    ("select", f"select * from {table}"), ("insert", f"insert into {table} values (1)"),
    ("create", "create table made_by_the_app (a int)"), ("become", "select * from mysql.user"),
):
    try:
        cur.execute(sql)
        say(name, "ok")
    except pymysql.MySQLError as e:
        say(name, e.args[0])
conn.close()
