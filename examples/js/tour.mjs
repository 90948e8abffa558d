// A tour with the AWS SDK for JavaScript v3: create a data store, wait for it,
// search it.
//
//   (cd examples/js && npm install)
//   export AWS_SHARED_CREDENTIALS_FILE=$PWD/tarn-data/credentials AWS_PROFILE=tarn AWS_REGION=us-east-1
//   export AWS_ENDPOINT_URL_HEALTHLAKE=http://127.0.0.1:8080
//   node examples/js/tour.mjs

import { Sha256 } from "@aws-crypto/sha256-js";
import { CreateFHIRDatastoreCommand, HealthLakeClient, waitUntilFHIRDatastoreActive } from "@aws-sdk/client-healthlake";
import { SignatureV4 } from "@smithy/signature-v4";

const client = new HealthLakeClient({});

// createStore makes a data store with synthetic patients and gives its FHIR
// endpoint.
async function createStore() {
  const made = await client.send(new CreateFHIRDatastoreCommand({
    DatastoreTypeVersion: "R4",
    DatastoreName: "tour-js",
    PreloadDataConfig: { PreloadDataType: "SYNTHEA" },
  }));
  console.log("created", made.DatastoreId, "which is", made.DatastoreStatus);
  await waitUntilFHIRDatastoreActive({ client, maxWaitTime: 300, minDelay: 1, maxDelay: 2 }, { DatastoreId: made.DatastoreId });
  return made.DatastoreEndpoint;
}

const signer = new SignatureV4({
  service: "healthlake",
  region: await client.config.region(),
  credentials: client.config.credentials,
  sha256: Sha256,
});

// fhir sends one signed FHIR request: the SDK does not know FHIR's verbs.
async function fhir(method, address, resource) {
  const url = new URL(address);
  const body = resource && JSON.stringify(resource);
  const headers = { host: url.host, ...(body && { "content-type": "application/fhir+json" }) };
  const signed = await signer.sign({
    method, protocol: url.protocol, hostname: url.hostname, path: url.pathname,
    query: Object.fromEntries(url.searchParams), headers, body,
  });
  const answer = await fetch(url, { method, headers: signed.headers, body });
  if (!answer.ok) throw new Error(`${method} ${url.pathname}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

const endpoint = await createStore();

const patients = await fhir("GET", endpoint + "Patient?_count=3&_total=accurate");
console.log(patients.total, "patients, three of them:");
for (const { resource } of patients.entry) {
  console.log("  ", resource.name[0].family, resource.birthDate, resource.gender);
}

// Heart rates above 90 of women.
const query = new URLSearchParams({
  code: "http://loinc.org|8867-4", "subject:Patient.gender": "female", "value-quantity": "gt90", _summary: "count",
});
console.log((await fhir("GET", `${endpoint}Observation?${query}`)).total, "heart rates above 90 of women");

const made = await fhir("POST", endpoint + "Patient", { resourceType: "Patient", name: [{ family: "Noor", given: ["Amal"] }] });
console.log(`stored Patient/${made.id} version ${made.meta.versionId}`);
const found = await fhir("GET", endpoint + "Patient?name=noor");
console.log("found it at once:", found.entry.length === 1 && found.entry[0].resource.id === made.id);
