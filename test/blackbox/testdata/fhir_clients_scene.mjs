// fhir-kit-client and fhirclient, unmodified, against a data store: create,
// search, pages, history, patch, batch and transaction. Neither signs, so what
// they send goes through a fetch that does. The last line printed is "done".

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { CreateFHIRDatastoreCommand, HealthLakeClient, waitUntilFHIRDatastoreActive } from "@aws-sdk/client-healthlake";
import { SignatureV4 } from "@smithy/signature-v4";
import { Sha256 } from "@aws-crypto/sha256-js";

const control = new HealthLakeClient({ endpoint: process.env.TARN_URL, maxAttempts: 1 });
const signer = new SignatureV4({
  service: "healthlake", region: await control.config.region(), credentials: control.config.credentials, sha256: Sha256,
});

const plainFetch = globalThis.fetch;

// signingFetch is fetch with Signature Version 4.
async function signingFetch(input, init) {
  const request = new Request(input, init);
  const url = new URL(request.url);
  const body = request.method === "GET" || request.method === "HEAD" ? undefined : await request.text();
  const query = {};
  for (const [name, value] of url.searchParams) query[name] = [...(query[name] ?? []), value];
  const signed = await signer.sign({
    method: request.method, protocol: url.protocol, hostname: url.hostname, path: url.pathname, query,
    headers: { ...Object.fromEntries(request.headers), host: url.host }, body,
  });
  delete signed.headers.host;
  return plainFetch(url, { method: request.method, headers: signed.headers, body: body || undefined });
}

globalThis.fetch = signingFetch; // fhir-kit-client's
const require = createRequire(import.meta.url);
const seam = require.resolve("cross-fetch"); // fhirclient's
require.cache[seam] = { id: seam, filename: seam, loaded: true, exports: Object.assign(signingFetch, { fetch: signingFetch, Headers, Request, Response }) };

const { Client } = await import("fhir-kit-client");
const FHIR = require("fhirclient");

async function store(name) {
  const made = await control.send(new CreateFHIRDatastoreCommand({ DatastoreTypeVersion: "R4", DatastoreName: name }));
  await waitUntilFHIRDatastoreActive({ client: control, maxWaitTime: 120, minDelay: 1, maxDelay: 1 }, { DatastoreId: made.DatastoreId });
  return made.DatastoreEndpoint.replace(/\/$/, "");
}

const patient = (family) => ({ resourceType: "Patient", name: [{ family }], identifier: [{ system: "urn:scene", value: family }] });
const entry = (method, url, resource, fullUrl) => ({ fullUrl, request: { method, url }, resource });
const bundle = (type, ...entries) => ({ resourceType: "Bundle", type, entry: entries });

// written is a bundle with a patient and an observation that refers to it.
const linked = (type) => bundle(type,
  entry("POST", "Patient", patient("Linked"), "urn:uuid:0f8fad5b-d9cb-469f-a165-708677289501"),
  entry("POST", "Observation", {
    resourceType: "Observation", status: "final", code: { text: "pulse" },
    subject: { reference: "urn:uuid:0f8fad5b-d9cb-469f-a165-708677289501" },
  }, "urn:uuid:0f8fad5b-d9cb-469f-a165-708677289502"));

