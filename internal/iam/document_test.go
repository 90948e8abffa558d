package iam

import (
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// TestDocumentRefused gives documents that are wrong in one place, and what the
// message must say of it.
func TestDocumentRefused(t *testing.T) {
	const head = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",`
	for _, c := range []struct{ name, text, says string }{
		{"no JSON", `{"Version": "2012-10-17",}`, "line 1, column"},
		{"ends", `{"Statement": [`, "ends too early"},
		{"more", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}} {}`, "something follows"},
		{"twice", `{"Version":"2012-10-17","Version":"2012-10-17"}`, "duplicate"},
		{"list", `[]`, "is a list, wanted an object"},
		{"version", `{"Version":"2012-10-18","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`, `Version: "2012-10-18" is no version`},
		{"empty", `{"Version":"2012-10-17"}`, "has no Statement"},
		{"no statement", `{"Version":"2012-10-17","Statement":[]}`, "Statement: is an empty list"},
		{"case", head + `"action":"*","Resource":"*"}]}`, `did you mean "Action"?`},
		{"member", head + `"Action":"*","Resource":"*","Reason":"x"}]}`, `Statement[0].Reason: "Reason" is not known here`},
		{"effect", `{"Statement":{"Effect":"allow","Action":"*","Resource":"*"}}`, `Statement.Effect: "allow" is neither`},
		{"no effect", `{"Statement":{"Action":"*","Resource":"*"}}`, "has no Effect"},
		{"both actions", head + `"Action":"*","NotAction":"s3:*","Resource":"*"}]}`, "either Action or NotAction"},
		{"no resource", head + `"Action":"*"}]}`, "either Resource or NotResource"},
		{"no service", head + `"Action":"ReadResource","Resource":"*"}]}`, "Statement[0].Action:"},
		{"wild service", head + `"Action":"health*:ReadResource","Resource":"*"}]}`, "is not an action"},
		{"no action", head + `"Action":[],"Resource":"*"}]}`, "is an empty list"},
		{"number", head + `"Action":[true],"Resource":"*"}]}`, "Action[0]: is true or false, wanted text"},
		{"no ARN", head + `"Action":"*","Resource":"datastore/x"}]}`, "is not an ARN"},
		{"short ARN", head + `"Action":"*","Resource":"arn:aws:healthlake"}]}`, "is not an ARN"},
		{"principal", head + `"Action":"*","Resource":"*","Principal":"*"}]}`, "has no Principal"},
		{"sid", head + `"Sid":"a b","Action":"*","Resource":"*"}]}`, "more than letters and digits"},
		{"two sids", `{"Statement":[{"Sid":"A","Effect":"Deny","Action":"*","Resource":"*"},{"Sid":"A","Effect":"Deny","Action":"*","Resource":"*"}]}`, "names two statements"},
		{"variable", head + `"Action":"*","Resource":"arn:aws:healthlake:*:*:datastore/fhir/${aws:userid}"}]}`, "${aws:userid} is not known"},
		{"open variable", head + `"Action":"*","Resource":"arn:aws:healthlake:*:*:datastore/fhir/${aws"}]}`, "without its }"},
		{"many-valued variable", head + `"Action":"*","Resource":"arn:aws:x:::${aws:TagKeys}"}]}`, "cannot be a policy variable"},
		{"default", head + `"Action":"*","Resource":"arn:aws:x:::${aws:username, bob}"}]}`, "single quotes"},
		{"operator", head + `"Action":"*","Resource":"*","Condition":{"StringIs":{"aws:UserAgent":"x"}}}]}`, `Condition.StringIs: the operator "StringIs" is not known`},
		{"binary", head + `"Action":"*","Resource":"*","Condition":{"BinaryEquals":{"aws:UserAgent":"x"}}}]}`, "is not known"},
		{"null", head + `"Action":"*","Resource":"*","Condition":{"NullIfExists":{"aws:UserAgent":"true"}}}]}`, "Null takes no prefix"},
		{"key", head + `"Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:SourceVpc":"x"}}}]}`, `the condition key "aws:SourceVpc" is not known`},
		{"empty tag", head + `"Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/":"x"}}}]}`, "is not known"},
		{"key of another type", head + `"Action":"*","Resource":"*","Condition":{"NumericEquals":{"aws:SourceIp":"1"}}}]}`, "cannot be compared by NumericEquals"},
		{"list key", head + `"Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:TagKeys":"x"}}}]}`, "write ForAnyValue:StringEquals or ForAllValues:StringEquals"},
		{"no values", head + `"Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:UserAgent":[]}}}]}`, "is an empty list"},
		{"number value", head + `"Action":"*","Resource":"*","Condition":{"NumericEquals":{"aws:EpochTime":"soon"}}}]}`, "is not a number"},
		{"exponent", head + `"Action":"*","Resource":"*","Condition":{"NumericEquals":{"aws:EpochTime":"1e99999999"}}}]}`, "is not a number"},
		{"date value", head + `"Action":"*","Resource":"*","Condition":{"DateEquals":{"aws:CurrentTime":"01.02.2026"}}}]}`, "is not a date"},
		{"address value", head + `"Action":"*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"203.0.113.0/33"}}}]}`, "is not an address"},
		{"boolean value", head + `"Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"yes"}}}]}`, "neither true nor false"},
		{"ARN value", head + `"Action":"*","Resource":"*","Condition":{"ArnLike":{"aws:PrincipalArn":"bob"}}}]}`, "is not an ARN"},
		{"null value", head + `"Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:UserAgent":null}}}]}`, "is null, wanted text"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseDocument("p", []byte(c.text))
			if !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.Syntax) || !strings.Contains(fault.From(err).Message(), c.says) {
				t.Errorf("%v, wanted it to say %q", err, c.says)
			}
		})
	}
}

