#!/bin/sh
# A tour with curl, which signs requests itself since 7.75: create a data store,
# wait for it, search it.
#
#   eval "$(bin/tarn credentials)"
#   examples/curl.sh [http://127.0.0.1:8080]
set -eu

server=${1:-http://127.0.0.1:8080}
region=${AWS_REGION:-us-east-1}
: "${AWS_ACCESS_KEY_ID:?run: eval \"\$(bin/tarn credentials)\"}" "${AWS_SECRET_ACCESS_KEY:?}"

# The key goes in by standard input, where no other user of the machine sees it.
signed() {
	printf 'user = "%s:%s"\n' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" |
		curl --silent --show-error --fail-with-body --config - --aws-sigv4 "aws:amz:$region:healthlake" "$@"
}

# healthlake OPERATION JSON: one operation of the control plane.
healthlake() {
	signed --request POST "$server/" --header 'Content-Type: application/x-amz-json-1.0' \
		--header "X-Amz-Target: HealthLake.$1" --data "$2"
}

# member NAME: the first member of that name in the JSON on standard input.
member() {
	sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p" | head -n 1
}

made=$(healthlake CreateFHIRDatastore '{"DatastoreTypeVersion":"R4","DatastoreName":"tour-curl","PreloadDataConfig":{"PreloadDataType":"SYNTHEA"}}')
id=$(printf '%s\n' "$made" | member DatastoreId)
endpoint=$(printf '%s\n' "$made" | member DatastoreEndpoint)
echo "created $id"

until [ "$(healthlake DescribeFHIRDatastore "{\"DatastoreId\":\"$id\"}" | member DatastoreStatus)" = ACTIVE ]; do
	sleep 1
done
echo "it is ACTIVE at $endpoint"

# curl sends a query as it is given and signs it as it is: values that need it
# are encoded by hand.
signed "${endpoint}Patient?_count=1&_pretty=true"
echo
signed "${endpoint}Observation?_summary=count&code=http%3A%2F%2Floinc.org%7C8867-4"
echo

patient=$(signed --request POST "${endpoint}Patient" --header 'Content-Type: application/fhir+json' \
	--data '{"resourceType":"Patient","name":[{"family":"Noor","given":["Amal"]}],"birthDate":"1984-06"}')
pid=$(printf '%s\n' "$patient" | member id)
echo "stored Patient/$pid"
signed "${endpoint}Patient?birthdate=1984-06&family=noor" | grep -q "$pid" && echo "found it at once: true"
