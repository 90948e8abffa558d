package iam

import (
	"os"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
)

const testAccount = "111122223333"

func TestAccountRefused(t *testing.T) {
	for _, c := range []struct{ name, text, says string }{
		{"empty", "", "no documents"},
		{"no YAML", "users: [", "not YAML"},
		{"tabs", "users:\n\t- name: x", "not YAML"},
		{"two documents", "users: []\n---\nusers: []", "not YAML"},
		{"no JSON", "{\n \"users\": [,]}", "line 2, column"},
		{"a list", "- users", "line 1, column 1: is a list, wanted an object"},
		{"member", "users: []\ngroups: []", `line 2, column 9: groups: "groups" is not known here; known are policies, roles, users`},
		{"twice", "users: []\nusers: []", `"users" is there twice`},
		{"merge", "users:\n  - &a {name: x}\n  - <<: *a", "is not understood|is not known"},
		{"cycle", "users: &u [*u]", "levels|not YAML"},
		{"tag", "users: !!binary aGk=", "tag !!binary"},
		{"name", "users:\n  - name: a b", "line 2, column 11: users[0].name: a name has"},
		{"no name", "users:\n  - tags: {}", "users[0]: has no name"},
		{"same name", "users:\n  - name: ann\n  - name: Ann\n    path: /x/", `line 3, column 11: users[1].name: "Ann" names two users`},
		{"path", "users:\n  - {name: x, path: clinic}", "begins and ends with a slash"},
		{"policy unknown", "users:\n  - name: x\n    policies: [AmazonS3FullAccess]", "users[0].policies[0]: no policy is named AmazonS3FullAccess"},
		{"policies text", "users:\n  - name: x\n    policies: y", "is text, wanted a list"},
		{"policy of AWS", "policies:\n  - name: AmazonHealthLakeFullAccess\n    document: {Statement: {Effect: Deny, Action: '*', Resource: '*'}}", "the name of a policy of AWS"},
		{"policy twice", "policies:\n  - &p {name: a, document: {Statement: {Effect: Deny, Action: '*', Resource: '*'}}}\n  - *p", "names two policies"},
		{"no document", "policies:\n  - name: a", "policies[0]: has no document"},
		{"wrong document", "policies:\n  - name: a\n    document:\n      Statement:\n        - {Effect: Deny, Action: read, Resource: '*'}",
			`line 5, column 34: policies[0].document.Statement[0].Action: "read" is not an action`},
		{"wrong JSON inside", "policies:\n  - name: a\n    document: '{\"Statement\": {}}'", "policies[0].document: the JSON inside: line 1, column 15: Statement: has no Effect"},
		{"key id", "users:\n  - {name: x, accessKeys: [{accessKeyId: A!, secretAccessKey: 0123456789012345}]}", "an access key id has"},
		{"no secret", "users:\n  - {name: x, accessKeys: [{accessKeyId: AKIA}]}", "has no secretAccessKey"},
		{"status", "users:\n  - {name: x, accessKeys: [{accessKeyId: AKIA, secretAccessKey: 0123456789012345, status: off}]}", `"off" is neither Active nor Inactive`},
		{"key twice", "users:\n  - {name: x, accessKeys: [&k {accessKeyId: AKIA, secretAccessKey: 0123456789012345}, *k]}", `"AKIA" is there twice`},
		{"role", "roles:\n  - arn: arn:aws:iam::111122223333:user/x", "is not a role's ARN"},
		{"role twice", "roles:\n  - &r {arn: 'arn:aws:iam::111122223333:role/x'}\n  - *r", "is there twice"},
		{"duration", "roles:\n  - {arn: 'arn:aws:iam::111122223333:role/x', maxSessionDuration: 60}", "last 3600 to 43200 seconds"},
		{"trust", "roles:\n  - {arn: 'arn:aws:iam::111122223333:role/x', trust: {Statement: {Effect: Allow, Action: 'sts:AssumeRole'}}}", "roles[0].trust.Statement: has no Principal"},
		{"tags", "users:\n  - {name: x, tags: [a]}", "an object of tags"},
		{"tags alike", "users:\n  - {name: x, tags: {A: 1, a: 2}}", "in case alone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseAccount("aws", testAccount, []byte(c.text))
			if err == nil {
				t.Fatal("taken")
			}
			for says := range strings.SplitSeq(c.says, "|") {
				if strings.Contains(fault.From(err).Message(), says) {
					return
				}
			}
			t.Errorf("%v, wanted it to say %q", err, c.says)
		})
	}
}

// TestAccountKeepsSecrets: whatever is wrong with a key, its secret is not told.
func TestAccountKeepsSecrets(t *testing.T) {
	const secret = "hunter2"
	for _, text := range []string{
		"users:\n  - {name: x, accessKeys: [{accessKeyId: AKIA, secretAccessKey: " + secret + "}]}",
		"users:\n  - {name: x, accessKeys: [{accessKeyId: AKIA, secretAccessKey: [" + secret + "]}]}",
		"users:\n  - name: x\n    accessKeys:\n      - accessKeyId: AKIA\n        secretAccessKey: " + secret + "\n       status: Active",
		`{"users": [{"accessKeys": [{"secretAccessKey": "` + secret + `" "status"}]}]}`,
	} {
		if _, err := ParseAccount("aws", testAccount, []byte(text)); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%v", err)
		}
	}
}

func TestAccountBounds(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		last := "*" + string(c-1)
		bomb += string(c) + ": &" + string(c) + " [" + strings.Repeat(last+",", 8) + last + "]\n"
	}
	for name, text := range map[string]string{
		"bomb":     bomb,
		"too long": strings.Repeat("#", FileBytesMax+1),
		"too deep": strings.Repeat("[", 200) + strings.Repeat("]", 200),
	} {
		if _, err := ParseAccount("aws", testAccount, []byte(text)); !fault.Is(err, fault.Syntax) && !fault.Is(err, fault.TooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAccountAsJSONWithTabs(t *testing.T) {
	a, err := ParseAccount("aws-cn", testAccount, []byte("{\n\t\"users\": [\n\t\t{\"name\": \"x\", \"policies\": [\"AmazonHealthLakeFullAccess\"]}\n\t]\n}"))
	if err != nil {
		t.Fatal(err)
	}
	if u := a.identities["arn:aws-cn:iam::111122223333:user/x"]; u == nil || len(u.policies) != 1 {
		t.Errorf("%v", a.identities)
	}
}

func FuzzAccount(f *testing.F) {
	text, err := os.ReadFile("testdata/account.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"users":[{"name":"x","accessKeys":[{"accessKeyId":"AKIA","secretAccessKey":"0123456789012345"}]}]}`))
	f.Add([]byte("users: &u\n  - <<: *u\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := ParseAccount("aws", testAccount, text)
		if err != nil {
			if k := fault.From(err).Kind; k == fault.Internal {
				t.Fatalf("%v", err)
			}
			return
		}
		for id, key := range a.keys {
			if len(key.secret) < secretMin || a.identities[key.user] == nil {
				t.Fatalf("key %s of %s was taken", id, key.user)
			}
		}
	})
}
