// The AWS SDK for JavaScript v3, unmodified, through the life of a data store,
// and its signer on the data plane. Every check is an assertion; the last line
// printed is "done".

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import * as healthlake from "@aws-sdk/client-healthlake";
import { SignatureV4 } from "@smithy/signature-v4";
import { Sha256 } from "@aws-crypto/sha256-js";

const {
  HealthLakeClient, CreateFHIRDatastoreCommand, DescribeFHIRDatastoreCommand, DeleteFHIRDatastoreCommand,
  TagResourceCommand, UntagResourceCommand, ListTagsForResourceCommand,
  paginateListFHIRDatastores, waitUntilFHIRDatastoreActive, waitUntilFHIRDatastoreDeleted,
} = healthlake;

const endpoint = process.env.TARN_URL;
const client = new HealthLakeClient({ endpoint, maxAttempts: 1 });
const waiting = { client, maxWaitTime: 120, minDelay: 1, maxDelay: 1 };

const metadata = JSON.stringify({
  authorization_endpoint: "https://id.example/authorize",
  token_endpoint: "https://id.example/token",
  grant_types_supported: ["authorization_code"],
  capabilities: ["launch-ehr"],
  code_challenge_methods_supported: ["S256"],
});

const request = {
  DatastoreName: "javascript",
  DatastoreTypeVersion: "R4",
  SseConfiguration: { KmsEncryptionConfig: { CmkType: "AWS_OWNED_KMS_KEY" } },
  PreloadDataConfig: { PreloadDataType: "SYNTHEA" },
  ClientToken: randomUUID(),
  Tags: [{ Key: "team", Value: "cardiology" }],
  IdentityProviderConfiguration: {
    AuthorizationStrategy: "SMART_ON_FHIR", FineGrainedAuthorizationEnabled: true, Metadata: metadata,
    IdpLambdaArn: "arn:aws:lambda:us-east-1:111122223333:function:tokens",
  },
};

async function refused(kind, promise) {
  await assert.rejects(promise, (e) => {
    assert.equal(e.name, kind, String(e));
    if (healthlake[kind]) assert.ok(e instanceof healthlake[kind], `${kind} is not typed`);
    return true;
  });
}

async function life() {
  const made = await client.send(new CreateFHIRDatastoreCommand(request));
  assert.equal(made.DatastoreStatus, "CREATING");
  await waitUntilFHIRDatastoreActive(waiting, { DatastoreId: made.DatastoreId });
  const { DatastoreProperties: found } = await client.send(new DescribeFHIRDatastoreCommand({ DatastoreId: made.DatastoreId }));
  assert.equal(found.DatastoreStatus, "ACTIVE");
  assert.deepEqual(found.IdentityProviderConfiguration, request.IdentityProviderConfiguration);
  assert.ok(Math.abs(Date.now() - found.CreatedAt.getTime()) < 5 * 60_000, String(found.CreatedAt));
  await client.send(new TagResourceCommand({ ResourceARN: made.DatastoreArn, Tags: [{ Key: "cost", Value: "7" }] }));
  await client.send(new UntagResourceCommand({ ResourceARN: made.DatastoreArn, TagKeys: ["team"] }));
  const { Tags } = await client.send(new ListTagsForResourceCommand({ ResourceARN: made.DatastoreArn }));
  assert.deepEqual(Tags, [{ Key: "cost", Value: "7" }]);
  return made;
}

async function listing(first) {
  const { DatastoreId: second } = await client.send(new CreateFHIRDatastoreCommand({ DatastoreTypeVersion: "R4", DatastoreName: "second" }));
  await waitUntilFHIRDatastoreActive(waiting, { DatastoreId: second });
  const ids = async (filter) => {
    const found = [];
    for await (const page of paginateListFHIRDatastores({ client, pageSize: 1 }, { Filter: filter })) {
      assert.ok(page.DatastorePropertiesList.length <= 1);
      found.push(...page.DatastorePropertiesList.map((d) => d.DatastoreId));
    }
    return found.sort();
  };
  assert.deepEqual(await ids(undefined), [first, second].sort());
  assert.deepEqual(await ids({ DatastoreName: "second", DatastoreStatus: "ACTIVE" }), [second]);
  assert.deepEqual(await ids({ CreatedBefore: new Date(0) }), []);
  assert.deepEqual(await ids({ CreatedAfter: new Date(0) }), [first, second].sort());
  return second;
}

