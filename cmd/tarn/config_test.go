package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
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
