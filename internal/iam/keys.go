package iam

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// keyType says which operators a condition key takes besides the string ones and
// Null, which take every key.
type keyType uint8

const (
	keyString keyType = iota
	keyARN
	keyAddress
	keyDate
	keyEpoch // a date, or the number of seconds since 1970
	keyBool
	keyTag // a tag's value may be of any type
)

// conditionKey is one key of the request context.
type conditionKey struct {
	name   string // as AWS writes it; of a family of keys it ends with a slash
	holds  keyType
	many   bool                                         // has several values, so that it needs ForAnyValue or ForAllValues
	values func(e *environment, suffix string) []string // nil: the request has no such key
}

// conditionKeys are the keys understood (IAM User Guide, "AWS global condition
// context keys"; the healthlake page of the Service Authorization Reference has
// the three tag keys and none of its own).
var conditionKeys = []conditionKey{
	{name: "aws:CurrentTime", holds: keyDate, values: func(e *environment, _ string) []string { return currentTime(e.Values.Time) }},
	{name: "aws:EpochTime", holds: keyEpoch, values: func(e *environment, _ string) []string { return epochTime(e.Values.Time) }},
	{name: "aws:PrincipalAccount", values: func(e *environment, _ string) []string { return present(e.subject.account) }},
	{name: "aws:PrincipalArn", holds: keyARN, values: func(e *environment, _ string) []string { return present(e.subject.arn) }},
	{name: "aws:PrincipalTag/", holds: keyTag, values: func(e *environment, tag string) []string { return tagValue(e.subject.tags, tag) }},
	{name: "aws:RequestTag/", holds: keyTag, values: func(e *environment, tag string) []string { return tagValue(e.Values.RequestTags, tag) }},
	{name: "aws:RequestedRegion", values: func(e *environment, _ string) []string { return present(e.Values.Region) }},
	{name: "aws:ResourceTag/", holds: keyTag, values: func(e *environment, tag string) []string { return tagValue(e.Values.ResourceTags, tag) }},
	{name: "aws:SecureTransport", holds: keyBool, values: func(e *environment, _ string) []string { return []string{strconv.FormatBool(e.Values.SecureTransport)} }},
	{name: "aws:SourceAccount", values: func(e *environment, _ string) []string { return present(e.Values.SourceAccount) }},
	{name: "aws:SourceArn", holds: keyARN, values: func(e *environment, _ string) []string { return present(e.Values.SourceARN) }},
	{name: "aws:SourceIp", holds: keyAddress, values: func(e *environment, _ string) []string { return sourceIP(e) }},
	{name: "aws:TagKeys", many: true, values: func(e *environment, _ string) []string { return tagKeys(e) }},
	{name: "aws:UserAgent", values: func(e *environment, _ string) []string { return present(e.Values.UserAgent) }},
	{name: "aws:username", values: func(e *environment, _ string) []string { return present(e.subject.name) }},
	{name: "iam:PassedToService", values: func(e *environment, _ string) []string { return present(e.Values.PassedToService) }},
	{name: "sts:ExternalId", values: func(e *environment, _ string) []string { return present(e.Values.ExternalID) }},
}

// keyNames lists the keys for a message.
func keyNames() string {
	names := make([]string, len(conditionKeys))
	for i, k := range conditionKeys {
		if names[i] = k.name; strings.HasSuffix(k.name, "/") {
			names[i] += "…"
		}
	}
	return strings.Join(names, ", ")
}

// keyRef is a key as a policy names it.
type keyRef struct {
	*conditionKey
	suffix string // the tag's key of a family
}

func (k keyRef) get(e *environment) []string { return k.values(e, k.suffix) }

// String is the key in AWS's spelling.
func (k keyRef) String() string { return k.name + k.suffix }

// findKey finds a key; their names do not know case.
func findKey(name string) (keyRef, bool) {
	for i := range conditionKeys {
		k := &conditionKeys[i]
		family := strings.HasSuffix(k.name, "/")
		switch {
		case !family && strings.EqualFold(name, k.name):
			return keyRef{k, ""}, true
		case family && len(name) > len(k.name) && strings.EqualFold(name[:len(k.name)], k.name):
			return keyRef{k, name[len(k.name):]}, true
		}
	}
	return keyRef{}, false
}

func present(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func currentTime(t time.Time) []string {
	if t.IsZero() {
		return nil
	}
	return []string{t.UTC().Format(time.RFC3339)}
}

func epochTime(t time.Time) []string {
	if t.IsZero() {
		return nil
	}
	return []string{strconv.FormatInt(t.Unix(), 10)}
}

func sourceIP(e *environment) []string {
	if !e.Values.SourceIP.IsValid() {
		return nil
	}
	return []string{e.Values.SourceIP.Unmap().WithZone("").String()}
}

// tagValue finds a tag: by its key as written, else, since the names of
// condition keys do not know case, by the first in order that differs in case
// alone.
func tagValue(tags map[string]string, key string) []string {
	if value, ok := tags[key]; ok {
		return []string{value}
	}
	for _, name := range slices.Sorted(maps.Keys(tags)) {
		if strings.EqualFold(name, key) {
			return []string{tags[name]}
		}
	}
	return nil
}

func tagKeys(e *environment) []string {
	if len(e.Values.TagKeys) > 0 || len(e.Values.RequestTags) == 0 {
		return e.Values.TagKeys
	}
	return slices.Sorted(maps.Keys(e.Values.RequestTags))
}