// credentials reads the key itself, as a hand-made signer would.
function credentials() {
  const text = readFileSync(process.env.AWS_SHARED_CREDENTIALS_FILE, "utf8");
  const value = (name) => text.match(new RegExp(`${name}\\s*=\\s*(\\S+)`))[1];
  return { accessKeyId: value("aws_access_key_id"), secretAccessKey: value("aws_secret_access_key") };
}

async function dataPlane(base) {
  const signer = new SignatureV4({ service: "healthlake", region: "us-east-1", sha256: Sha256, credentials: credentials() });
  const fhir = async (method, path, body, headers = {}) => {
    const url = new URL(base + path);
    const query = {};
    for (const [name, value] of url.searchParams) query[name] = name in query ? [query[name], value].flat() : value;
    const signed = await signer.sign({
      method, protocol: url.protocol, hostname: url.hostname, port: Number(url.port), path: url.pathname, query,
      headers: { host: url.host, ...headers }, body,
    });
    return fetch(url, { method, headers: signed.headers, body });
  };
  const json = { "content-type": "application/fhir+json" };
  const created = await fhir("POST", "Patient", JSON.stringify({ resourceType: "Patient", name: [{ family: "Šimůnek" }] }), json);
  assert.equal(created.status, 201, await created.clone().text());
  const patient = await created.json();
  const read = await fhir("GET", `Patient/${patient.id}`);
  assert.equal(read.headers.get("etag"), 'W/"1"');
  assert.deepEqual(await read.json(), patient);
  const found = await (await fhir("GET", `Patient?family=${encodeURIComponent("Šimůnek")}&_total=accurate`)).json();
  assert.equal(found.total, 1);
  const posted = await (await fhir("POST", "Patient/_search", "family=simunek", { "content-type": "application/x-www-form-urlencoded" })).json();
  assert.equal(posted.entry[0].resource.id, patient.id);
  const batch = await fhir("POST", "", JSON.stringify({
    resourceType: "Bundle", type: "batch", entry: [{ request: { method: "DELETE", url: `Patient/${patient.id}` } }, { request: { method: "GET", url: "Patient/none" } }],
  }), json);
  assert.deepEqual((await batch.json()).entry.map((e) => e.response.status.slice(0, 3)), ["204", "404"]);
  assert.equal((await fhir("GET", `Patient/${patient.id}`)).status, 410);
}

async function errors() {
  await refused("ValidationException", client.send(new CreateFHIRDatastoreCommand({ DatastoreTypeVersion: "R9" })));
  await refused("ResourceNotFoundException", client.send(new DescribeFHIRDatastoreCommand({ DatastoreId: "0".repeat(32) })));
  const stranger = { ...credentials(), accessKeyId: "AKIAAAAAAAAAAAAAAAAA" };
  const unknown = new HealthLakeClient({ endpoint, maxAttempts: 1, credentials: stranger });
  await refused("UnrecognizedClientException", unknown.send(new DescribeFHIRDatastoreCommand({ DatastoreId: "x" })));
  const wrong = new HealthLakeClient({ endpoint, maxAttempts: 1, credentials: { ...credentials(), secretAccessKey: "x" } });
  await refused("InvalidSignatureException", wrong.send(new DescribeFHIRDatastoreCommand({ DatastoreId: "x" })));
}

const made = await life();
const second = await listing(made.DatastoreId);
await dataPlane(made.DatastoreEndpoint);
await errors();
for (const id of [made.DatastoreId, second]) {
  await client.send(new DeleteFHIRDatastoreCommand({ DatastoreId: id }));
  await waitUntilFHIRDatastoreDeleted(waiting, { DatastoreId: id });
}
await refused("ConflictException", client.send(new DeleteFHIRDatastoreCommand({ DatastoreId: second })));
console.log("done");
