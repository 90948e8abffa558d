"""boto3, unmodified, through the life of a data store, and botocore's signer on
the data plane. Every check is an assertion; the last line printed is "done"."""

import datetime
import json
import os
import urllib.error
import urllib.request
import uuid

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import ClientError

SMART = json.dumps({
    "authorization_endpoint": "https://id.example/authorize",
    "token_endpoint": "https://id.example/token",
    "grant_types_supported": ["authorization_code", "client_credential"],
    "capabilities": ["launch-ehr", "foo"],
    "code_challenge_methods_supported": ["S256"],
})

session = boto3.session.Session()
once = Config(retries={"max_attempts": 1})
client = session.client("healthlake", config=once)


def refused(code, call, **members):
    """The call raises the exception that the service model names."""
    try:
        call(**members)
    except ClientError as e:
        assert e.response["Error"]["Code"] == code, e.response
        assert type(e).__name__ in (code, "ClientError"), type(e)
        return e
    raise AssertionError(f"{call} was not refused")


def seven_members(name, **more):
    members = dict(
        DatastoreName=name,
        DatastoreTypeVersion="R4",
        SseConfiguration={"KmsEncryptionConfig": {"CmkType": "AWS_OWNED_KMS_KEY"}},
        PreloadDataConfig={"PreloadDataType": "SYNTHEA"},
        ClientToken=str(uuid.uuid4()),
        Tags=[{"Key": "team", "Value": "cardiology"}, {"Key": "empty", "Value": ""}],
        IdentityProviderConfiguration={
            "AuthorizationStrategy": "SMART_ON_FHIR",
            "FineGrainedAuthorizationEnabled": True,
            "Metadata": SMART,
            "IdpLambdaArn": "arn:aws:lambda:us-east-1:111122223333:function:tokens",
        },
    )
    members.update(more)
    return {k: v for k, v in members.items() if v is not None}


