"""boto3's token service client, unmodified: identities, temporary credentials
on both planes, refusals. The user "chief" may assume the role "loader", whose
policies allow everything but deletions. The last line printed is "done"."""

import os
import urllib.error
import urllib.request

import boto3
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

ROLE = "arn:aws:iam::111122223333:role/loader"
once = Config(retries={"max_attempts": 1})
endpoint = os.environ["AWS_ENDPOINT_URL_HEALTHLAKE"]
store = os.environ["STORE"]


def session(key, secret, token=None):
    return boto3.session.Session(aws_access_key_id=key, aws_secret_access_key=secret, aws_session_token=token, region_name="us-east-1")


def sts(of):
    return of.client("sts", config=once, endpoint_url=endpoint)


def refused(code, call, **members):
    try:
        call(**members)
    except ClientError as e:
        assert e.response["Error"]["Code"] == code, e.response
        assert e.response["ResponseMetadata"]["RequestId"], e.response
        return
    raise AssertionError(f"{call} was not refused")


def fhir(credentials, method, path, presign=False, token=True):
    request = AWSRequest(method, f"{endpoint}/datastore/{store}/r4{path}")
    signer = SigV4QueryAuth if presign else SigV4Auth
    signer(credentials, "healthlake", "us-east-1").add_auth(request)
    headers = dict(request.headers)
    if not token:
        del headers["X-Amz-Security-Token"]
    try:
        with urllib.request.urlopen(urllib.request.Request(request.url, headers=headers, method=method)) as answer:
            return answer.status
    except urllib.error.HTTPError as e:
        return e.code


chief = session("AKIACHIEF", "the secret of the chief")
me = sts(chief).get_caller_identity()
assert me["Arn"] == "arn:aws:iam::111122223333:user/chief" and me["Account"] == "111122223333", me
assert me["UserId"].startswith("AIDA") and len(me["UserId"]) == 21, me

answer = sts(chief).assume_role(RoleArn=ROLE, RoleSessionName="night", DurationSeconds=1800)
assert answer["AssumedRoleUser"]["Arn"] == "arn:aws:sts::111122223333:assumed-role/loader/night", answer
assert answer["AssumedRoleUser"]["AssumedRoleId"].endswith(":night"), answer
given = answer["Credentials"]
assert given["AccessKeyId"].startswith("ASIA"), given
night = session(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
them = sts(night).get_caller_identity()
assert them["Arn"] == answer["AssumedRoleUser"]["Arn"], them
assert them["UserId"] == answer["AssumedRoleUser"]["AssumedRoleId"], them

lake = night.client("healthlake", config=once, endpoint_url=endpoint)
assert lake.describe_fhir_datastore(DatastoreId=store)["DatastoreProperties"]["DatastoreStatus"] == "ACTIVE"
refused("AccessDeniedException", lake.delete_fhir_datastore, DatastoreId=store)
whole = Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
assert fhir(whole, "GET", "/Patient/one") == 200
assert fhir(whole, "GET", "/Patient?_id=one", presign=True) == 200
assert fhir(whole, "DELETE", "/Patient/one") == 403
assert fhir(whole, "GET", "/Patient/one", token=False) == 401
assert fhir(Credentials(given["AccessKeyId"], given["SecretAccessKey"], "another"), "GET", "/Patient/one") == 401

narrow = sts(chief).assume_role(
    RoleArn=ROLE, RoleSessionName="narrow",
    Policy='{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"healthlake:ReadResource","Resource":"*"}]}',
)["Credentials"]
only = Credentials(narrow["AccessKeyId"], narrow["SecretAccessKey"], narrow["SessionToken"])
assert fhir(only, "GET", "/Patient/one") == 200
assert fhir(only, "GET", "/Patient?_id=one") == 403

own = sts(chief).get_session_token(DurationSeconds=900)["Credentials"]
mine = session(own["AccessKeyId"], own["SecretAccessKey"], own["SessionToken"])
assert sts(mine).get_caller_identity()["Arn"] == me["Arn"]
refused("AccessDenied", sts(mine).get_session_token)

refused("AccessDenied", sts(chief).assume_role, RoleArn=ROLE + "x", RoleSessionName="night")
refused("ValidationError", sts(chief).assume_role, RoleArn=ROLE, RoleSessionName="night", DurationSeconds=43200)
refused("ValidationError", sts(chief).assume_role, RoleArn=ROLE, RoleSessionName="night", Tags=[{"Key": "a", "Value": "b"}])
refused("MalformedPolicyDocument", sts(chief).assume_role, RoleArn=ROLE, RoleSessionName="night", Policy="{")
refused("InvalidClientTokenId", sts(session("AKIANOBODY", "the secret of nobody at all")).get_caller_identity)
refused("SignatureDoesNotMatch", sts(session("AKIACHIEF", "the secret of somebody else")).get_caller_identity)
refused("InvalidAction", sts(chief).get_access_key_info, AccessKeyId="AKIACHIEFCHIEFCHIEF0")
print("done")
