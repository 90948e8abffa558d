package blackbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// iamTool runs tarn iam as the root.
func (s *server) iamTool(args ...string) any {
	s.t.Helper()
	out := s.program(tarn(s.t), append(append([]string{"iam"}, args...), "--endpoint", s.url(), "--data", s.Data, "--output", "json")...)
	if strings.TrimSpace(out) == "" {
		return nil
	}
	return parse(s.t, []byte(out))
}

func (s *server) iamRefused(says string, args ...string) {
	s.t.Helper()
	_, errOut, status := s.attempt(tarn(s.t), append(append([]string{"iam"}, args...), "--endpoint", s.url(), "--data", s.Data)...)
	if status != 1 || !strings.Contains(errOut, says) {
		s.t.Errorf("tarn iam %v: exit status %d, %s, want %q", args, status, errOut, says)
	}
}

// keyOf is the key that an answer shows.
func (d *datastore) keyOf(answer any) *datastore {
	id, _ := dig(answer, 0, "AccessKeyId").(string)
	secret, _ := dig(answer, 0, "SecretAccessKey").(string)
	return d.as(id, secret)
}

// Users made with tarn iam stand beside those of the file, over restarts; keys
// rotate and are switched off at once.
func TestKeptPrincipals(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file, document, trust := filepath.Join(folder, "iam.yaml"), filepath.Join(folder, "read.json"), filepath.Join(folder, "trust.json")
	for path, text := range map[string]string{
		file:     iamFile,
		document: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"healthlake:ReadResource","Resource":"*"}]}`,
		trust:    `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/nurse"},"Action":"sts:AssumeRole"}]}`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, "--iam", file)
	d := s.store(nil)
	d.fhir("PUT", "/Patient/one", `{"resourceType":"Patient","id":"one"}`).want(201)

	s.iamTool("policy", "create", "reading", document)
	nurse := d.keyOf(s.iamTool("user", "create", "nurse", "--policy", "reading", "--policy", "keep"))
	nurse.get("/Patient/one").want(200)
	nurse.get("/Patient").want(403)
	s.iamTool("role", "create", "doctor", "--trust", trust, "--policy", "AmazonHealthLakeFullAccess")
	s.iamRefused("EntityAlreadyExists", "user", "create", "Nurse")
	s.iamRefused("EntityAlreadyExists", "user", "create", "reader")
	s.iamRefused("declared in the IAM file", "key", "create", "reader")
	s.iamRefused("DeleteConflict", "policy", "delete", "reading")
	s.iamRefused("MalformedPolicyDocument", "policy", "create", "wrong", file)
	if list := s.iamTool("user", "list"); len(list.([]any)) != 4 {
		t.Errorf("users: %v", list)
	}

	aws := filepath.Join(pythonBin(t), "aws")
	env := append(s.awsEnvironment(), "AWS_ENDPOINT_URL_IAM="+s.url(), "AWS_ENDPOINT_URL_STS="+s.url())
	for _, c := range [][2]string{
		{"list-users", "nurse"}, {"list-roles", "role/doctor"}, {"list-policies", "policy/reading"}, {"get-user --user-name nurse", "AIDA"},
		{"list-attached-user-policies --user-name nurse", "keep"}, {"list-access-keys --user-name nurse", nurse.Key.AccessKeyID},
		{"get-access-key-last-used --access-key-id " + nurse.Key.AccessKeyID, "LastUsedDate"},
	} {
		out, errOut, status := execute(t, env, "", aws, append([]string{"iam", "--output", "json"}, strings.Fields(c[0])...)...)
		if status != 0 || !strings.Contains(out, c[1]) {
			t.Errorf("aws iam %s: exit status %d\n%s%s", c[0], status, out, errOut)
		}
	}
	mine := append(slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, "AWS_PROFILE=") }),
		"AWS_ACCESS_KEY_ID="+nurse.Key.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+nurse.Key.SecretAccessKey)
	if _, errOut, status := execute(t, mine, "", aws, "iam", "create-access-key", "--user-name", "nurse"); status == 0 || !strings.Contains(errOut, "AccessDenied") {
		t.Errorf("a user without iam: permissions: %d %s", status, errOut)
	}
	if out, errOut, status := execute(t, mine, "", aws, "sts", "assume-role", "--role-arn", "arn:aws:iam::111122223333:role/doctor", "--role-session-name", "night"); status != 0 {
		t.Errorf("a kept role: %s%s", out, errOut)
	}

	next := d.keyOf(s.iamTool("key", "rotate", "nurse"))
	nurse.get("/Patient/one").want(401)
	next.get("/Patient/one").want(200)
	s.must(s.Stop())
	s.restart()
	next.get("/Patient/one").want(200)
	nurse.get("/Patient/one").want(401)
	if list, ok := s.iamTool("key", "list", "nurse").([]any); !ok || len(list) != 2 || dig(list[0], "LastUsed") == nil || dig(list[1], "LastUsed") == nil {
		t.Errorf("keys after a restart: %v", list)
	}
	s.iamTool("key", "disable", "nurse", next.Key.AccessKeyID)
	next.get("/Patient/one").want(401)
	s.iamTool("key", "enable", "nurse", next.Key.AccessKeyID)
	next.get("/Patient/one").want(200)
	s.iamTool("policy", "detach", "reading", "--user", "nurse")
	next.get("/Patient/one").want(403)
	s.iamTool("user", "delete", "nurse")
	next.get("/Patient/one").want(401)
	s.iamTool("policy", "delete", "reading")
	s.iamTool("role", "delete", "doctor")
	for _, secret := range []string{nurse.Key.SecretAccessKey, next.Key.SecretAccessKey} {
		if strings.Contains(s.Log(), secret) {
			t.Error("the log holds a secret")
		}
	}
}