def life():
    request = seven_members("boto")
    made = client.create_fhir_datastore(**request)
    assert made["DatastoreStatus"] == "CREATING", made
    assert made["DatastoreEndpoint"].endswith("/r4/"), made
    again = client.create_fhir_datastore(**request)
    assert again["DatastoreId"] == made["DatastoreId"]
    refused("ValidationException", client.create_fhir_datastore, **dict(request, DatastoreName="other"))

    store = made["DatastoreId"]
    client.get_waiter("fhir_datastore_active").wait(DatastoreId=store, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    found = client.describe_fhir_datastore(DatastoreId=store)["DatastoreProperties"]
    assert found["DatastoreStatus"] == "ACTIVE"
    assert found["DatastoreName"] == "boto"
    assert found["DatastoreArn"] == made["DatastoreArn"]
    assert found["PreloadDataConfig"] == request["PreloadDataConfig"], found
    assert found["SseConfiguration"] == request["SseConfiguration"], found
    assert found["IdentityProviderConfiguration"] == request["IdentityProviderConfiguration"], found
    assert abs(datetime.datetime.now(datetime.timezone.utc) - found["CreatedAt"]) < datetime.timedelta(minutes=5), found
    tags(made["DatastoreArn"])
    update(store)
    return made


def tags(arn):
    def held():
        return sorted((t["Key"], t["Value"]) for t in client.list_tags_for_resource(ResourceARN=arn)["Tags"])

    assert held() == [("empty", ""), ("team", "cardiology")], held()
    client.tag_resource(ResourceARN=arn, Tags=[{"Key": "team", "Value": "oncology"}, {"Key": "cost", "Value": "7"}])
    client.untag_resource(ResourceARN=arn, TagKeys=["empty", "absent"])
    assert held() == [("cost", "7"), ("team", "oncology")], held()


def update(store):
    answer = client.update_fhir_datastore(DatastoreId=store, DatastoreName="renamed")["DatastoreProperties"]
    assert answer["DatastoreName"] == "renamed" and answer["DatastoreStatus"] == "ACTIVE", answer
    assert answer["IdentityProviderConfiguration"]["Metadata"] == SMART, "an omitted member changed"
    answer = client.update_fhir_datastore(
        DatastoreId=store,
        IdentityProviderConfiguration={"AuthorizationStrategy": "AWS_AUTH"},
    )["DatastoreProperties"]
    assert "Metadata" not in answer["IdentityProviderConfiguration"], "the identity provider is replaced whole"


def listing(preloaded):
    others = [client.create_fhir_datastore(DatastoreTypeVersion="R4", DatastoreName=f"list-{i}")["DatastoreId"] for i in range(2)]
    for store in others:
        client.get_waiter("fhir_datastore_active").wait(DatastoreId=store, WaiterConfig={"Delay": 1, "MaxAttempts": 60})

    def ids(**members):
        found, token = [], {}
        while True:
            page = client.list_fhir_datastores(MaxResults=1, **members, **token)
            assert len(page["DatastorePropertiesList"]) <= 1
            found += [p["DatastoreId"] for p in page["DatastorePropertiesList"]]
            if "NextToken" not in page:
                return sorted(found)
            token = {"NextToken": page["NextToken"]}

    def created(store):
        return client.describe_fhir_datastore(DatastoreId=store)["DatastoreProperties"]["CreatedAt"]

    everyone = sorted(others + [preloaded])
    assert set(everyone) <= set(ids())
    assert ids(Filter={"DatastoreName": "list-0"}) == [others[0]]
    moment = datetime.timedelta(milliseconds=1)
    assert preloaded not in ids(Filter={"CreatedAfter": created(preloaded) + moment})
    assert preloaded in ids(Filter={"CreatedBefore": created(others[0])})
    assert set(everyone) <= set(ids(Filter={"DatastoreStatus": "ACTIVE"}))
    return others


def data_plane(endpoint):
    """FHIR over urllib, signed by botocore: no SDK knows these verbs."""

    def fhir(method, path, body=None, headers=None):
        request = AWSRequest(method, endpoint + path, headers=dict(headers or {}), data=body)
        SigV4Auth(session.get_credentials(), "healthlake", "us-east-1").add_auth(request)
        raw = urllib.request.Request(request.url, data=request.data and request.body, headers=dict(request.headers), method=method)
        try:
            with urllib.request.urlopen(raw) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as e:
            return e.code, e.headers, e.read()

    fhir_json = {"Content-Type": "application/fhir+json"}
    patient = {"resourceType": "Patient", "name": [{"family": "Müller-Ørsted", "given": ["Zoë"]}], "birthDate": "1984-06"}
    status, headers, body = fhir("POST", "Patient", json.dumps(patient), fhir_json)
    assert status == 201 and headers["ETag"] == 'W/"1"', (status, body)
    stored = json.loads(body)
    where = "Patient/" + stored["id"]
    stored["gender"] = "female"
    status, headers, body = fhir("PUT", where, json.dumps(stored), dict(fhir_json, **{"If-Match": 'W/"1"'}))
    assert status == 200 and headers["ETag"] == 'W/"2"', (status, body)
    status, _, body = fhir("GET", where + "/_history/1")
    assert status == 200 and "gender" not in json.loads(body), (status, body)
    for query in ("family=M%C3%BCller-%C3%98rsted&gender=female", "family=m%C3%BCller&birthdate=1984", "name=Zo%C3%AB&_sort=-_lastUpdated"):
        status, _, body = fhir("GET", "Patient?" + query)
        assert status == 200 and [e["resource"]["id"] for e in json.loads(body)["entry"]] == [stored["id"]], (query, status, body)
    status, _, body = fhir("POST", "Patient/_search", "gender=female", {"Content-Type": "application/x-www-form-urlencoded"})
    assert status == 200 and stored["id"] in [e["resource"]["id"] for e in json.loads(body)["entry"]], (status, body)
    assert fhir("DELETE", where)[0] == 204
    assert fhir("GET", where)[0] == 410
    # The way AWS's own samples write it: a doubled slash.
    assert fhir("GET", "/Patient?_summary=count")[0] == 200


def errors(store):
    e = refused("ValidationException", client.create_fhir_datastore, DatastoreTypeVersion="R4", DatastoreName="no!")
    assert "datastoreName" in str(e)
    e = refused("ResourceNotFoundException", client.describe_fhir_datastore, DatastoreId="0" * 32)
    assert isinstance(e, client.exceptions.ResourceNotFoundException)
    wrong = session.client("healthlake", config=once, aws_access_key_id="AKIAAAAAAAAAAAAAAAAA", aws_secret_access_key="x")
    refused("UnrecognizedClientException", wrong.list_fhir_datastores)
    key = session.get_credentials()
    wrong = session.client("healthlake", config=once, aws_access_key_id=key.access_key, aws_secret_access_key="x")
    refused("InvalidSignatureException", wrong.list_fhir_datastores)


def deletion(stores):
    for store in stores:
        assert client.delete_fhir_datastore(DatastoreId=store)["DatastoreStatus"] == "DELETING"
    for store in stores:
        client.get_waiter("fhir_datastore_deleted").wait(DatastoreId=store, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        assert client.describe_fhir_datastore(DatastoreId=store)["DatastoreProperties"]["DatastoreStatus"] == "DELETED"
    e = refused("ConflictException", client.delete_fhir_datastore, DatastoreId=stores[0])
    assert isinstance(e, client.exceptions.ConflictException)


if __name__ == "__main__":
    assert os.environ["AWS_ENDPOINT_URL_HEALTHLAKE"]
    made = life()
    others = listing(made["DatastoreId"])
    data_plane(made["DatastoreEndpoint"])
    errors(made["DatastoreId"])
    deletion([made["DatastoreId"]] + others)
    print("done")
