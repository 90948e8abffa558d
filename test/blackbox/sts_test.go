package blackbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// stsFile declares a user who may assume a role that may not delete.
const stsFile = `
users:
  - name: chief
    accessKeys: [{accessKeyId: AKIACHIEF, secretAccessKey: the secret of the chief}]
roles:
  - arn: arn:aws:iam::111122223333:role/loader
    policies: [AmazonHealthLakeFullAccess, keep]
    trust:
      Version: "2012-10-17"
      Statement: [{Effect: Allow, Principal: {AWS: "arn:aws:iam::111122223333:user/chief"}, Action: "sts:AssumeRole"}]
policies:
  - name: keep
    document: {Version: "2012-10-17", Statement: [{Effect: Deny, Action: ["healthlake:Delete*"], Resource: "*"}]}
`

// The token service, by boto3 (testdata/sts_scene.py) and by the AWS CLI, whose
// own AssumeRole provider then signs for the control plane.
func TestSTS(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "iam.yaml")
	if err := os.WriteFile(file, []byte(stsFile), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, "--iam", file)
	d := s.store(nil)
	d.fhir("PUT", "/Patient/one", `{"resourceType":"Patient","id":"one"}`).want(201)
	env := append(s.awsEnvironment(), "STORE="+d.id)
	out, errOut, status := execute(t, env, "", filepath.Join(pythonBin(t), "python"), "testdata/sts_scene.py")
	if status != 0 {
		t.Fatalf("exit status %d\n%s%s", status, out, errOut)
	}
	wantDone(t, out)

	config := filepath.Join(t.TempDir(), "config")
	s.must(os.WriteFile(config, []byte("[profile night]\nrole_arn = arn:aws:iam::111122223333:role/loader\nsource_profile = chief\n"+
		"[profile chief]\naws_access_key_id = AKIACHIEF\naws_secret_access_key = the secret of the chief\n"), 0o600))
	env = append(s.awsEnvironment(), "AWS_CONFIG_FILE="+config, "AWS_ENDPOINT_URL_STS="+s.url(), "AWS_PROFILE=night",
		"HOME="+t.TempDir()) // where the CLI keeps the credentials of roles
	aws := filepath.Join(pythonBin(t), "aws")
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"sts", "get-caller-identity", "--output", "json"}, "assumed-role/loader/"},
		{[]string{"healthlake", "describe-fhir-datastore", "--datastore-id", d.id, "--output", "json"}, `"ACTIVE"`},
	} {
		out, errOut, status := execute(t, env, "", aws, c.args...)
		if status != 0 || !strings.Contains(out, c.says) {
			t.Errorf("aws %v: exit status %d\n%s%s", c.args, status, out, errOut)
		}
	}
}
