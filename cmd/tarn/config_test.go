package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/tarn-fhir/tarn/internal/throttle"
)

// parsed reads a command line with a configuration file of this content.
func parsed(t *testing.T, config string, args ...string) (*serveCommand, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tarn.json")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var c cli
	parser, err := kong.New(&c, options()...)
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(append([]string{"serve", "--config", path}, args...))
	return &c.Serve, err
}

func TestConfigFile(t *testing.T) {
	const file = `{"listen": "127.0.0.1:1", "cache-mib": 64, "debug-auth": true, "idle-close": "3s"}`
	c, err := parsed(t, file)
	if err != nil || c.Listen != "127.0.0.1:1" || c.CacheMiB != 64 || !c.DebugAuth || c.IdleClose.Seconds() != 3 {
		t.Errorf("from the file: %+v, %v", c, err)
	}
	if c, err = parsed(t, file, "--listen", "127.0.0.1:2"); err != nil || c.Listen != "127.0.0.1:2" {
		t.Errorf("the command line goes first: %q, %v", c.Listen, err)
	}
	t.Setenv("TARN_LISTEN", "127.0.0.1:3")
	if c, err = parsed(t, file); err != nil || c.Listen != "127.0.0.1:3" {
		t.Errorf("the environment goes before the file: %q, %v", c.Listen, err)
	}
}

func TestConfigFileRefuses(t *testing.T) {
	for file, says := range map[string]string{
		`{"lisen": "x"}`:              `"lisen"`,
		`[]`:                          "not a JSON object",
		`{"listen": {"port": 1}}`:     `"listen"`,
		`{"cache-mib": "plenty"}`:     "cache-mib",
		`{"log-level": "whispering"}`: "log-level",
	} {
		if _, err := parsed(t, file); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want a refusal that names %s", file, err, says)
		}
	}
}

func TestQuotaFlags(t *testing.T) {
	c, err := parsed(t, `{}`, "--quotas", "healthlake", "--quota", "SearchWithGet.store=5/s;reads.account=0", "--quota", "CheckDatastore.account=1/m")
	if err != nil {
		t.Fatal(err)
	}
	quotas, err := c.quotas()
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"SearchWithGet.store": "{5 1s}", "SearchWithGet.account": "{200 1s}", "reads.account": "{0 0s}", "reads.store": "{3000 1s}", "CheckDatastore.account": "{1 1m0s}",
	} {
		key, err := throttle.ParseKey(text, func(string) bool { return true })
		if got := fmt.Sprint(quotas[key]); err != nil || got != want {
			t.Errorf("%s is %s, want %s (%v)", text, got, want, err)
		}
	}
	if c.maxDatastores() != 20 {
		t.Errorf("%d data stores", c.maxDatastores())
	}
	for key := range throttle.HealthLake() { // names nothing that is not there, but for what is not offered yet
		if _, group := throttle.Groups[key.Name]; !group && !requestActions()[key.Name] && key.Name != "StartFHIRBulkMemberMatchJob" {
			t.Errorf("HealthLake's %s is no action here", key)
		}
	}
	for _, actions := range throttle.Groups {
		for _, name := range actions {
			if !requestActions()[name] {
				t.Errorf("%s of a group is no action here", name)
			}
		}
	}
	for _, wrong := range []string{"Search.store=1/s", "SearchWithGet=1/s", "SearchWithGet.store=1", "SearchWithGet.store"} {
		c, err := parsed(t, `{}`, "--quota", wrong)
		if err == nil {
			err = c.checkQuotas()
		}
		if err == nil {
			t.Errorf("--quota %s is taken", wrong)
		}
	}
}
