// The app that people see. Built-in authentication signs them in before a
// request gets here; their token comes in a header. With it the app calls the
// orders API as them, by the on-behalf-of flow of MSAL.
import http from 'node:http';
import { ConfidentialClientApplication } from '@azure/msal-node';

const { PORT, API_URL, API_SCOPE, WEBSITE_AUTH_CLIENT_ID, WEBSITE_AUTH_OPENID_ISSUER } = process.env;
const authority = WEBSITE_AUTH_OPENID_ISSUER.replace(/\/v2\.0\/?$/, '');

const msal = new ConfidentialClientApplication({
  auth: {
    clientId: WEBSITE_AUTH_CLIENT_ID,
    clientSecret: process.env.MICROSOFT_PROVIDER_AUTHENTICATION_SECRET,
    authority,
    knownAuthorities: [new URL(authority).host],
  },
});

// orders asks the API for the orders of whoever is signed in.
async function orders(userToken) {
  const { accessToken } = await msal.acquireTokenOnBehalfOf({ oboAssertion: userToken, scopes: [API_SCOPE] });
  const reply = await fetch(`${API_URL}/orders`, { headers: { authorization: `Bearer ${accessToken}` } });
  if (!reply.ok) throw new Error(`the orders API answered ${reply.status}: ${await reply.text()}`);
  return reply.json();
}

const html = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

function page({ profile, rows, role }) {
  const lines = rows.map((r) => `<tr><td>${html(r.id)}</td><td>${html(r.item)}</td><td>${html(r.owner)}</td></tr>`).join('');
  return `<!doctype html><html lang="en"><title>Orders</title><h1>Orders of ${html(profile.displayName)}</h1>
<p id="me">${html(profile.userPrincipalName)}</p><p>The database knows this person as <code id="role">${html(role)}</code>.</p>
<table id="orders"><tr><th>Id<th>Item<th>Owner</tr>${lines}</table><p><a href="/.auth/logout">Sign out</a></p></html>`;
}

http.createServer(async (req, res) => {
  try {
    const result = await orders(req.headers['x-ms-token-aad-access-token']);
    if (req.url.startsWith('/json')) res.setHeader('content-type', 'application/json').end(JSON.stringify(result));
    else res.setHeader('content-type', 'text/html; charset=utf-8').end(page(result));
  } catch (err) {
    console.error(err.message);
    res.writeHead(502, { 'content-type': 'text/plain' }).end('The orders could not be read; the log says why.\n');
  }
}).listen(Number(PORT), '127.0.0.1');
