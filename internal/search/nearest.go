package search

import (
	"slices"
	"strings"
)

// Bounds of suggestions: how far a name may be off, how many are given, and how
// long a name is compared at all.
const (
	maxDistance     = 3
	maxSuggestions  = 3
	maxComparedName = 64
)

// nearest gives the names most like a mistyped one, nearest first.
func nearest(name string, names []string) []string {
	if len(name) > maxComparedName {
		return nil
	}
	best := make([][]string, maxDistance+1)
	for _, known := range names {
		d := editDistance(strings.ToLower(name), strings.ToLower(known))
		if d <= maxDistance && d < len(name) {
			best[d] = append(best[d], known)
		}
	}
	near := slices.Concat(best...)
	return near[:min(len(near), maxSuggestions)]
}

// editDistance counts insertions, deletions and replacements between a and b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
