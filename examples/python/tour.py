"""A tour with boto3: create a data store, wait for it, search it.

    pip install boto3
    export AWS_SHARED_CREDENTIALS_FILE=$PWD/tarn-data/credentials AWS_PROFILE=tarn AWS_REGION=us-east-1
    export AWS_ENDPOINT_URL_HEALTHLAKE=http://127.0.0.1:8080
    python examples/python/tour.py
"""

import json
import os
import urllib.request
import uuid

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

REGION = os.environ.get("AWS_REGION", "us-east-1")

session = boto3.session.Session(region_name=REGION)
healthlake = session.client("healthlake")


def create_store():
    """A data store with synthetic patients; gives its FHIR endpoint."""
    made = healthlake.create_fhir_datastore(
        DatastoreTypeVersion="R4",
        DatastoreName="tour-python",
        PreloadDataConfig={"PreloadDataType": "SYNTHEA"},
        ClientToken=str(uuid.uuid4()),
    )
    print("created", made["DatastoreId"], "which is", made["DatastoreStatus"])
    # The waiter's own delay is a minute; this store needs seconds.
    healthlake.get_waiter("fhir_datastore_active").wait(
        DatastoreId=made["DatastoreId"], WaiterConfig={"Delay": 1, "MaxAttempts": 300}
    )
    return made["DatastoreEndpoint"]


def fhir(method, url, resource=None):
    """One FHIR request, signed: the SDK does not know FHIR's verbs."""
    body = None if resource is None else json.dumps(resource)
    request = AWSRequest(method, url, data=body, headers={"Content-Type": "application/fhir+json"} if body else {})
    SigV4Auth(session.get_credentials(), "healthlake", REGION).add_auth(request)
    prepared = urllib.request.Request(
        request.url, method=method, headers=dict(request.headers), data=body.encode() if body else None
    )
    with urllib.request.urlopen(prepared) as answer:
        return json.load(answer)


def main():
    endpoint = create_store()

    patients = fhir("GET", endpoint + "Patient?_count=3&_total=accurate")
    print(patients["total"], "patients, three of them:")
    for entry in patients["entry"]:
        patient = entry["resource"]
        print("  ", patient["name"][0]["family"], patient["birthDate"], patient["gender"])

    # Heart rates above 90 of women.
    query = "Observation?code=http%3A%2F%2Floinc.org%7C8867-4&subject%3APatient.gender=female&value-quantity=gt90&_summary=count"
    print(fhir("GET", endpoint + query)["total"], "heart rates above 90 of women")

    made = fhir("POST", endpoint + "Patient", {"resourceType": "Patient", "name": [{"family": "Noor", "given": ["Amal"]}]})
    print("stored Patient/" + made["id"], "version", made["meta"]["versionId"])
    found = fhir("GET", endpoint + "Patient?name=noor")
    print("found it at once:", [entry["resource"]["id"] for entry in found["entry"]] == [made["id"]])


if __name__ == "__main__":
    main()
