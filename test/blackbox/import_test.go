package blackbox

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// s3Server is a real S3 server, of others, with its own keys.
type s3Server struct {
	t       testing.TB
	command *exec.Cmd
	args    []string
	url     string
	bundle  string // its certificate, with TLS
}

const s3Key, s3Secret = "AKIDS3SERVER", "s3-secret-of-the-tests"

// startS3 starts one on a fresh folder.
func startS3(t testing.TB, tls bool) *s3Server {
	t.Helper()
	binary := os.Getenv("TARN_TEST_S3")
	if binary == "" {
		lacking(t, "TARN_TEST_S3 names no S3 server: make clients builds one")
	}
	address, err := process.FreeAddress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := &s3Server{t: t, url: "http://" + address}
	args := []string{binary, "--quiet", "--port", address, "--access", s3Key, "--secret", s3Secret}
	if tls {
		cert, key := certificate(t)
		args = append(args, "--cert", cert, "--key", key)
		s.url, s.bundle = "https://"+address, cert
	}
	args = append(args, "posix", t.TempDir())
	s.args = args
	s.start()
	t.Cleanup(s.kill)
	return s
}

// start starts it, and waits until it listens.
func (s *s3Server) start() {
	s.t.Helper()
	s.command = exec.CommandContext(context.WithoutCancel(s.t.Context()), s.args[0], s.args[1:]...)
	if err := s.command.Start(); err != nil {
		s.t.Fatal(err)
	}
	_, address, _ := strings.Cut(s.url, "://")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the S3 server does not listen: %v", err)
		}
	}
}

func (s *s3Server) kill() {
	s.command.Process.Kill()
	s.command.Wait() // killed: its error is that it was
}

// certificate makes a certificate for loopback that is its own authority.
func certificate(t testing.TB) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "S3 of the tests"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	rawKey, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	cert, key = filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: raw}, key: {Type: "PRIVATE KEY", Bytes: rawKey}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// environment is what AWS's own clients need to use it.
func (s *s3Server) environment() []string {
	env := []string{"AWS_ACCESS_KEY_ID=" + s3Key, "AWS_SECRET_ACCESS_KEY=" + s3Secret, "AWS_ENDPOINT_URL_S3=" + s.url, "AWS_REGION=us-east-1"}
	if s.bundle != "" {
		env = append(env, "AWS_CA_BUNDLE="+s.bundle)
	}
	return env
}

// aws runs the AWS CLI's s3 commands.
func (s *s3Server) aws(args ...string) string {
	s.t.Helper()
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.t.TempDir(), "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER="}
	env = append(env, s.environment()...)
	out, errOut, status := execute(s.t, env, "", filepath.Join(pythonBin(s.t), "aws"), append([]string{"s3"}, args...)...)
	if status != 0 {
		s.t.Fatalf("aws s3 %v: %s", args, errOut)
	}
	return out
}

