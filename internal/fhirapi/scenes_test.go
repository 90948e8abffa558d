package fhirapi_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The scenes of testdata: readable tests of the data plane, each against an
// empty store of its own, on the twin and on the embedded engine.
//
//	== name (section of the specification that it proves)
//	> PUT /Patient/a            a request: method and target below r4
//	> If-Match: W/"1"           its headers
//	{"resourceType":"Patient"}  its body, any lines
//	< 200                       the status expected
//	< ETag: W/"2"               headers expected; "absent" is none, * is any
//	? name[0].family = Chalmers what a path in the body must be
//	? len(entry) = 2            how many items it has
//	? text absent               that it is not there
//	? issue[0].diagnostics ~ x  that it contains x
//	? body ~ x                  that the body as it was sent contains x
//	! validate                  what is written is validated, strictly
//	$next = link[1].url         keeps a text for later lines, as {next}
//
// {base} is the store's base URL, {1} the first id that the server gives, and
// so on; {long} is a list of ids that is too long for a URL.
func TestScenes(t *testing.T) {
	files, err := filepath.Glob("testdata/*.scene")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenes", err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".scene"), func(t *testing.T) {
			for i, text := range strings.Split("\n"+string(raw), "\n== ") {
				name, steps, _ := strings.Cut(text, "\n")
				if i > 0 {
					t.Run(name, func(t *testing.T) { runScene(t, newServer(t), steps) })
					t.Run(name+" on disk", func(t *testing.T) { runScene(t, onDisk(t), steps) })
				}
			}
		})
	}
}

type scene struct {
	t       *testing.T
	server  *server
	kept    map[string]string
	request []string // of the step that is being read: its > lines
	body    []string
	last    answer
}

// longList is many ids that nobody has.
var longList = strings.TrimSuffix(strings.Repeat("00000000-0000-4000-8000-999999999999,", 2000), ",")

func runScene(t *testing.T, server *server, text string) {
	server.check = strings.Contains(text, "\n! validate") || strings.HasPrefix(text, "! validate")
	s := &scene{t: t, server: server, kept: map[string]string{"base": base, "long": longList}}
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case strings.HasPrefix(line, "#"), strings.HasPrefix(line, "! "), strings.TrimSpace(line) == "" && len(s.request) == 0:
		case strings.HasPrefix(line, "> "):
			s.request = append(s.request, s.fill(line[2:]))
		case strings.HasPrefix(line, "< "):
			s.expect(s.fill(line[2:]))
		case strings.HasPrefix(line, "? "):
			s.check(s.fill(line[2:]))
		case strings.HasPrefix(line, "$"):
			name, path, _ := strings.Cut(line[1:], " = ")
			s.kept[name] = s.last.text(path)
		default:
			s.body = append(s.body, s.fill(line))
		}
	}
	if len(s.request) > 0 {
		t.Fatal("a request without an expected status: ", s.request[0])
	}
}

var placeholder = regexp.MustCompile(`\{[a-z0-9]+\}`)

func (s *scene) fill(line string) string {
	return placeholder.ReplaceAllStringFunc(line, func(p string) string {
		name := p[1 : len(p)-1]
		if kept, ok := s.kept[name]; ok {
			return kept
		}
		if n, err := strconv.Atoi(name); err == nil {
			return "00000000-0000-4000-8000-" + strings.Repeat("0", 12-len(name)) + strconv.Itoa(n)
		}
		return p
	})
}

// expect sends the pending request at its first < line, and checks status and
// headers.
func (s *scene) expect(line string) {
	s.t.Helper()
	if len(s.request) > 0 {
		method, target, _ := strings.Cut(s.request[0], " ")
		target = strings.TrimPrefix(target, base)
		s.last = s.server.do(s.t, method, target, strings.Join(s.body, "\n"), s.request[1:]...)
		if got := strconv.Itoa(s.last.status); got != line {
			s.t.Errorf("%s: status %s, want %s: %s", s.request[0], got, line, s.last.body)
		}
		s.request, s.body = nil, nil
		return
	}
	name, want, _ := strings.Cut(line, ": ")
	got := s.last.header.Get(name)
	if want == "*" && got != "" || want == "absent" && got == "" || got == want {
		return
	}
	s.t.Errorf("%s: got %q, want %q", name, got, want)
}

var counted = regexp.MustCompile(`^len\((.+)\) = (\d+)$`)

func (s *scene) check(line string) {
	s.t.Helper()
	if m := counted.FindStringSubmatch(line); m != nil {
		if got := s.last.at(m[1]).Len(); strconv.Itoa(got) != m[2] {
			s.t.Errorf("%s: got %d in %s", line, got, s.last.body)
		}
		return
	}
	if path, ok := strings.CutSuffix(line, " absent"); ok {
		if s.last.at(path).Exists() {
			s.t.Errorf("%s: it is there in %s", path, s.last.body)
		}
		return
	}
	if part, ok := strings.CutPrefix(line, "body ~ "); ok {
		if !strings.Contains(string(s.last.body), part) {
			s.t.Errorf("%s: got %s", line, s.last.body)
		}
		return
	}
	if path, part, ok := strings.Cut(line, " ~ "); ok {
		if !strings.Contains(s.last.text(path), part) {
			s.t.Errorf("%s: got %q", line, s.last.text(path))
		}
		return
	}
	path, want, _ := strings.Cut(line, " = ")
	n := s.last.at(path)
	if got := n.Text(); got != want && string(n.Raw()) != want {
		s.t.Errorf("%s: got %q in %s", line, n.Raw(), s.last.body)
	}
}