async function kit(baseUrl) {
  const client = new Client({ baseUrl });
  const statement = await client.capabilityStatement();
  assert.equal(statement.fhirVersion, "4.0.1");

  const made = await client.create({ resourceType: "Patient", body: patient("Noor") });
  const id = made.id;
  assert.equal(made.meta.versionId, "1");
  for (let i = 0; i < 6; i++) await client.create({ resourceType: "Patient", body: patient("Row" + i) });
  assert.equal((await client.read({ resourceType: "Patient", id })).name[0].family, "Noor");
  await assert.rejects(client.read({ resourceType: "Patient", id: "absent" }), (e) => e.response.status === 404 && e.response.data.resourceType === "OperationOutcome");

  const again = await client.create({
    resourceType: "Patient", body: patient("Noor"), options: { headers: { "If-None-Exist": "identifier=urn:scene|Noor" } },
  });
  assert.equal(again.id, id);

  const updated = await client.update({ resourceType: "Patient", id, body: { ...made, gender: "female" } });
  assert.equal(updated.meta.versionId, "2");
  await assert.rejects(
    client.update({ resourceType: "Patient", id, body: { ...made, gender: "male" }, options: { headers: { "If-Match": 'W/"1"' } } }),
    (e) => e.response.status === 412);
  const patched = await client.patch({ resourceType: "Patient", id, jsonPatch: [{ op: "add", path: "/birthDate", value: "1984-06" }] });
  assert.equal(patched.birthDate, "1984-06");
  assert.equal((await client.vread({ resourceType: "Patient", id, version: "1" })).gender, undefined);

  const history = await client.history({ resourceType: "Patient", id });
  assert.deepEqual(history.entry.map((e) => e.resource.meta.versionId), ["3", "2", "1"]);
  assert.equal((await client.history({ resourceType: "Patient" })).total, 9);
  assert.equal((await client.history()).type, "history");

  const found = [];
  let page = await client.search({ resourceType: "Patient", searchParams: { identifier: "urn:scene|", _count: 3, _sort: "family" } });
  for (; page; page = await client.nextPage({ bundle: page })) found.push(...page.entry.map((e) => e.resource.name[0].family));
  assert.deepEqual(found, ["Noor", "Row0", "Row1", "Row2", "Row3", "Row4", "Row5"]);
  const posted = await client.search({ resourceType: "Patient", searchParams: { family: "noor" }, options: { postSearch: true } });
  assert.equal(posted.total, 1);

  const batch = await client.batch({ body: bundle("batch", entry("GET", "Patient/" + id), entry("GET", "Patient/absent")) });
  assert.deepEqual(batch.entry.map((e) => e.response.status.slice(0, 3)), ["200", "404"]);
  const done = await client.transaction({ body: linked("transaction") });
  const [, observation] = done.entry.map((e) => /Observation\/([^/]+)/.exec(e.response.location)?.[1]);
  const read = await client.read({ resourceType: "Observation", id: observation });
  assert.match(read.subject.reference, /^Patient\//);
  const compartment = await client.compartmentSearch({ resourceType: "Observation", compartment: { resourceType: "Patient", id: read.subject.reference.slice(8) } });
  assert.equal(compartment.total, 1);
  const everything = await client.operation({ name: "everything", resourceType: "Patient", id: read.subject.reference.slice(8), method: "get" });
  assert.equal(everything.entry.length, 2);

  await client.delete({ resourceType: "Patient", id });
  await assert.rejects(client.read({ resourceType: "Patient", id }), (e) => e.response.status === 410);
}

async function fhirclient(baseUrl) {
  const client = FHIR({}, {}, { get: async () => null, set: async () => null, unset: async () => true }).client(baseUrl);
  assert.equal(await client.getFhirVersion(), "4.0.1");
  assert.equal(await client.getFhirRelease(), 4);

  const made = await client.create(patient("Noor"));
  for (let i = 0; i < 6; i++) await client.create(patient("Row" + i));
  const updated = await client.update({ ...made, gender: "female" });
  assert.equal(updated.meta.versionId, "2");
  const patched = await client.patch("Patient/" + made.id, [{ op: "replace", path: "/gender", value: "unknown" }]);
  assert.equal(patched.gender, "unknown");

  const found = [];
  for await (const resource of client.resources("Patient?identifier=urn:scene%7C&_count=3&_sort=family")) found.push(resource.name[0].family);
  assert.deepEqual(found, ["Noor", "Row0", "Row1", "Row2", "Row3", "Row4", "Row5"]);
  const all = await client.request("Patient?_count=2", { pageLimit: 0, flat: true });
  assert.equal(all.length, 7);

  const history = await client.request(`Patient/${made.id}/_history`);
  assert.deepEqual(history.entry.map((e) => e.resource.meta.versionId), ["3", "2", "1"]);

  const send = (body) => client.request({ url: "", method: "POST", headers: { "content-type": "application/fhir+json" }, body: JSON.stringify(body) });
  const batch = await send(bundle("batch", entry("GET", "Patient/" + made.id), entry("GET", "Patient/absent")));
  assert.deepEqual(batch.entry.map((e) => e.response.status.slice(0, 3)), ["200", "404"]);
  const done = await send(linked("transaction"));
  const observation = done.entry[1].response.location.split("/_history")[0];
  const resolved = await client.request(observation, { resolveReferences: ["subject"] });
  assert.equal(resolved.subject.name[0].family, "Linked");

  await client.delete("Patient/" + made.id);
  await assert.rejects(client.request("Patient/" + made.id), (e) => e.status === 410);
}

await kit(await store("fhir-kit-client"));
await fhirclient(await store("fhirclient"));
console.log("done");