// names are the keys in a bucket that begin with a prefix. Something must be in
// the bucket.
func (s *s3Server) names(bucket, prefix string) []string {
	s.t.Helper()
	var names []string
	for _, line := range strings.Split(strings.TrimSpace(s.aws("ls", "--recursive", "s3://"+bucket)), "\n") {
		fields := strings.Fields(line)
		if name := fields[len(fields)-1]; strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names
}

const importRole = "arn:aws:iam::111122223333:role/import"

func importMembers(id, in, out, level string) map[string]any {
	return map[string]any{
		"DatastoreId": id, "InputDataConfig": map[string]any{"S3Uri": in}, "DataAccessRoleArn": importRole, "ValidationLevel": level,
		"JobOutputDataConfig": map[string]any{"S3Configuration": map[string]any{"S3Uri": out, "KmsKeyId": "alias/jobs"}},
	}
}

// importJob is what Describe says of an import, as far as tests ask.
type importJob struct {
	JobID               string `json:"JobId"`
	JobStatus, Message  string
	JobOutputDataConfig struct{ S3Configuration struct{ S3Uri string } }
	JobProgressReport   struct {
		TotalNumberOfResourcesScanned, TotalNumberOfResourcesImported, TotalNumberOfResourcesWithCustomerError int64
		TotalNumberOfFilesReadWithCustomerError, TotalNumberOfScannedFiles                                     int64
		Throughput                                                                                             float64
	}
}

func (s *server) describeImport(store, id string) (importJob, error) {
	var answer struct{ ImportJobProperties importJob }
	err := s.Control(s.t.Context(), "DescribeFHIRImportJob", map[string]string{"DatastoreId": store, "JobId": id}, &answer)
	return answer.ImportJobProperties, err
}

func (s *server) startImport(members map[string]any) string {
	s.t.Helper()
	var made struct {
		JobID string `json:"JobId"`
	}
	s.must(s.Control(s.t.Context(), "StartFHIRImportJob", members, &made))
	return made.JobID
}

func (s *server) awaitImport(store, id string) importJob {
	s.t.Helper()
	for deadline := time.Now().Add(activeTimeout); ; time.Sleep(10 * time.Millisecond) {
		j, err := s.describeImport(store, id)
		s.must(err)
		switch j.JobStatus {
		case "SUBMITTED", "QUEUED", "IN_PROGRESS":
		default:
			return j
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the import is still %s", j.JobStatus)
		}
	}
}

// ndjson is n patients with ids of a prefix, and a broken line in every hundred.
func ndjson(prefix string, n int) (text string, good, bad int) {
	var b strings.Builder
	for i := range n {
		if i%100 == 99 {
			b.WriteString("{broken\n")
			bad++
			continue
		}
		fmt.Fprintf(&b, `{"resourceType":"Patient","id":"%s%d","active":true,"birthDate":"1980-01-02","name":[{"family":"Noor"}]}`+"\n", prefix, i)
		good++
	}
	return b.String(), good, bad
}

// The AWS CLI with its waiter, and a real S3 server, without and with TLS.
func TestImportFromS3(t *testing.T) {
	for name, tls := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s3 := startS3(t, tls)
			s := &server{t: t}
			s.begin(process.Options{
				Binary: tarn(t), Data: filepath.Join(t.TempDir(), "data"), Env: s3.environment(),
				Flags: []string{"--synthea-dir", fewPatients(t)[1], "--s3-addressing", "path"},
			})
			t.Cleanup(func() { s.must(s.Kill()) })
			text, good, bad := ndjson("p", 60000)
			source := filepath.Join(t.TempDir(), "Patient.ndjson")
			s.must(os.WriteFile(source, []byte(text), 0o600))
			s3.aws("mb", "s3://source")
			s3.aws("mb", "s3://target")
			s3.aws("cp", "--quiet", source, "s3://source/data/Patient.ndjson")

			d := s.store(nil)
			cli := awsCLI{s, filepath.Join(pythonBin(t), "aws")}
			start := func(in, out string) []string {
				return []string{"start-fhir-import-job", "--datastore-id", d.id, "--input-data-config", "S3Uri=" + in, "--data-access-role-arn", importRole,
					"--job-output-data-config", "S3Configuration={S3Uri=" + out + ",KmsKeyId=alias/jobs}", "--job-name", "load", "--client-token", "t-" + name}
			}
			made := cli.run(start("s3://source/data/", "s3://target/jobs")...)
			id := dig(made, "JobId").(string)
			if again := cli.run(start("s3://source/data/", "s3://target/jobs")...); dig(again, "JobId") != id {
				t.Errorf("the same token made another job: %v", again)
			}
			cli.refusedAs("FailedDependencyException", start("s3://nobody-has-it/", "s3://target/jobs")...)
			s.awaitImport(d.id, id)
			cli.run("wait", "fhir-import-job-completed", "--datastore-id", d.id, "--job-id", id)
			raw, err := json.Marshal(dig(cli.run("describe-fhir-import-job", "--datastore-id", d.id, "--job-id", id), "ImportJobProperties"))
			s.must(err)
			var j importJob
			s.must(json.Unmarshal(raw, &j))
			if r := j.JobProgressReport; j.JobStatus != "COMPLETED_WITH_ERRORS" || r.TotalNumberOfResourcesImported != int64(good) || r.TotalNumberOfResourcesWithCustomerError != int64(bad) {
				t.Errorf("%+v", j)
			}
			if n := d.total("Patient"); n != good {
				t.Errorf("%d patients, want %d", n, good)
			}
			if list := dig(cli.run("list-fhir-import-jobs", "--datastore-id", d.id, "--job-name", "load"), "ImportJobPropertiesList", 0, "JobId"); list != id {
				t.Errorf("listed: %v", list)
			}
			listing := s3.aws("ls", "--recursive", "s3://target/")
			for _, want := range []string{"-FHIR_IMPORT-" + id + "/SUCCESS/Patient.ndjson", "/FAILURE/Patient.ndjson", "/Manifest.json"} {
				if !strings.Contains(listing, want) {
					t.Errorf("no %s in the output:\n%s", want, listing)
				}
			}
		})
	}
}

