package fhirapi

// RouteOf names the route that answers a request, as Routes lists them, and for
// an operation its level; empty for none.
func RouteOf(method, rawPath string) string {
	segments, err := split(rawPath)
	if err != nil {
		return ""
	}
	r, err := find(method, segments)
	if err != nil {
		return ""
	}
	return r.method + " " + r.shape
}
