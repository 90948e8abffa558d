package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// lock is numbers.lock: which number stands for which resource type and search
// parameter. Stores persist these numbers, so a line is for ever: the generator
// appends, and refuses whatever would change or lose one.
//
//	type 1 Account
//	param 12 Account identifier
//	retired param 13 Account gone
//
// A retired number belongs to nothing any more and is never given again.
type lock struct {
	lines []string          // in file order, appended ones last
	given map[string]uint16 // "type Account", "param Account identifier" → number
	last  map[string]uint16 // "type", "param" → the highest number given
	taken map[string]bool   // "type 1": given or retired
	used  map[string]bool   // asked for in this run
}

// maxNumber is the last number of each kind; those above are reserved for
// Tarn's own document types and for search parameters that users define.
const maxNumber = 0x7fff

func parseLock(r io.Reader) (*lock, error) {
	l := &lock{given: map[string]uint16{}, last: map[string]uint16{}, taken: map[string]bool{}, used: map[string]bool{}}
	in := bufio.NewScanner(r)
	for n := 1; in.Scan(); n++ {
		if err := l.parseLine(in.Text()); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", lockFile, n, err)
		}
	}
	return l, in.Err()
}

func (l *lock) parseLine(line string) error {
	words := strings.Split(line, " ")
	retired := words[0] == "retired"
	if retired {
		words = words[1:]
	}
	if !slices.Contains([]string{"type 3", "param 4"}, fmt.Sprint(first(words), " ", len(words))) {
		return fmt.Errorf("%q is no entry", line)
	}
	kind, name := words[0], strings.Join(words[2:], " ")
	number, err := strconv.ParseUint(words[1], 10, 16)
	if err != nil || number == 0 || number > maxNumber {
		return fmt.Errorf("%q is no number from 1 to %d", words[1], maxNumber)
	}
	at := kind + " " + words[1]
	if strconv.FormatUint(number, 10) != words[1] || l.taken[at] {
		return fmt.Errorf("%q is given twice or written oddly", at)
	}
	key := kind + " " + name
	if _, twice := l.given[key]; twice && !retired {
		return fmt.Errorf("%q has two numbers", key)
	}
	l.lines, l.taken[at] = append(l.lines, line), true
	l.last[kind] = max(l.last[kind], uint16(number))
	if !retired {
		l.given[key] = uint16(number)
	}
	return nil
}

func first(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return words[0]
}

// number gives the number of a thing, a new one if it has none yet. Kind is
// "type" or "param"; name must be made of words without spaces.
func (l *lock) number(kind, name string) (uint16, error) {
	key := kind + " " + name
	l.used[key] = true
	if n, ok := l.given[key]; ok {
		return n, nil
	}
	if l.last[kind] >= maxNumber {
		return 0, fmt.Errorf("%s: no %s numbers left", lockFile, kind)
	}
	n := l.last[kind] + 1
	if err := l.parseLine(fmt.Sprintf("%s %d %s", kind, n, name)); err != nil {
		return 0, err
	}
	return n, nil
}

// unused lists what has a number and was not asked for.
func (l *lock) unused() []string {
	var keys []string
	for key := range l.given {
		if !l.used[key] {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func (l *lock) format() []byte {
	var b bytes.Buffer
	for _, line := range l.lines {
		b.WriteString(line)
		b.WriteByte('\n')
	}
	return b.Bytes()
}
