package suites

import (
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// candleCases is how many cases the suite has.
const candleCases = 145

// candleCase expects so many matches, and, where Entries is set, so many entries
// with those that are included.
type candleCase struct {
	ID, Type, Path, Query string
	Match, Entries        *int
}

// The counts of candle: every one, but for what testdata/candle.differs lists.
func TestCandle(t *testing.T) {
	var file struct {
		Setup []resource
		Cases []candleCase
	}
	read(t, "search-counts-candle.json", &file)
	differs := readDiffers(t, "testdata/candle.differs")
	if len(file.Cases) != candleCases {
		t.Errorf("%d cases, not %d", len(file.Cases), candleCases)
	}
	d := newDatastore(t)
	for _, r := range file.Setup {
		d.load(t, r)
	}
	d.awaitIndexed(t, "Patient", "multiplebirth=1")
	d.awaitIndexed(t, "Patient", "name-use=official")
	for _, c := range file.Cases {
		found := d.search(t, c.Type+c.Path, c.Query)
		reason, listed := differs[c.ID]
		switch right := c.right(found); {
		case right && listed:
			t.Errorf("%s is right, but listed: %s", c.ID, reason)
		case !right && !listed:
			t.Errorf("%s: %s%s?%s: status %d, found %v and %d entries, want %s %s",
				c.ID, c.Type, c.Path, c.Query, found.status, found.matches, found.entries, c.want(), found.outcome)
		}
		delete(differs, c.ID)
	}
	for id := range differs {
		t.Errorf("%s is listed, but there is no such case", id)
	}
}

// awaitIndexed waits until a parameter that the setup defined can be searched by.
func (d *datastore) awaitIndexed(t *testing.T, typ, query string) {
	t.Helper()
	for deadline := time.Now().Add(activeTimeout); ; {
		found := d.search(t, typ, query)
		if found.status == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s?%s: status %d %s", typ, query, found.status, found.outcome)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (c candleCase) right(found answer) bool {
	distinct := slices.Clone(found.matches)
	slices.Sort(distinct)
	return found.status == http.StatusOK && len(slices.Compact(distinct)) == len(found.matches) &&
		(c.Match == nil || *c.Match == len(found.matches) && *c.Match == found.total) &&
		(c.Entries == nil || *c.Entries == found.entries)
}

func (c candleCase) want() string {
	var parts []string
	for name, n := range map[string]*int{"matches": c.Match, "entries": c.Entries} {
		if n != nil {
			parts = append(parts, strconv.Itoa(*n)+" "+name)
		}
	}
	return strings.Join(parts, ", ")
}

// readDiffers reads lines "case | reason"; empty ones and those that begin with
// # are prose.
func readDiffers(t *testing.T, name string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		id, reason, ok := strings.Cut(line, " | ")
		if !ok || all[id] != "" {
			t.Fatalf("%s: %q", name, line)
		}
		all[id] = reason
	}
	return all
}
