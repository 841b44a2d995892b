// What the Node clients share: printing, credentials by name, refusals.
import { readFile } from "node:fs/promises";
import {
  ClientAssertionCredential, ClientCertificateCredential, ClientSecretCredential,
  DefaultAzureCredential, ManagedIdentityCredential, WorkloadIdentityCredential,
} from "@azure/identity";

export const say = (name, ...values) => console.log([name, ...values].join(" "));

// A leading "nodiscovery-" is what code says for an authority that
// login.microsoftonline.com does not know.
export function credential(name) {
  const off = name.startsWith("nodiscovery-");
  const options = off ? { disableInstanceDiscovery: true } : {};
  const { AZURE_TENANT_ID: tenant, AZURE_CLIENT_ID: app, AZURE_CLIENT_SECRET: secret,
    AZURE_FEDERATED_TOKEN_FILE: file, CERTIFICATE: certificatePath } = process.env;
  switch (name.replace("nodiscovery-", "")) {
    case "default": return new DefaultAzureCredential(options);
    case "managed": return new ManagedIdentityCredential();
    case "secret": return new ClientSecretCredential(tenant, app, secret, options);
    case "certificate": return new ClientCertificateCredential(tenant, app, { certificatePath }, options);
    case "workload": return new WorkloadIdentityCredential(options);
    case "assertion": return new ClientAssertionCredential(tenant, app, () => readFile(file, "utf8"), options);
  }
  throw new Error(`no credential is called ${name}`);
}

// The status and code of an answer, or "allowed".
export async function refusal(promise) {
  try {
    await promise;
    return "allowed";
  } catch (e) {
    return e.statusCode ? `${e.statusCode} ${e.code}` : `failed: ${e.message}`;
  }
}

export const claims = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url"));
