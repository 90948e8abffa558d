#!/bin/sh
# Makes internal/synthea/data anew: fetches Synthea, runs it with fixed seeds
# and dates, packs its output. Needs Java 17, Maven 3.8 and Go; about two
# minutes and 1 GB of disk in the system's temporary folder.
#
#   internal/synthea/gen/generate.sh           into internal/synthea/data
#   OUT=FOLDER .../generate.sh                 into an existing folder
set -eu

gen=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-$gen/../data}
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

synthea=$(sed -n '/<artifactId>synthea</{n;s/.*<version>\(.*\)<.*/\1/p;}' "$gen/pom.xml")
mvn -q -B -f "$gen/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/lib"

# -p   patients alive at the end; those who died come on top
# -s   seed of the patients, -cs of the clinicians
# -r   the day ages are counted from, -e the day the simulation ends
# The state names where the patients live. Zone and locale are pinned because
# Synthea formats with those of the machine.
(cd "$work" && java -Xmx3g -Dfile.encoding=UTF-8 -Duser.timezone=UTC -Duser.language=en -Duser.country=US \
	-cp 'lib/*' App -c "$gen/synthea.properties" --exporter.baseDirectory="$work/output" \
	-p 110 -s 20240101 -cs 20240101 -r 20240901 -e 20240901 Massachusetts >"$work/log" 2>&1) || {
	tail -n 20 "$work/log" >&2
	exit 1
}

cd "$gen/../../.."
go run ./internal/synthea/gen -in "$work/output" -out "$out" -generator "org.mitre.synthea:synthea:$synthea"