// The S3 server dies in the middle of an import and comes back: the job waits.
func TestImportOutlivesItsS3(t *testing.T) {
	t.Parallel()
	s3 := startS3(t, false)
	s := &server{t: t}
	s.begin(process.Options{Binary: tarn(t), Data: filepath.Join(t.TempDir(), "data"), Env: s3.environment(), Flags: []string{"--s3-addressing", "path"}})
	t.Cleanup(func() { s.must(s.Kill()) })
	s3.aws("mb", "s3://source")
	folder := t.TempDir()
	want := 0
	for f := range 6 {
		text, good, _ := ndjson(fmt.Sprintf("f%d-", f), 8000)
		want += good
		s.must(os.WriteFile(filepath.Join(folder, fmt.Sprintf("%d.ndjson", f)), []byte(text), 0o600))
	}
	s3.aws("cp", "--quiet", "--recursive", folder, "s3://source/data/")
	d := s.store(nil)
	id := s.startImport(importMembers(d.id, "s3://source/data/", "s3://source/out/", "minimal"))
	s3.kill()
	s3.start()
	if j := s.awaitImport(d.id, id); j.JobStatus != "COMPLETED_WITH_ERRORS" || j.JobProgressReport.TotalNumberOfResourcesImported != int64(want) {
		t.Errorf("%+v", j)
	}
	if n := d.total("Patient"); n != want {
		t.Errorf("%d patients, want %d", n, want)
	}
}

// kill -9 in the middle of imports: every resource is there once, every line in
// one folder, and the counters are the truth.
func TestKillImport(t *testing.T) {
	t.Parallel()
	buckets := t.TempDir()
	want, wrong := 0, 0
	for _, name := range []string{"source", "target"} {
		if err := os.Mkdir(filepath.Join(buckets, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for f := range 5 {
		text, good, bad := ndjson(fmt.Sprintf("f%d-", f), 5000)
		want, wrong = want+good, wrong+bad
		if err := os.WriteFile(filepath.Join(buckets, "source", fmt.Sprintf("%d.ndjson", f)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, "--s3-dir", buckets)
	for round := range rounds(t) {
		r := moments(t, round)
		d := s.store(nil)
		id := s.startImport(importMembers(d.id, "s3://source/", "s3://target/", "minimal"))
		time.Sleep(between(r, 0, time.Second))
		s.must(s.Kill())
		s.revive(r, round)
		d.server = s
		j := s.awaitImport(d.id, id)
		if p := j.JobProgressReport; j.JobStatus != "COMPLETED_WITH_ERRORS" || p.TotalNumberOfResourcesImported != int64(want) ||
			p.TotalNumberOfResourcesWithCustomerError != int64(wrong) || p.TotalNumberOfResourcesScanned != int64(want+wrong) {
			t.Fatalf("round %d: %+v", round, j)
		}
		if n := d.total("Patient"); n != want {
			t.Fatalf("round %d: %d patients, want %d", round, n, want)
		}
		if once := d.get("/Patient/f0-0/_history").want(200).at("total"); fmt.Sprint(once) != "1" {
			t.Fatalf("round %d: %v versions", round, once)
		}
		lines := map[string]int{}
		folder := filepath.Join(buckets, "target", d.id+"-FHIR_IMPORT-"+id)
		s.must(filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			raw, err := os.ReadFile(path)
			lines[filepath.Base(filepath.Dir(path))] += strings.Count(string(raw), "\n")
			return err
		}))
		if lines["SUCCESS"] != want || lines["FAILURE"] != wrong {
			t.Fatalf("round %d: lines %v, want %d and %d", round, lines, want, wrong)
		}
	}
}
