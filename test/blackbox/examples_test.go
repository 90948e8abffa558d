package blackbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/testpath"
	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// wantTour holds a tour's output to what each of them shows.
func wantTour(t *testing.T, out string) {
	t.Helper()
	for _, says := range []string{"created ", "stored Patient/", "found it at once: true"} {
		if !strings.Contains(strings.Replace(out, "True", "true", 1), says) {
			t.Errorf("the tour does not say %q:\n%s", says, out)
		}
	}
}

func example(elem ...string) string {
	return filepath.Join(append([]string{testpath.Root(), "examples"}, elem...)...)
}

// README's example in Python.
func TestPythonExample(t *testing.T) {
	t.Parallel()
	python := filepath.Join(pythonBin(t), "python")
	wantTour(t, start(t, fewPatients(t)...).program(python, example("python", "tour.py")))
}

// README's example in JavaScript.
func TestJavaScriptExample(t *testing.T) {
	t.Parallel()
	wantTour(t, start(t, fewPatients(t)...).script(example("js", "tour.mjs")))
}

// README's example in Go.
func TestGoExample(t *testing.T) {
	t.Parallel()
	s := start(t, fewPatients(t)...)
	built := filepath.Join(t.TempDir(), "tour")
	if out, err := exec.Command("go", "build", "-o", built, example("go")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	wantTour(t, s.program(built))
}

// README's example with curl.
func TestCurlExample(t *testing.T) {
	t.Parallel()
	curlThatSigns(t)
	s := start(t, fewPatients(t)...)
	env := append(s.awsEnvironment(), "AWS_ACCESS_KEY_ID="+s.Key.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+s.Key.SecretAccessKey)
	out, errOut, status := execute(t, env, "", "sh", example("curl.sh"), s.url())
	if status != 0 {
		t.Fatalf("exit status %d\n%s%s", status, out, errOut)
	}
	wantTour(t, out)
}

// make demo, twice on the same data: the second run finds the first one's store.
func TestDemo(t *testing.T) {
	t.Parallel()
	address, err := process.FreeAddress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "demo")
	env := append(os.Environ(), "TARN_DEMO_ONCE=1", "TARN_DEMO_DATA="+data, "TARN_DEMO_LISTEN="+address, "TARN_DEMO_BINARY="+tarn(t), "TARN_SYNTHEA_DIR="+fewPatients(t)[1])
	var said string
	for _, says := range []string{"Creating a data store", "of an earlier run"} {
		out, errOut, status := execute(t, env, "", "sh", example("demo.sh"))
		if status != 0 {
			t.Fatalf("exit status %d\n%s%s", status, out, errOut)
		}
		for _, want := range []string{says, "patients, three of them:", "heart rates above 90", "http://" + address + "/datastore/", "aws healthlake"} {
			if !strings.Contains(out, want) {
				t.Errorf("the demo does not say %q:\n%s", want, out)
			}
		}
		said = out
	}
	s := &server{t: t}
	s.begin(process.Options{Binary: tarn(t), Data: data, Listen: address})
	t.Cleanup(func() { s.must(s.Kill()) })
	s.wantPasted(said)
}

// wantPasted runs the demo's lines for the AWS CLI, in a shell that knows nothing
// else.
func (s *server) wantPasted(said string) {
	s.t.Helper()
	var lines []string
	for line := range strings.Lines(said) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "export ") || strings.HasPrefix(line, "aws ") {
			lines = append(lines, line)
		}
	}
	env := []string{"PATH=" + pythonBin(s.t) + ":" + os.Getenv("PATH"), "HOME=" + s.t.TempDir(), "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER="}
	out, errOut, status := execute(s.t, env, "", "sh", "-ec", strings.Join(lines, "\n"))
	if len(lines) < 4 || status != 0 || strings.Count(out, `"DatastoreStatus": "ACTIVE"`) != 2 {
		s.t.Errorf("%s\nexit status %d\n%s%s", strings.Join(lines, "\n"), status, out, errOut)
	}
}
