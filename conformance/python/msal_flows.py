"""FLOW. Every flow of MSAL Python that applies, as the variable MSAL says; see
gomsal_test.go for its fields. The programs of the other languages print the
same lines."""

import json
import os
import subprocess
import sys
from urllib.parse import parse_qs, urlsplit

import msal
from common import claims, say

c = json.loads(os.environ["MSAL"])
NONE = "00000000-0000-0000-0000-00000000dead"
OPTIONS = {"authority": c["authority"]}
if c["way"] == "guid":
    OPTIONS["instance_discovery"] = False


def confidential(client, credential):
    return msal.ConfidentialClientApplication(client, client_credential=credential, **OPTIONS)


def outcome(name, r):
    """A token, or what MSAL makes of a refusal."""
    if "access_token" in r:
        t = claims(r["access_token"])
        facts = (t.get("preferred_username") or t.get("upn"), t["aud"], t.get("scp"), " ".join(t.get("roles", [])))
    else:
        facts = ("refused", r["error"], (r.get("error_codes") or [None])[0], r.get("suberror"))
    say(name, *[f for f in facts if f])
    return r


def same(a, b):
    return bool(a and b) and a.get("access_token") == b.get("access_token")


def visit(address, **env):
    out = subprocess.run([*c["visitor"], address], stdout=subprocess.PIPE, check=True, text=True, env=dict(os.environ, **env)).stdout.strip()
    if not out.startswith((c["redirect"] + "?", c["publicRedirect"] + "?")):
        raise SystemExit("the visitor ended at " + out)
    return {k: v[0] for k, v in parse_qs(urlsplit(out).query).items()}


def app():
    scopes = [c["api"] + "/.default"]
    client = confidential(c["client"], c["secret"])
    r = outcome("secret", client.acquire_token_for_client(scopes))
    say("cached", same(r, client.acquire_token_silent(scopes, account=None)))
    with open(c["certificate"]) as f:
        key = f.read()
    client = confidential(c["client"], {"private_key": key[: key.index("-----BEGIN CERTIFICATE")], "thumbprint": c["thumbprint"]})
    outcome("certificate", client.acquire_token_for_client(scopes))
    for name, who, secret, scope in (
        ("wrong-secret", c["client"], "not the secret", scopes[0]), ("unknown-client", NONE, c["secret"], scopes[0]),
        ("unknown-resource", c["client"], c["secret"], "api://nobody/.default"), ("no-default", c["client"], c["secret"], c["scope"]),
    ):
        outcome(name, confidential(who, secret).acquire_token_for_client([scope]))


def code():
    client = confidential(c["client"], c["secret"])
    scopes = [c["scope"]]

    def authorize(**more):
        flow = client.initiate_auth_code_flow(scopes, redirect_uri=c["redirect"], state="the state", **more)
        return flow, visit(flow["auth_uri"])

    flow, got = authorize()
    say("state", got["state"])
    r = outcome("code", client.acquire_token_by_auth_code_flow(dict(flow), got))
    account = client.get_accounts()[0]
    say("account", account["username"])
    say("cached", same(r, client.acquire_token_silent(scopes, account)))
    outcome("other", client.acquire_token_silent_with_error([c["other"]], account))
    challenge = '{"access_token":{"nbf":{"essential":true,"value":"1"}}}'
    renewed = outcome("claims", client.acquire_token_silent_with_error(scopes, account, claims_challenge=challenge))
    say("renewed", "access_token" in renewed and not same(r, renewed))
    outcome("never", client.acquire_token_silent_with_error([c["never"]], account))
    client.remove_account(account)
    say("removed", not client.acquire_token_silent(scopes, account))

    # Codes that are not what they should be.
    outcome("again", client.acquire_token_by_auth_code_flow(dict(flow), got))
    flow, got = authorize()
    outcome("pkce", client.acquire_token_by_auth_code_flow(
        dict(flow, code_verifier="another-verifier-that-is-long-enough-for-the-rule-of-43-char"), got))
    flow, got = authorize()
    outcome("redirect", client.acquire_token_by_auth_code_flow(dict(flow, redirect_uri=c["redirect"] + "/other"), got))
    outcome("form-post", client.acquire_token_by_auth_code_flow(*authorize(response_mode="form_post")))
    say("none", authorize(prompt="none")[1]["error"])
    flow = client.initiate_auth_code_flow([c["never"]], redirect_uri=c["redirect"])
    say("declined", client.acquire_token_by_auth_code_flow(flow, visit(flow["auth_uri"], DECLINE="declined"))["error"])

    # A refresh token that came from elsewhere.
    outcome("refresh", confidential(c["client"], c["secret"]).acquire_token_by_refresh_token(c["refresh"], scopes))


def public():
    client = msal.PublicClientApplication(c["public"], **OPTIONS)  # the environment's BROWSER is the visitor
    outcome("interactive", client.acquire_token_interactive([c["scope"]], login_hint=c["user"], timeout=60))
    outcome("other", client.acquire_token_silent_with_error([c["other"]], client.get_accounts()[0]))
    flow = client.initiate_auth_code_flow([c["scope"]], redirect_uri=c["publicRedirect"])
    outcome("pkce", client.acquire_token_by_auth_code_flow(flow, visit(flow["auth_uri"])))


def device():
    client = msal.PublicClientApplication(c["public"], **OPTIONS)
    for step in ("device", "declined"):
        flow = client.initiate_device_flow([c["scope"]])
        visitor = subprocess.Popen([*c["visitor"], flow["verification_uri"], flow["user_code"]],
                                   env=dict(os.environ, DECLINE=step), stdout=subprocess.DEVNULL)
        result = client.acquire_token_by_device_flow(flow)
        if step == "declined":
            say(step, result.get("error") == "authorization_declined")
        else:
            outcome(step, result)
        if visitor.wait():
            raise SystemExit("the visitor failed")


def password():
    outcome("confidential", confidential(c["client"], c["secret"]).acquire_token_by_username_password(c["user"], c["password"], [c["scope"]]))
    client = msal.PublicClientApplication(c["public"], **OPTIONS)
    for name, user, text in (("password", c["user"], c["password"]), ("wrong", c["user"], "not the password"),
                             ("nobody", "nobody@" + c["user"].split("@")[1], c["password"])):
        outcome(name, client.acquire_token_by_username_password(user, text, [c["scope"]]))


def behalf():
    client = confidential(c["client"], c["secret"])
    r = outcome("behalf", client.acquire_token_on_behalf_of(c["assertion"], [c["deepScope"]]))
    say("cached", same(r, client.acquire_token_silent([c["deepScope"]], client.get_accounts()[0])))
    deep = confidential(c["deep"], c["deepSecret"])
    outcome("chained", deep.acquire_token_on_behalf_of(r["access_token"], [c["graphScope"]]))
    for name, assertion, scope in (
        ("app-only", c["appToken"], c["deepScope"]), ("elsewhere", c["elsewhere"], c["deepScope"]),
        ("forged", c["forgedToken"], c["deepScope"]), ("never", c["assertion"], c["never"]),
    ):
        outcome(name, client.acquire_token_on_behalf_of(assertion, [scope]))


{"app": app, "code": code, "public": public, "device": device, "password": password, "behalf": behalf}[sys.argv[1]]()
