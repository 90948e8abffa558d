package gateway

import "testing"

func TestSplitData(t *testing.T) {
	for path, want := range map[string][3]string{
		"/datastore/abc/r4/Patient/1":                     {"abc", "/Patient/1", ""},
		"/datastore/abc/r4/":                              {"abc", "/", ""},
		"/datastore/abc/r4":                               {"abc", "", ""},
		"/datastore/abc//r4//Patient":                     {"abc", "//Patient", ""},
		"/datastore/abc/patientaccess/v2/r4/Patient":      {"abc", "/Patient", "patient-access"},
		"/datastore/abc/provideraccess/v2/r4/Group":       {"abc", "/Group", "provider-access"},
		"/datastore/abc/payertopayerdx/v2/r4/Patient":     {"abc", "/Patient", "payer-to-payer"},
		"/datastore/abc/priorauthservice/v2/r4/Claim":     {"abc", "/Claim", "prior-authorization"},
		"/datastore/abc/r4x/Patient":                      {},
		"/datastore/abc/r5/Patient":                       {},
		"/datastore/abc/patientaccess/v1/r4/Patient":      {},
		"/datastore/abc/patientaccess/v2/Patient":         {},
		"/datastore//r4/Patient":                          {},
		"/datastore/abc":                                  {},
		"/datastore/abc/priorauthservice/v2/r4%2FPatient": {},
	} {
		id, rest, uriType, ok := splitData(path)
		if got := [3]string{id, rest, uriType}; got != want || ok != (want[0] != "") {
			t.Errorf("%s: %v %v, want %v", path, got, ok, want)
		}
	}
}