func TestDocumentTellsEveryPlace(t *testing.T) {
	_, err := ParseDocument("p", []byte("{\n\t\"Statement\": [\n\t\t{\"Effect\": \"Allow\", \"Action\": \"x\",\n\t\t \"Resource\": \"y\"}\n\t]\n}"))
	places := fault.From(err).Place
	if len(places) != 2 || places[0].Line != 3 || places[0].Col != 33 || places[0].Expression != "Statement[0].Action" || places[1].Line != 4 || places[1].Col != 16 {
		t.Errorf("%+v", places)
	}
}

func TestDocumentBounds(t *testing.T) {
	if _, err := ParseDocument("p", make([]byte, DocumentBytesMax+1)); !fault.Is(err, fault.TooLarge) {
		t.Errorf("too many bytes: %v", err)
	}
	if _, err := ParseDocument("p", []byte(strings.Repeat(`{"Statement":`, depthMax+2))); !fault.Is(err, fault.Syntax) || !strings.Contains(err.Error(), "levels") {
		t.Errorf("too deep: %v", err)
	}
}

func TestDocumentWarns(t *testing.T) {
	d, err := ParseDocument("p", []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":["healthlake:ReadResorce","healthlake:Read*","s3:Get"],"Resource":"*",
		"Condition":{"ForAllValues:StringEquals":{"aws:UserAgent":"x"}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if w := d.Warnings(); len(w) != 2 || !strings.Contains(Finding(w[0]), `Statement.Action[0]: "healthlake:ReadResorce" is the name of no action`) ||
		!strings.Contains(w[1].Detail, "has one value") {
		t.Errorf("%v", w)
	}
}

func TestTrustRefused(t *testing.T) {
	for says, statement := range map[string]string{
		"has no Principal":            `"Effect":"Allow","Action":"sts:AssumeRole"`,
		"has no Resource":             `"Effect":"Allow","Action":"sts:AssumeRole","Principal":"*","Resource":"*"`,
		"is not a Principal":          `"Effect":"Allow","Action":"sts:AssumeRole","Principal":"bob"`,
		"federated":                   `"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"Federated":"x"}`,
		"NotPrincipal":                `"Effect":"Allow","Action":"sts:AssumeRole","NotPrincipal":"*"`,
		"the ARN of a user":           `"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"AWS":"arn:aws:iam::111122223333:user/*"}`,
		"Principal.AWS[0]: is a list": `"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"AWS":[["x"]]}`,
		`did you mean "Service"?`:     `"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"service":"x"}`,
		"Principal.AWS: is an empty":  `"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"AWS":[]}`,
	} {
		_, err := ParseTrust("role", []byte(`{"Version":"2012-10-17","Statement":{`+statement+`}}`))
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, wanted %q", statement, err, says)
		}
	}
}

// FuzzDocument: a document either is refused with a kind, or judges without
// ado, the same each time.
func FuzzDocument(f *testing.F) {
	for _, text := range managedTexts {
		f.Add([]byte(text))
	}
	f.Add([]byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","NotAction":"a:*","NotResource":"arn:aws:x:::${aws:PrincipalTag/x, 'y'}",
		"Condition":{"ForAllValues:StringNotLikeIfExists":{"aws:TagKeys":["a*","b"]},"Null":{"aws:UserAgent":true},"DateLessThan":{"aws:CurrentTime":"2026"},
		"ArnLike":{"aws:PrincipalArn":"arn:*:iam::*:user/?"},"IpAddress":{"aws:SourceIp":"10.0.0.0/8"},"NumericEquals":{"aws:EpochTime":1.5}}}]}`))
	f.Add([]byte(`{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"AWS":["111122223333","*"],"Service":"x"}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, parse := range []func(string, []byte) (*Document, error){ParseDocument, ParseTrust} {
			d, err := parse("p", text)
			if err != nil {
				if k := fault.From(err).Kind; k != fault.Invalid && k != fault.Syntax && k != fault.TooLarge {
					t.Fatalf("kind %v: %v", k, err)
				}
				continue
			}
			e := request(t, []string{"healthlake:TagResource", "$", "req.a=b", "ip=10.1.2.3", "time=2026-01-01T00:00:00Z", "my.x=y"})
			if first, second := evaluate([]*Document{d}, e), evaluate([]*Document{d}, e); first != second {
				t.Fatalf("%v, then %v", first, second)
			}
			deny := &Document{statements: []statement{{effect: Deny, notActions: true}}}
			if got := evaluate([]*Document{d, deny}, e); got.Outcome != Denied {
				t.Fatalf("with a Deny of everything: %v", got)
			}
		}
	})
}
