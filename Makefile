# make demo   build, start a server, create a data store with Synthea patients, look around
# make test   every test, with the clients they need installed below .cache
# make check  format, vet, lint
# make crash  kills a server a thousand times under everything at once
# make stores a thousand data stores on one server: memory, files, cold answers
# make soak   what should not grow with a store, and searches, beside 1 and 10 times the set
# make bench  how fast this machine carries the main paths
# make differential SEED=1 N=1000000   random searches: engine, twin and oracle
# make race   the shared parts under the race detector
# make fuzz   every fuzz target for a while (FUZZTIME=30s each)

export CGO_ENABLED ?= 0
CACHE := $(CURDIR)/.cache
PY := $(CACHE)/python
BULKDATA := $(CACHE)/bulkdata
NODE := $(CACHE)/node
FUZZTIME ?= 30s

.PHONY: build demo test check bench fuzz crash stores soak differential race linearize synthea clients browser clean

build:
	go build -o bin/tarn ./cmd/tarn

demo: build
	./examples/demo.sh

# The AWS CLI and boto3 come from PyPI (Debian's are years old), the AWS SDK for
# JavaScript and two FHIR clients from npm; all are pinned in test/clients.
# fhirclient's optional packages are React Native's, a quarter of a gigabyte, and
# do not resolve: they are left out, and peers are not looked for (--legacy-peer-deps;
# the lock file was made with it too).
clients: $(PY)/.installed $(BULKDATA)/.installed $(NODE)/.installed $(CACHE)/versitygw

# An S3 server of others, for imports and exports (Apache-2.0).
$(CACHE)/versitygw: test/clients/s3/go.mod test/clients/s3/go.sum
	cd test/clients/s3 && go build -ldflags='-s -w' -o $@ github.com/versity/versitygw/cmd/versitygw

$(PY)/.installed: test/clients/requirements.txt
	python3 -m venv $(PY)
	$(PY)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

# A Bulk Data client, which wants another botocore than the AWS CLI.
$(BULKDATA)/.installed: test/clients/bulkdata/requirements.txt
	python3 -m venv $(BULKDATA)
	$(BULKDATA)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

$(NODE)/.installed: test/clients/package.json test/clients/package-lock.json
	mkdir -p $(NODE)
	cp test/clients/package.json test/clients/package-lock.json $(NODE)/
	cd $(NODE) && npm ci --silent --no-audit --no-fund --omit=optional --legacy-peer-deps --ignore-scripts
	touch $@

# A browser for the SMART app of test/blackbox: Debian's, where it can be installed.
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null; } || \
	  echo "chromium is not there and cannot be installed: its test is skipped"

test: clients browser
	go vet ./...
	TARN_TEST_PYTHON=$(PY)/bin TARN_TEST_BULKDATA=$(BULKDATA)/bin TARN_TEST_NODE=$(NODE) TARN_TEST_S3=$(CACHE)/versitygw go test -timeout 20m ./...

check:
	@test -z "$$(gofmt -l cmd internal test examples)" || { gofmt -l cmd internal test examples; exit 1; }
	go vet ./...
	go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0 run

# Another FHIR server stands beside Tarn in the tables when AGAINST is its base URL
# (HEADER='Authorization: …' goes with each request); it is filled with the patients.
OTHER = $(if $(AGAINST),-against '$(AGAINST)' $(if $(HEADER),-header '$(HEADER)'))
bench: build
	go test -run '^$$' -bench . -benchmem -benchtime 1s ./internal/fhir ./internal/searchparam ./internal/store/lsm
	go run ./test/load $(OTHER)
	go run ./test/bulk $(OTHER)

fuzz:
	@for pkg in $$(go list ./internal/...); do \
	  for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; done

# Kills a server at seeded moments, ROUNDS times: under load beside imports,
# erasures, new search parameters, exchanges of keys and compactions; and a tenth
# as often under creations, preloads, plain load, imports and exchanges alone.
# Every round asks `tarn check` too. Before them the power fails CLONES times in
# copies of a file system in memory, at syncs, renames and removals.
crash: build
	TARN_CRASH_CLONES=$${CLONES:-300} go test -count 1 -timeout 60m -run TestCrashMixed ./internal/store/lsm
	TARN_CRASH_ROUNDS=$${ROUNDS:-1000} go test -count 1 -timeout 180m -run 'TestKillMixed$$' ./test/blackbox
	TARN_CRASH_ROUNDS=$$(( ($${ROUNDS:-1000} + 9) / 10 )) go test -count 1 -timeout 120m -run 'TestKill[^M]' ./test/blackbox

# Reads, selective searches and creates beside 1 and 10 times the Synthea set, by
# processor time (TIMES=1,10,90 goes to ten million resources, for an hour).
soak:
	TARN_SOAK=$${TIMES:-1,10} go test -run '^$$' -bench 'Growth|Searches' -benchtime 300x -timeout 5h ./internal/store/lsm

# A thousand data stores of a thousand resources on one server, ten of them busy
# (STORES, RESOURCES): memory, open files, and how fast a cold store answers.
stores: build
	TARN_STORES=$${STORES:-1000} TARN_STORE_RESOURCES=$${RESOURCES:-1000} go test -count 1 -v -timeout 120m -run 'TestManyStores$$' ./test/blackbox

# Random histories and searches: the embedded engine against the twin and against
# the oracle over JSON (N searches from SEED on), and the engine against the twin by
# plans (N/5000 histories). What differs is made small and kept as a file.
SEED ?= 1
N ?= 100000
differential:
	TARN_SEED=$(SEED) TARN_DIFFERENTIAL=$(N) go test -count 1 -timeout 0 -v -run TestDifferential ./internal/search/oracle
	TARN_SEED=$(SEED) TARN_HISTORIES=$$(( $(N) / 5000 + 1 )) TARN_STEPS=2000 go test -count 1 -timeout 0 -v -run 'TestEngineInMemory/differential$$' ./internal/store/lsm

# The parts that many goroutines share, under the race detector (needs a C compiler).
race:
	CGO_ENABLED=1 go test -race -short -count 1 -timeout 30m ./internal/store/... ./internal/search/... ./internal/searchparam ./internal/interaction

# 64 clients race for a minute, the server killed in the middle; a checker judges
# whether one order of all requests explains every answer.
linearize: build
	TARN_LINEARIZE=$${FOR:-60s} go test -count 1 -v -timeout 60m -run TestLinearizableOverACrash ./test/blackbox

# Runs Synthea itself again and packs its patients anew (Java, Maven).
synthea:
	./internal/synthea/gen/generate.sh

clean:
	rm -rf bin .cache
