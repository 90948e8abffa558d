#!/bin/sh
# make demo: a server with a data store full of synthetic patients, a look
# around in it, and the commands to go on with. Ctrl-C ends it; the data stays.
#
#   TARN_DEMO_DATA    data folder (./tarn-demo)
#   TARN_DEMO_LISTEN  address (127.0.0.1:8080)
#   TARN_DEMO_BINARY  the server (bin/tarn)
#   TARN_DEMO_ONCE=1  end after showing
set -eu
cd "$(dirname "$0")/.."

data=${TARN_DEMO_DATA:-./tarn-demo}
listen=${TARN_DEMO_LISTEN:-127.0.0.1:8080}
tarn=${TARN_DEMO_BINARY:-bin/tarn}
url=http://$listen

mkdir -p "$data"
data=$(cd "$data" && pwd)
log=$data/log
: >"$log" # what an earlier run said is not this server's hello
"$tarn" serve --data "$data" --listen "$listen" >"$log" 2>&1 &
server=$!
stop() {
	trap - INT TERM EXIT
	kill "$server" 2>/dev/null || true
	wait "$server" 2>/dev/null || true
}
trap stop EXIT
trap 'echo; exit 0' INT TERM

# The server runs once it has said its address and made its key.
tries=0
until grep -q ' answers at ' "$log" && [ -s "$data/credentials" ]; do
	if ! kill -0 "$server" 2>/dev/null || [ "$tries" -ge 300 ]; then
		echo "the server did not start:" >&2
		cat "$log" >&2
		exit 1
	fi
	tries=$((tries + 1))
	sleep 0.1
done

# What AWS's clients, and Tarn's own commands, are told by.
export AWS_SHARED_CREDENTIALS_FILE="$data/credentials" AWS_PROFILE=tarn AWS_REGION=us-east-1 AWS_ENDPOINT_URL_HEALTHLAKE="$url"
unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN
own() { "$tarn" datastore "$@" --data "$data" --endpoint "$url"; }
# active: the id of the demo's data store, if there is one.
active() {
	list=$(own list --status active --name demo --output json)
	printf '%s\n' "$list" | sed -n 's/.*"DatastoreId": *"\([0-9a-f]*\)".*/\1/p' | head -n 1
}

echo "Tarn is up at $url, its data in $data, its log in $log."
echo
id=$(active)
if [ -z "$id" ]; then
	echo "Creating a data store with synthetic patients:"
	own create demo --preload synthea
	id=$(active)
else
	echo "The data store of an earlier run is there:"
	own describe "$id"
fi
endpoint=$url/datastore/$id/r4/

echo
echo "A look around, by examples/go:"
go run ./examples/go -datastore "$id"

cat <<EOF

The data store's endpoint:

    $endpoint

To go on from another shell, paste:

    export AWS_SHARED_CREDENTIALS_FILE=$AWS_SHARED_CREDENTIALS_FILE AWS_PROFILE=tarn
    export AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1 AWS_ENDPOINT_URL_HEALTHLAKE=$url

AWS CLI (pip install awscli):

    aws healthlake list-fhir-datastores
    aws healthlake describe-fhir-datastore --datastore-id $id

curl:

    eval "\$($tarn credentials --data $data)"
    curl --aws-sigv4 aws:amz:us-east-1:healthlake --user "\$AWS_ACCESS_KEY_ID:\$AWS_SECRET_ACCESS_KEY" \\
        "${endpoint}Patient?_count=1&_pretty=true"

Python (pip install boto3), JavaScript (npm install in examples/js), Go:

    python examples/python/tour.py
    node examples/js/tour.mjs
    go run ./examples/go

EOF

if [ "${TARN_DEMO_ONCE:-}" = 1 ]; then
	exit 0
fi
echo "Ctrl-C stops the server; the data stays in $data."
wait "$server"
