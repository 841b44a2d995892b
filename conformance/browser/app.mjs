// An app that knows nothing of signing in: it shows what the headers say.
import http from "node:http";

const html = (text) => String(text ?? "").replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

http.createServer((req, res) => {
  const name = req.headers["x-ms-client-principal-name"];
  res.setHeader("content-type", "text/html; charset=utf-8").end(`<!doctype html><html lang="en"><meta name="viewport" content="width=device-width">
<title>An app</title><link rel="icon" href="data:,"><main><h1>Hello</h1><p id="name">${html(name)}</p></main></html>`);
}).listen(Number(process.env.PORT), "127.0.0.1", () => console.log("listening"));
