package datastore

import (
	"fmt"
	"strings"
	"testing"
)

// Only constants that are as the file has them are let go: never what can be
// written, nor what a linker wrote before it was made read-only.
func TestConstants(t *testing.T) {
	const program = "/opt/my tarn/tarn"
	const smaps = `00400000-00ed1000 r-xp 00000000 fe:00 1835 /opt/my tarn/tarn
Rss:                 120 kB
Anonymous:             0 kB
00ed1000-02b3a000 r--p 00ad1000 fe:00 1835 /opt/my tarn/tarn
Rss:                1008 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
VmFlags: rd mr mw me sd
02b3a000-02b3b000 r--p 02739000 fe:00 1835 /opt/my tarn/tarn
Anonymous:             4 kB
02b3b000-02c00000 rw-p 02739000 fe:00 1835 /opt/my tarn/tarn
Anonymous:             0 kB
7f6c162b4000-7f6c16a00000 rw-p 00000000 00:00 0
Anonymous:             0 kB
7f6c16a00000-7f6c16a01000 r--p 00000000 fe:00 77 /usr/lib/libc.so
Anonymous:             0 kB
x-y r--p 00ad1000 fe:00 1835 /opt/my tarn/tarn
Anonymous:             0 kB
`
	if got := fmt.Sprint(constants(strings.NewReader(smaps), program)); got != fmt.Sprint([]mapping{{0xed1000, 0x2b3a000}}) {
		t.Errorf("%s", got)
	}
	if constants(strings.NewReader(""), program) != nil {
		t.Error("nothing is mapped")
	}
}
