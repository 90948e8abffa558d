package sigv4

import "strings"

// slashRule says whether a slash is escaped: not in paths, but in queries.
type slashRule bool

const (
	keepSlash   slashRule = false
	escapeSlash slashRule = true
)

// plusRule says what "+" means in a query: a space, as HTML forms write it, or
// itself, as RFC 3986 has it.
type plusRule bool

const (
	plusIsSpace plusRule = true
	plusIsPlus  plusRule = false
)

const upperHex = "0123456789ABCDEF"

// isUnreserved reports whether UriEncode of the specification leaves c alone:
// the unreserved characters of RFC 3986 section 2.3.
func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

// escape is UriEncode of the specification: %XY, upper-case, for every byte
// that is not unreserved.
func escape(s string, slash slashRule) string {
	plain := func(c byte) bool { return isUnreserved(c) || c == '/' && slash == keepSlash }
	extra := 0
	for i := range len(s) {
		if !plain(s[i]) {
			extra += 2
		}
	}
	if extra == 0 {
		return s
	}
	out := make([]byte, 0, len(s)+extra)
	for i := range len(s) {
		if c := s[i]; plain(c) {
			out = append(out, c)
		} else {
			out = append(out, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return string(out)
}

// unescape undoes percent-escapes; what is no escape stays as it is.
func unescape(s string, plus plusRule) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if decoded, ok := escapeAt(s, i); ok {
			c = decoded
			i += 2
		} else if c == '+' && plus == plusIsSpace {
			c = ' '
		}
		out = append(out, c)
	}
	return string(out)
}

// unescapeIllegal undoes the escapes of bytes that may not stand in a query at
// all (RFC 3986 section 3.4), | and UTF-8 among them, as if the sender's HTTP
// library had written them. Escapes of spaces stay: everybody writes those.
func unescapeIllegal(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if decoded, ok := escapeAt(s, i); ok && decoded > ' ' && !mayStandInQuery(decoded) {
			out = append(out, decoded)
			i += 2
			continue
		}
		out = append(out, s[i])
	}
	return string(out)
}

func mayStandInQuery(c byte) bool {
	return isUnreserved(c) || strings.IndexByte("!$&'()*+,;=:@/?%#", c) >= 0
}

// escapeAt reads the percent-escape at s[i].
func escapeAt(s string, i int) (byte, bool) {
	if s[i] != '%' || i+2 >= len(s) {
		return 0, false
	}
	high, low := hexDigit(s[i+1]), hexDigit(s[i+2])
	return byte(high<<4 | low), high >= 0 && low >= 0
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// escapeOnce escapes a path anew, segment by segment, so that an escaped slash
// never becomes one that parts.
func escapeOnce(path string) string {
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		segments[i] = escape(unescape(segment, plusIsPlus), escapeSlash)
	}
	return strings.Join(segments, "/")
}

// normalize takes empty, "." and ".." segments out of a path (RFC 3986 section
// 5.2.4, and AWS's rule that slashes collapse). A trailing slash stays, but
// none remains after "." or "..", as botocore and the vectors have it.
func normalize(path string) string {
	segments := strings.Split(path, "/")
	kept := segments[:0]
	for _, segment := range segments {
		switch segment {
		case "", ".":
		case "..":
			kept = kept[:max(len(kept)-1, 0)]
		default:
			kept = append(kept, segment)
		}
	}
	normal := "/" + strings.Join(kept, "/")
	if strings.HasSuffix(path, "/") && len(kept) > 0 {
		normal += "/"
	}
	return normal
}

// isPlainPath reports whether every form of a path is the path itself.
func isPlainPath(path string) bool {
	if !strings.HasPrefix(path, "/") {
		return false
	}
	for i := range len(path) {
		if c := path[i]; c != '/' && !isUnreserved(c) {
			return false
		}
	}
	return !strings.Contains(path, "//") && !strings.Contains(path, "/.")
}
